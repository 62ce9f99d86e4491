"""
What a person types to find runs, as the filters and the order that the API takes. Pure.

``state:failed job=train summary.loss<0.5 "try 2"``: conditions that all must hold, and words that are in the name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# By what people call a column of the table: what the API calls it.
FIELDS = {
    "name": "displayName",
    "id": "name",
    "state": "state",
    "job": "jobType",
    "group": "group",
    "tag": "tags",
    "user": "user",
    "sweep": "sweep",
    "host": "host",
    "notes": "notes",
    "created": "createdAt",
    "duration": "duration",
}
# The state of the task, which a run may tell beside its state in W&B.
_TOLD_STATE = "summary_metrics.airflow/state"
_DOCUMENTS = {"config": "config", "summary": "summary_metrics"}
_ALSO = {"job_type": "job", "jobtype": "job", "tags": "tag", "run": "name", "run_id": "id"}
_WHOLE = ("state", "tag", "sweep", "id")
_ORDERED = ("created", "duration")
_SIGNS = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_TERM = re.compile(
    r"""(?P<key>(?:[^\s:=<>!"]|"[^"]*")+)\s*(?P<sign>>=|<=|!=|=|<|>|:)\s*(?P<value>"[^"]*"|[^\s"]+)"""
    r"""|"(?P<quoted>[^"]*)"|(?P<word>\S+)"""
)

Filters = dict[str, Any]


class RunQueryError(ValueError):
    """A query cannot be understood; the message says which part and what is possible."""


@dataclass(frozen=True)
class RunQuery:
    """
    A query.

    :param filters: Mongo-style, as ``wandb.Api().runs`` takes them.
    :param keys: The keys of config and summary that it names, such as ``summary.loss``.
    """

    filters: Filters
    keys: tuple[str, ...]


def parse_query(text: str) -> RunQuery:
    """
    Read a query.

    :raises RunQueryError: a part of it has no meaning.
    """
    parts: list[Filters] = []
    keys: list[str] = []
    for match in _TERM.finditer(text):
        if match["key"] is None:
            parts.append(_contains("displayName", [match["word"] or match["quoted"] or ""]))
            continue
        key = match["key"].replace('"', "")
        if _document_of(key):
            keys.append(key)
        parts.append(_condition(key, match["sign"], match["value"]))
    return RunQuery({"$and": parts} if parts else {}, tuple(dict.fromkeys(keys)))


def parse_order(sort: str) -> str:
    """
    Return the order for the API.

    :param sort: A column, or a key of config or summary; descending with ``-`` before it.
    :raises RunQueryError: there is no such column.
    """
    sign, key = ("-", sort[1:]) if sort.startswith("-") else ("+", sort)
    if key == "state":
        return f"{sign}{_TOLD_STATE},{sign}state"
    if not _document_of(key) and key not in FIELDS:
        raise RunQueryError(f"Runs cannot be sorted by {key!r}. Known: {_known()}.")
    path = _path(key)
    if "," in path:
        raise RunQueryError(f"Runs cannot be sorted by {key!r}, as its name holds a comma.")
    return sign + path


def parse_keys(text: str) -> tuple[str, ...]:
    """
    Return the keys of config and summary in a list with commas.

    :raises RunQueryError: one of them is neither.
    """
    keys = [part.strip() for part in text.split(",") if part.strip()]
    for key in keys:
        if not _document_of(key):
            raise RunQueryError(f"{key!r} is no column: write summary.<key> or config.<key>.")
    return tuple(dict.fromkeys(keys))


def look_up(document: Mapping[str, Any], path: str) -> Any:
    """Return the value under a key, or nested keys joined by dots; None if there is none."""
    if path in document:
        return document[path]
    for name, inner in _splits(path):
        value = document.get(name)
        if isinstance(value, Mapping):
            found = look_up(value, inner)
            if found is not None:
                return found
    return None


def _condition(key: str, sign: str, text: str) -> Filters:
    name = _ALSO.get(key.lower(), key)
    if not _document_of(name):
        name = name.lower()
        if name not in FIELDS:
            raise RunQueryError(f"Runs have no {key!r} to look for. Known: {_known()}.")
    values = [text[1:-1]] if text.startswith('"') else text.split("|")
    if sign == "!=":
        return {"$nor": [_equal(name, value, text) for value in values]}
    if sign in _SIGNS:
        if not _document_of(name) and name not in _ORDERED:
            raise RunQueryError(f"{key!r} has no order: {key}{sign}{text} means nothing. Use = or !=.")
        return {_path(name): {_SIGNS[sign]: _value(name, text)}}
    if sign == ":" and name not in (*_WHOLE, *_ORDERED):
        return _contains(_path(name), values)
    return {"$or": [_equal(name, value, text) for value in values]}


def _equal(name: str, value: str, text: str) -> Filters:
    if name != "state":
        return {_path(name): text[1:-1] if text.startswith('"') else _value(name, value)}
    told = {"$and": [{"state": {"$ne": "running"}}, {_TOLD_STATE: value}]}
    return {"$or": [{"state": value}, told]}


def _contains(path: str, values: list[str]) -> Filters:
    return {path: {"$regex": "|".join(map(re.escape, values)), "$options": "i"}}


def _value(name: str, text: str) -> Any:
    """Return a number or a truth value where one is written and the field can hold it."""
    if text.startswith('"'):
        return text[1:-1]
    if name == "duration" or _document_of(name):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        return value if isinstance(value, int | float | bool | None) else text
    return text


def _document_of(key: str) -> str | None:
    root, _, rest = key.partition(".")
    return _DOCUMENTS.get(root) if rest else None


def _path(name: str) -> str:
    document = _document_of(name)
    return FIELDS[name] if document is None else f"{document}.{name.partition('.')[2]}"


def _splits(path: str) -> Iterator[tuple[str, str]]:
    for position, character in enumerate(path):
        if character == ".":
            yield path[:position], path[position + 1 :]


def _known() -> str:
    return ", ".join([*FIELDS, "config.<key>", "summary.<key>"])
