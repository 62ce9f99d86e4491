"""
The filters of run listings, as SQL.

Filters are Mongo-style: ``{"config.lr": {"$gt": 0.1}, "$or": [{"state": "finished"}, {"tags": "gold"}]}``. As there,
values of different types are never equal nor ordered, so that ``{"$lt": 1}`` passes over text, and a condition
turned round (``$ne``, ``$nin``, ``$not``, ``$nor``) holds where the value is absent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver import patterns
from wandb_airflow_provider.devserver.clock import parse_time, stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.run_fields import Field, Sql, find_field, order_sql
from wandb_airflow_provider.devserver.store import register_function

__all__ = ["filter_sql", "order_sql"]

_COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_GROUPS = ("$and", "$or", "$nor")
_KNOWN = "$and, $or, $nor, $not, $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $all, $exists, $regex"
_REGEXP = "regexp"
_NUMBERS = ("integer", "real")
_STRUCTURES = ("array", "object")
_LARGEST_INTEGER = 2**63 - 1
_LARGEST_FLOAT = int(sys.float_info.max)
_TAG = Field("value", kind="type")


def filter_sql(filters: Mapping[str, Any] | str | None, now: datetime) -> Sql:
    """
    Return a condition over the ``runs`` table, which is never NULL, and its parameters.

    :raises GraphQLError: the filter is not valid; the message says which part.
    """
    if isinstance(filters, str):
        try:
            filters = json.loads(filters) if filters.strip() else {}
        except ValueError as error:
            raise GraphQLError(f"the run filter is not valid JSON: {error}") from error
    condition, params = _all({} if filters is None else filters, now)
    if condition.count(_REGEXP) > patterns.MOST_IN_A_FILTER:
        raise GraphQLError(f"a run filter may have at most {patterns.MOST_IN_A_FILTER} regular expressions.")
    return condition, params


def _all(filters: Any, now: datetime) -> Sql:
    if not isinstance(filters, Mapping):
        raise GraphQLError(f"a run filter must be an object, not {filters!r}.")
    return _join("AND", [_entry(key, value, now) for key, value in filters.items()])


def _entry(key: str, value: Any, now: datetime) -> Sql:
    if key in _GROUPS:
        parts = [_all(item, now) for item in _listed(key, value)]
        joined = _join("AND" if key == "$and" else "OR", parts)
        return _negated(joined) if key == "$nor" else joined
    if key == "$not":
        return _negated(_all(value, now))
    if key.startswith("$"):
        raise GraphQLError(f"the run filter has the unknown operator {key!r}. Known: {_KNOWN}.")
    return _on_field(find_field(key, now), key, value)


def _on_field(field: Field, key: str, value: Any) -> Sql:
    if not (isinstance(value, Mapping) and any(name.startswith("$") for name in value)):
        return _condition(field, key, "$eq", value, {})
    parts = [_condition(field, key, name, item, value) for name, item in value.items() if name != "$options"]
    return _join("AND", parts)


def _condition(field: Field, key: str, operator: str, operand: Any, siblings: Mapping[str, Any]) -> Sql:
    if operator == "$not":
        return _negated(_on_field(field, key, operand))
    if operator == "$ne":
        return _negated(_condition(field, key, "$eq", operand, {}))
    if operator == "$nin":
        return _negated(_condition(field, key, "$in", operand, {}))
    if operator == "$all":
        return _join("AND", [_condition(field, key, "$eq", item, {}) for item in _listed(operator, operand)])
    if field.is_time:
        operand = _as_time(key, operator, operand)
    if operator == "$regex":
        operand = _pattern(operand, siblings)
    if field.is_tags:
        return _tags(operator, operand)
    return _leaf(field, operator, operand)


def _tags(operator: str, operand: Any) -> Sql:
    if operator == "$exists" or (operator == "$eq" and operand is None):
        return f"json_array_length(tags) {'>' if operator == '$exists' and operand else '='} 0", []
    if operator == "$eq" and isinstance(operand, list):
        return "same_json(tags, ?)", [json.dumps(operand)]
    sql, params = _leaf(_TAG, operator, operand)
    return f"EXISTS (SELECT 1 FROM json_each(tags) WHERE {sql})", params  # noqa: S608


def _leaf(field: Field, operator: str, operand: Any) -> Sql:
    if operator == "$eq":
        return _equal(field, operand)
    if operator in _COMPARISONS:
        if isinstance(operand, list | Mapping | None):
            raise GraphQLError(
                f"the filter operator {operator!r} needs a number, text or boolean, not {operand!r}."
            )
        return _compared(field, _COMPARISONS[operator], operand)
    if operator == "$in":
        return _one_of(field, _listed(operator, operand))
    if operator == "$exists":
        return f"{field.kind or field.value} IS {'NOT ' if operand else ''}NULL", [*_kind_params(field)]
    if operator == "$regex":
        return _of_kind(field, ("text",), f"{_REGEXP}(?, {field.value})", [operand, *field.params])
    raise GraphQLError(f"the run filter has the unknown operator {operator!r}. Known: {_KNOWN}.")


def _equal(field: Field, operand: Any) -> Sql:
    if operand is None:
        if field.kind is None:
            return f"{field.value} IS NULL", field.params
        return f"coalesce({field.kind}, 'null') = 'null'", field.kind_params
    if isinstance(operand, Mapping | list):
        return _of_kind(
            field, _STRUCTURES, f"same_json({field.value}, ?)", [*field.params, json.dumps(operand)]
        )
    if isinstance(operand, str) and field.kind is None:
        # In this form an index on the column can be used.
        return f"{field.value} IS ?", [*field.params, operand]
    return _compared(field, "=", operand)


def _compared(field: Field, sign: str, operand: Any) -> Sql:
    return _of_kind(field, _kinds(operand), f"{field.value} {sign} ?", [*field.params, _storable(operand)])


def _one_of(field: Field, operands: list[Any]) -> Sql:
    parts: list[Sql] = []
    alike: dict[tuple[str, ...], list[Any]] = {}
    for operand in operands:
        if operand is None or isinstance(operand, Mapping | list):
            parts.append(_equal(field, operand))
        else:
            alike.setdefault(_kinds(operand), []).append(operand)
    for kinds, items in alike.items():
        sql = f"{field.value} IN (SELECT value FROM json_each(?))"  # noqa: S608
        parts.append(_of_kind(field, kinds, sql, [*field.params, json.dumps(items)]))
    return _join("OR", parts)


def _of_kind(field: Field, kinds: tuple[str, ...], sql: str, params: list[Any]) -> Sql:
    """Return a condition that holds only for values of some JSON types, and is false where there is no value."""
    if field.kind is None:
        return (f"coalesce({sql}, 0)", params) if "text" in kinds else ("0", [])
    names = ", ".join(f"'{kind}'" for kind in kinds)
    # With AND, SQLite may look at the value first.
    return f"(CASE WHEN {field.kind} IN ({names}) THEN {sql} ELSE 0 END)", [*field.kind_params, *params]


def _kind_params(field: Field) -> list[Any]:
    return field.params if field.kind is None else field.kind_params


def _kinds(operand: Any) -> tuple[str, ...]:
    if isinstance(operand, bool):
        return ("true", "false")
    return ("text",) if isinstance(operand, str) else _NUMBERS


def _storable(operand: Any) -> Any:
    if not isinstance(operand, int) or abs(operand) <= _LARGEST_INTEGER:
        return operand
    return float(max(-_LARGEST_FLOAT, min(operand, _LARGEST_FLOAT)))


def _join(word: str, parts: list[Sql]) -> Sql:
    if not parts:
        return ("1" if word == "AND" else "0"), []
    if len(parts) == 1:
        return parts[0]
    # In halves, as SQLite limits how deep an expression may be.
    middle = len(parts) // 2
    (left, left_params), (right, right_params) = _join(word, parts[:middle]), _join(word, parts[middle:])
    return f"({left} {word} {right})", [*left_params, *right_params]


def _negated(condition: Sql) -> Sql:
    return f"(NOT {condition[0]})", condition[1]


def _listed(operator: str, operand: Any) -> list[Any]:
    if not isinstance(operand, list):
        raise GraphQLError(f"the filter operator {operator!r} needs a list, not {operand!r}.")
    return operand


def _as_time(key: str, operator: str, operand: Any) -> Any:
    if isinstance(operand, list):
        return [_as_time(key, operator, item) for item in operand]
    if operand is None or operator in ("$exists", "$regex"):
        return operand
    try:
        return stamp(parse_time(operand))
    except (ValueError, TypeError) as error:
        raise GraphQLError(f"the filter on {key!r} needs an ISO time, not {operand!r}.") from error


def _pattern(operand: Any, siblings: Mapping[str, Any]) -> str:
    return patterns.check(f"(?i){operand}" if "i" in str(siblings.get("$options", "")) else str(operand))


def _regexp(pattern: str, value: object) -> bool:
    return value is not None and patterns.found_in(pattern, str(value))


def _same_json(left: str, right: str) -> bool:
    return bool(_typed(json.loads(left)) == _typed(json.loads(right)))


def _typed(value: Any) -> Any:
    """Return a value in a form in which true does not equal 1."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return ("boolean", value) if isinstance(value, bool) else value


register_function(_REGEXP, 2, _regexp)
register_function("same_json", 2, _same_json)
