"""
Filters in Mongo syntax and orders, over documents.

A document's value may be a list (aliases, tags): a condition then holds if it holds for any item, and a negation
if the condition holds for none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wandb_airflow_provider.devserver import patterns
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

Document = Mapping[str, Any]

_NEGATED = {"$ne": "$eq", "$nin": "$in"}
_MISSING = object()


def parse(text: str | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the filter in a JSON text; no text is the filter that everything passes."""
    if not text:
        return {}
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except ValueError as error:
        raise GraphQLError(f"invalid filter {text!r}: {error}.") from error
    if not isinstance(value, Mapping):
        raise GraphQLError(f"invalid filter {text!r}: a JSON object is needed.")
    return value


def matches(document: Document, condition: Mapping[str, Any]) -> bool:
    """Tell whether a document passes a filter. Raises a 400 for an operator or a field that is not known."""
    return all(_clause(document, key, operand) for key, operand in condition.items())


def ordered(documents: Sequence[Document], order: str | None, known: Sequence[str]) -> list[Document]:
    """
    Return documents sorted by ``field``, ``+field`` or ``-field``; without an order, as they are.

    :param known: Fields that may be ordered by.
    """
    if not order:
        return list(documents)
    name = field_of(order, known)
    return sorted(documents, key=lambda document: sort_key(document.get(name)), reverse=order.startswith("-"))


def field_of(order: str, known: Sequence[str]) -> str:
    """Return the field in an order such as ``-created_at`` or ``-createdAt``. Raises a 400 if it is not a known one."""
    asked = order.lstrip("+-")
    for name in known:
        if _plain(name) == _plain(asked):
            return name
    raise GraphQLError(f"cannot order by {asked!r}: known fields are {', '.join(known)}.")


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _clause(document: Document, key: str, operand: Any) -> bool:
    if key == "$and":
        return all(matches(document, part) for part in operand)
    if key == "$or":
        return any(matches(document, part) for part in operand)
    if key == "$nor":
        return not any(matches(document, part) for part in operand)
    if key == "$not":
        return not matches(document, operand)
    if key.startswith("$"):
        raise GraphQLError(f"unknown filter operator {key!r}.")
    return _field(_lookup(document, key), operand)


def _field(value: Any, operand: Any) -> bool:
    if isinstance(operand, Mapping) and any(name.startswith("$") for name in operand):
        return all(_operator(value, name, item) for name, item in operand.items())
    return _operator(value, "$eq", operand)


def _operator(value: Any, name: str, operand: Any) -> bool:
    if name in _NEGATED:
        return not _operator(value, _NEGATED[name], operand)
    if name == "$not":
        return not _field(value, operand)
    if name == "$and":
        return all(_field(value, part) for part in operand)
    if name == "$or":
        return any(_field(value, part) for part in operand)
    if name == "$exists":
        return (value is not _MISSING and value is not None) is bool(operand)
    if name == "$all":
        return all(_operator(value, "$eq", item) for item in operand)
    if name == "$size":
        return isinstance(value, list) and len(value) == operand
    test = _TESTS.get(name)
    if test is None:
        raise GraphQLError(f"unknown filter operator {name!r}.")
    if isinstance(value, list):
        return any(test(item, operand) for item in value) or test(value, operand)
    return test(value, operand)


def _lookup(document: Document, key: str) -> Any:
    if key in document:
        return document[key]
    root, *path = key.split(".")
    if root not in document:
        known = sorted(name for name in document if not name.startswith("_"))
        raise GraphQLError(f"cannot filter by {root!r}: known fields are {', '.join(known)}.")
    value = document[root]
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(value: Any, operand: Any) -> bool:
        both_numbers = isinstance(value, int | float) and isinstance(operand, int | float)
        both_text = isinstance(value, str) and isinstance(operand, str)
        return (both_numbers or both_text) and test(value, operand)

    return compare


def _equal(value: Any, operand: Any) -> bool:
    return bool(value == operand) or (value is _MISSING and operand is None)


def _regex(value: Any, operand: Any) -> bool:
    # Also where there is nothing to compare: an automation is told when it is made.
    pattern = patterns.check(str(operand))
    return isinstance(value, str) and patterns.found_in(pattern, value)


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$in": lambda value, operand: any(_equal(value, item) for item in operand),
    "$gt": _compare(lambda value, operand: value > operand),
    "$gte": _compare(lambda value, operand: value >= operand),
    "$lt": _compare(lambda value, operand: value < operand),
    "$lte": _compare(lambda value, operand: value <= operand),
    "$regex": _regex,
    "$contains": lambda value, operand: isinstance(value, str) and operand in value,
}


def sort_key(value: Any) -> tuple[bool, Any]:
    """Return what a value is sorted by: nothing first."""
    return (value is not None, value if value is not None else 0)
