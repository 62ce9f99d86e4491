"""
The filters and orders of run listings, as SQL.

Filters are Mongo-style: ``{"config.lr": {"$gt": 0.1}, "$or": [{"state": "finished"}, {"tags": "gold"}]}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver.clock import parse_time, stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.run_state import alive_since
from wandb_airflow_provider.devserver.store import register_function

_COLUMNS = {
    "name": "name",
    "displayname": "display_name",
    "group": "group_name",
    "groupname": "group_name",
    "jobtype": "job_type",
    "host": "host",
    "commit": "commit_sha",
    "sweep": "sweep",
    "sweepname": "sweep",
    "user": "user",
    "username": "user",
    "user.username": "user",
    "notes": "notes",
    "description": "description",
    "program": "program",
    "id": "id",
}
_TIMES = {
    "createdat": "created_at",
    "heartbeatat": "heartbeat_at",
    "updatedat": "heartbeat_at",
    "finishedat": "finished_at",
}
_COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_DOCUMENTS = {"config": "config", "summarymetrics": "summary", "summary": "summary"}

Sql = tuple[str, list[Any]]


def _regexp(pattern: str, value: object) -> bool:
    return value is not None and re.search(pattern, str(value)) is not None


register_function("regexp", 2, _regexp)


def filter_sql(filters: Mapping[str, Any] | str | None, now: datetime) -> Sql:
    """
    Return a condition over the ``runs`` table, and its parameters.

    :raises GraphQLError: the filter is not valid; the message says which part.
    """
    if isinstance(filters, str):
        try:
            filters = json.loads(filters) if filters.strip() else {}
        except ValueError as error:
            raise GraphQLError(f"the run filter is not valid JSON: {error}") from error
    if filters is not None and not isinstance(filters, Mapping):
        raise GraphQLError(f"a run filter must be an object, not {filters!r}.")
    return _all(filters or {}, now)


def order_sql(order: str | None, now: datetime) -> Sql:
    """
    Return the terms of an ``ORDER BY`` and their parameters.

    :param order: A field with ``+`` (ascending, also without sign) or ``-`` before it; several by commas. Runs
        without a value come last, and equals stay in the order in which they were created.
    """
    terms, params = [], []
    for part in (order or "+created_at").split(","):
        name = part.strip()
        direction = "DESC" if name.startswith("-") else "ASC"
        expression, values = _expression(name.lstrip("+-"), now)
        terms.append(f"{expression} IS NULL, {expression} {direction}")
        params += values * 2
        last = direction
    return f"{', '.join(terms)}, pk {last}", params


def _all(filters: Mapping[str, Any], now: datetime) -> Sql:
    return _join("AND", [_entry(key, value, now) for key, value in filters.items()], "1")


def _entry(key: str, value: Any, now: datetime) -> Sql:
    if key in ("$and", "$or", "$nor"):
        if not isinstance(value, list):
            raise GraphQLError(f"the filter operator {key!r} needs a list, not {value!r}.")
        parts = [_all(item, now) for item in value]
        sql, params = _join("AND" if key == "$and" else "OR", parts, "1" if key == "$and" else "0")
        return (f"NOT {sql}", params) if key == "$nor" else (sql, params)
    if key == "$not":
        sql, params = _all(value, now)
        return f"NOT {sql}", params
    if key.startswith("$"):
        raise GraphQLError(f"the run filter has the unknown operator {key!r}.")
    if isinstance(value, Mapping) and any(name.startswith("$") for name in value):
        return _join(
            "AND", [_compare(key, name, operand, value, now) for name, operand in value.items()], "1"
        )
    return _compare(key, "$eq", value, {}, now)


def _join(word: str, parts: list[Sql], empty: str) -> Sql:
    if not parts:
        return empty, []
    # NULL would survive a NOT, so each condition is made true or false.
    return f"coalesce(({f' {word} '.join(sql for sql, _ in parts)}), 0)", [
        p for _, params in parts for p in params
    ]


def _compare(key: str, operator: str, operand: Any, siblings: Mapping[str, Any], now: datetime) -> Sql:
    if operator == "$not":
        sql, params = _entry(key, operand, now)
        return f"NOT {sql}", params
    if operator == "$options":
        return "1", []
    if operator == "$regex":
        operand = _pattern(operand, siblings)
    if _plain(key) in ("tags", "tag"):
        return _tags(operator, operand)
    expression, params = _expression(key, now)
    if _plain(key) in _TIMES:
        operand = _times(key, operand)
    return _condition(expression, params, operator, operand)


def _condition(expression: str, params: list[Any], operator: str, operand: Any) -> Sql:
    if operator in ("$eq", "$ne"):
        equal = "IS NOT" if operator == "$ne" else "IS"
        if isinstance(operand, Mapping | list):
            return f"{expression} {equal} json(?)", [*params, json.dumps(operand)]
        return f"{expression} {equal} ?", [*params, operand]
    if operator in _COMPARISONS:
        kinds = "('text')" if isinstance(operand, str) else "('integer', 'real')"
        sql = f"(typeof({expression}) IN {kinds} AND {expression} {_COMPARISONS[operator]} ?)"
        return f"coalesce({sql}, 0)", [*params, *params, operand]
    if operator in ("$in", "$nin"):
        if not isinstance(operand, list):
            raise GraphQLError(f"the filter operator {operator!r} needs a list, not {operand!r}.")
        sql, values = _join("OR", [_condition(expression, params, "$eq", item) for item in operand], "0")
        return (sql, values) if operator == "$in" else (f"NOT {sql}", values)
    if operator == "$exists":
        return f"{expression} IS {'NOT ' if operand else ''}NULL", params
    if operator == "$regex":
        return f"regexp(?, {expression})", [operand, *params]
    raise GraphQLError(
        f"the run filter has the unknown operator {operator!r}. Known: $and, $or, $nor, $not, $eq, $ne, $gt, $gte, $lt,"
        " $lte, $in, $nin, $exists, $regex."
    )


def _tags(operator: str, operand: Any) -> Sql:
    if operator == "$exists":
        return f"json_array_length(tags) {'>' if operand else '='} 0", []
    if operator in ("$ne", "$nin"):
        sql, params = _tags("$eq" if operator == "$ne" else "$in", operand)
        return f"NOT {sql}", params
    if operator == "$eq" and isinstance(operand, list):
        return "json(tags) = json(?)", [json.dumps(operand)]
    if operator == "$all":
        return _join("AND", [_tags("$eq", item) for item in operand], "1")
    sql, params = _condition("value", [], operator, operand)
    return f"EXISTS (SELECT 1 FROM json_each(tags) WHERE {sql})", params  # noqa: S608


def _expression(key: str, now: datetime) -> Sql:
    plain = _plain(key)
    if plain == "state":
        return "run_state(state, heartbeat_at, ?)", [alive_since(now)]
    if plain == "tags":
        return "tags", []
    if plain == "duration":
        return "((julianday(heartbeat_at) - julianday(created_at)) * 86400.0)", []
    column = _COLUMNS.get(plain) or _TIMES.get(plain)
    if column is not None:
        return column, []
    root, _, rest = key.partition(".")
    document = _DOCUMENTS.get(_plain(root))
    if document is None or not rest:
        known = sorted(
            {"config.<key>", "summary_metrics.<key>", "state", "tags", "duration", *_COLUMNS, *_TIMES}
        )
        raise GraphQLError(f"runs have no field {key!r} to filter or order by. Known: {', '.join(known)}.")
    return _in_document(document, rest)


def _in_document(document: str, key: str) -> Sql:
    if '"' in key:
        raise GraphQLError(f"the filter key {key!r} has a quotation mark, which is not supported.")
    names = key.split(".")
    paths = [[key], names] if len(names) > 1 else [names]
    if document == "config":
        # Each entry of a config is {"value": ...}; older clients spell that out.
        if names[-1] == "value" and len(names) == 2:
            paths = [names[:1]]
        paths = [[first, "value", *rest] for first, *rest in paths]
    texts = ["$" + "".join(f'."{name}"' for name in path) for path in paths]
    if len(texts) == 1:
        return f"json_extract({document}, ?)", texts
    return f"coalesce(json_extract({document}, ?), json_extract({document}, ?))", list(texts)


def _plain(key: str) -> str:
    return key.replace("_", "").lower()


def _times(key: str, operand: Any) -> Any:
    if isinstance(operand, list):
        return [_times(key, item) for item in operand]
    if not isinstance(operand, str):
        return operand
    try:
        return stamp(parse_time(operand))
    except ValueError as error:
        raise GraphQLError(f"the filter on {key!r} needs an ISO time, not {operand!r}.") from error


def _pattern(operand: Any, siblings: Mapping[str, Any]) -> str:
    pattern = f"(?i){operand}" if "i" in str(siblings.get("$options", "")) else str(operand)
    try:
        re.compile(pattern)
    except re.error as error:
        raise GraphQLError(f"the filter has the invalid regular expression {operand!r}: {error}") from error
    return pattern
