"""
The fields by which runs are filtered and ordered, as SQL over the ``runs`` table.

``config.<key>`` and ``summary_metrics.<key>`` reach into the documents, nested keys by dots; all else is a column.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.run_state import STATE_SQL, alive_since

COLUMNS = {
    "name": "name",
    "displayName": "display_name",
    "group": "group_name",
    "groupName": "group_name",
    "jobType": "job_type",
    "host": "host",
    "commit": "commit_sha",
    "entity": "entity",
    "project": "project",
    "sweep": "sweep",
    "sweepName": "sweep",
    "user": "user",
    "username": "user",
    "user.username": "user",
    "notes": "notes",
    "description": "description",
    "program": "program",
    "id": "id",
}
TIMES = {
    "createdAt": "created_at",
    "heartbeat": "heartbeat_at",
    "heartbeatAt": "heartbeat_at",
    "updatedAt": "heartbeat_at",
    "finishedAt": "finished_at",
}
_COLUMN_OF = {name.lower(): column for name, column in COLUMNS.items()}
_TIME_OF = {name.lower(): column for name, column in TIMES.items()}
_DOCUMENTS = {"config": "config", "summarymetrics": "summary", "summary": "summary"}
_DURATION = "((julianday(heartbeat_at) - julianday(created_at)) * 86400.0)"

Sql = tuple[str, list[Any]]


@dataclass(frozen=True)
class Field:
    """
    One field of a run.

    :param value: SQL expression of its value, with ``params``.
    :param kind: SQL expression of its JSON type (``text``, ``integer``, ``real``, ``true``, ``false``, ``null``,
        ``array``, ``object``; NULL where it is absent), with ``kind_params``; None for a column of text, which is
        absent where it is NULL.
    """

    value: str
    params: list[Any] = field(default_factory=list)
    kind: str | None = None
    kind_params: list[Any] = field(default_factory=list)
    is_time: bool = False
    is_tags: bool = False
    is_document: bool = False


def find_field(key: str, now: datetime) -> Field:
    """
    Return the field under a filter's key; case and underscores do not matter outside the documents.

    :raises GraphQLError: there is no such field; the message lists those there are.
    """
    plain = key.replace("_", "").lower()
    if plain == "state":
        return Field(STATE_SQL, [alive_since(now)])
    if plain in ("tags", "tag"):
        return Field("tags", is_tags=True)
    if plain == "duration":
        return Field(_DURATION, kind="'real'")
    if plain in _TIME_OF:
        return Field(_TIME_OF[plain], is_time=True)
    if plain in _COLUMN_OF:
        return Field(_COLUMN_OF[plain])
    root, _, rest = key.partition(".")
    document = _DOCUMENTS.get(root.replace("_", "").lower())
    if document is None or not rest:
        known = sorted(
            {"config.<key>", "summary_metrics.<key>", "state", "tags", "duration", *COLUMNS, *TIMES}
        )
        raise GraphQLError(f"runs have no field {key!r} to filter or order by. Known: {', '.join(known)}.")
    return _in_document(document, rest)


def sdk_config(config: str | None) -> dict[str, Any]:
    """Return the SDK's own part of a config as stored; users can write anything there, so only an object counts."""
    own = json.loads(config or "{}").get("_wandb")
    if isinstance(own, dict):
        own = own.get("value", own)
    return own if isinstance(own, dict) else {}


def order_sql(order: str | None, now: datetime) -> Sql:
    """
    Return the terms of an ``ORDER BY`` and their parameters.

    :param order: A field with ``+`` (ascending, also without sign) or ``-`` before it; several by commas. Runs
        without a value, or with NaN, come last both ways; equals stay in the order in which they were created.
    """
    terms, params = [], []
    direction = "ASC"
    for part in (order or "+created_at").split(","):
        name = part.strip()
        direction = "DESC" if name.startswith("-") else "ASC"
        found = find_field(name.lstrip("+-"), now)
        expression, values = found.value, found.params
        if found.is_document:
            # JSON has NaN and the infinities as text only.
            expression = (
                f"CASE {expression} WHEN 'NaN' THEN NULL WHEN 'Infinity' THEN 9e999"
                f" WHEN '-Infinity' THEN -9e999 ELSE {expression} END"
            )
            values = values * 2
        terms.append(f"{expression} {direction} NULLS LAST")
        params += values
    return f"{', '.join(terms)}, pk {direction}", params


def _in_document(document: str, key: str) -> Field:
    if '"' in key:
        raise GraphQLError(f"the filter key {key!r} has a quotation mark, which is not supported.")
    names = key.split(".")
    paths = [[key], names] if len(names) > 1 else [names]
    if document == "config":
        paths = _config_paths(names, paths)
    texts = ["$" + "".join(f'."{name}"' for name in path) for path in paths]
    return Field(
        _either([f"json_extract({document}, ?)"] * len(texts)),
        texts,
        _either([f"json_type({document}, ?)"] * len(texts)),
        texts,
        is_document=True,
    )


def _config_paths(names: list[str], paths: list[list[str]]) -> list[list[str]]:
    """Add to paths in a config that each of its entries is ``{"value": ...}``, which filters may spell out."""
    if len(names) == 2 and names[-1] == "value":
        return [names]
    found = [[first, "value", *rest] for first, *rest in paths]
    if len(names) > 2 and names[1] == "value":
        found.append(names)
    if len(names) > 2 and names[-1] == "value":
        found.append([".".join(names[:-1]), "value"])
    return found


def _either(expressions: list[str]) -> str:
    return expressions[0] if len(expressions) == 1 else f"coalesce({', '.join(expressions)})"
