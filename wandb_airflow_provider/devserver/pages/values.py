"""Values that users have logged, made flat and picked from. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_MOST_METRICS = 4
_HIDDEN = ("_", "airflow/")
_DIGITS = re.compile(r"(\d+)")


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values with nested keys joined by dots; media stay whole."""
    for key, value in values.items():
        if isinstance(value, Mapping) and "_type" not in value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def is_number(value: Any) -> bool:
    """Tell whether a JSON value is a number; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def key_metrics(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the first few numbers of a summary that the user logged, by key."""
    found = [(key, value) for key, value in flat(summary) if is_number(value) and not key.startswith(_HIDDEN)]
    return sorted(found, key=lambda item: natural(item[0]))[:_MOST_METRICS]


def ordered(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the items by key: the SDK sends them in an order of chance."""
    return sorted(values.items(), key=lambda item: natural(item[0]))


def natural(key: str) -> tuple[list[str | int], str]:
    """Return a sort key under which numbers within a text count as numbers."""
    parts = _DIGITS.split(key.casefold())
    return [int(part) if position % 2 else part for position, part in enumerate(parts)], key


def plain_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary without the SDK's own keys and without media, which are shown elsewhere."""
    return {
        key: value
        for key, value in flat(summary)
        if not key.startswith("_") and not (isinstance(value, Mapping) and "_type" in value)
    }
