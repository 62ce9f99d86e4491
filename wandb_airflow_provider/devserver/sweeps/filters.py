"""Filters of sweep listings, in the syntax of the run filters, over sweeps as plain values. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from wandb_airflow_provider.devserver import patterns
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda value, operand: value > operand,
    "$gte": lambda value, operand: value >= operand,
    "$lt": lambda value, operand: value < operand,
    "$lte": lambda value, operand: value <= operand,
}
_FIELDS = (
    "name",
    "displayName",
    "description",
    "method",
    "state",
    "user",
    "createdAt",
    "updatedAt",
    "runCount",
)


def read_filter(text: str | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """
    Return the filter in JSON text, or one that came as an object.

    :raises GraphQLError: 400 if it is not a JSON object.
    """
    try:
        value = json.loads(text or "{}") if isinstance(text, str | None) else text
    except ValueError as error:
        raise GraphQLError(f"the sweep filter is not valid JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise GraphQLError(f"a sweep filter must be an object, not {value!r}.")
    return value


def passes(sweep: Mapping[str, Any], settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """
    Tell whether a sweep passes a filter. States are upper case, as sweeps tell them.

    :param sweep: The fields of its object.
    :param settings: Its configuration, for keys under ``config.``.
    :raises GraphQLError: 400 for an operator or a field that sweeps do not have.
    """
    return all(_entry(sweep, settings, key, operand) for key, operand in wanted.items())


def _entry(sweep: Mapping[str, Any], settings: Mapping[str, Any], key: str, operand: Any) -> bool:
    if key in ("$and", "$or", "$nor"):
        if not isinstance(operand, list):
            raise GraphQLError(f"the filter operator {key!r} needs a list, not {operand!r}.")
        found = [passes(sweep, settings, item) for item in operand]
        return all(found) if key == "$and" else any(found) == (key == "$or")
    if key == "$not":
        return not passes(sweep, settings, operand)
    value = _value(sweep, settings, key)
    if isinstance(operand, Mapping) and any(name.startswith("$") for name in operand):
        return all(_holds(value, name, item) for name, item in operand.items())
    return _holds(value, "$eq", operand)


def _value(sweep: Mapping[str, Any], settings: Mapping[str, Any], key: str) -> Any:
    root, _, rest = key.partition(".")
    if root == "config" and rest:
        found: Any = settings
        for part in rest.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found
    plain = key.replace("_", "").lower()
    for name in _FIELDS:
        if name.lower() == plain:
            return sweep[name]
    raise GraphQLError(
        f"sweeps have no field {key!r} to filter by. Known: config.<key>, {', '.join(_FIELDS)}."
    )


def _holds(value: Any, operator: str, operand: Any) -> bool:
    if operator in ("$eq", "$ne"):
        return bool(value == operand) == (operator == "$eq")
    if operator in ("$in", "$nin"):
        if not isinstance(operand, list):
            raise GraphQLError(f"the filter operator {operator!r} needs a list, not {operand!r}.")
        return any(_holds(value, "$eq", item) for item in operand) == (operator == "$in")
    if operator == "$not":
        return not all(_holds(value, name, item) for name, item in operand.items())
    if operator == "$exists":
        return (value is not None) == bool(operand)
    if operator == "$regex":
        return value is not None and patterns.found_in(str(operand), str(value))
    if operator in _ORDERED:
        alike = isinstance(value, str) == isinstance(operand, str) and value is not None
        return alike and bool(_ORDERED[operator](value, operand))
    raise GraphQLError(f"the sweep filter has the unknown operator {operator!r}.")
