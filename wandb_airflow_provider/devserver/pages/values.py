"""Values that users have logged, made flat and picked from. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

_MOST_METRICS = 4
_HIDDEN = ("_", "airflow/")
_DIGITS = re.compile(r"(\d+)")
_LARGEST = sys.float_info.max


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values with nested keys joined by dots; media stay whole."""
    for key, value in values.items():
        if isinstance(value, Mapping) and "_type" not in value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def is_number(value: Any) -> TypeGuard[int | float]:
    """Tell whether a JSON value is a number that can be drawn; a truth value is none, nor is 1e999."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def key_metrics(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the first few numbers of a summary that the user logged, by key."""
    found = [(key, value) for key, value in flat(summary) if is_number(value) and not key.startswith(_HIDDEN)]
    return sorted(found, key=lambda item: natural(item[0]))[:_MOST_METRICS]


def ordered(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the items by key: the SDK sends them in an order of chance."""
    return sorted(values.items(), key=lambda item: natural(item[0]))


def natural(key: str) -> tuple[list[str | tuple[int, str]], str]:
    """Return a sort key under which numbers within a text count as numbers, of any number of digits."""
    parts = _DIGITS.split(key.casefold())
    return [_magnitude(part) if position % 2 else part for position, part in enumerate(parts)], key


def _magnitude(digits: str) -> tuple[int, str]:
    significant = digits.lstrip("0")
    return len(significant), significant


def plain_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary without the SDK's own keys and without media, which are shown elsewhere."""
    return {
        key: value
        for key, value in flat(summary)
        if not key.startswith("_") and not (isinstance(value, Mapping) and "_type" in value)
    }
