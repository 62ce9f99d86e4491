"""What may be said of a table's columns without showing a row. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["STATISTICS", "column_statistics"]

STATISTICS = ("column", "kind", "count", "missing", "distinct", "mean", "min", "p25", "p50", "p75", "max")
"""Columns of the table of statistics."""


def column_statistics(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """
    Return one row of figures per column, in the order of :data:`STATISTICS`.

    A column of numbers gets mean, least, quartiles (linear interpolation) and greatest; any other one only how many
    different values it has. None and NaN count as missing.
    """
    return [
        [figures.get(name) for name in STATISTICS]
        for figures in (_figures(name, [row[index] for row in rows]) for index, name in enumerate(columns))
    ]


def _figures(name: str, values: Sequence[Any]) -> Mapping[str, Any]:
    present = [value for value in map(_plain, values) if value is not None]
    figures: dict[str, Any] = {
        "column": name,
        "kind": "other",
        "count": len(values),
        "missing": len(values) - len(present),
        "distinct": len({_key(value) for value in present}),
    }
    if present and all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        numbers = sorted(float(value) for value in present)
        figures |= {
            "kind": "number",
            "mean": math.fsum(numbers) / len(numbers) if all(map(math.isfinite, numbers)) else None,
            "min": numbers[0],
            "p25": _quantile(numbers, 0.25),
            "p50": _quantile(numbers, 0.5),
            "p75": _quantile(numbers, 0.75),
            "max": numbers[-1],
        }
    return figures


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as Python's own, and NaN as None."""
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def _key(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else repr(value)


def _quantile(numbers: Sequence[float], share: float) -> float:
    position = share * (len(numbers) - 1)
    low = int(position)
    if position == low:
        return numbers[low]
    return numbers[low] + (position - low) * (numbers[low + 1] - numbers[low])
