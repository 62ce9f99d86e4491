"""One measured figure, and the bar it is held to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any, TypeVar

T = TypeVar("T")
_DIGITS = {"x": 2, "s": 2, "ms": 1, "MB": 1}


@dataclass(frozen=True)
class Figure:
    """
    :param unit: ``s``; ``ms``; ``x``, a ratio; ``MB`` (10⁶ bytes); ``MB/s``; or what is counted, as in ``runs``.
    :param low: First quartile of the rounds; None for a figure that is computed from medians.
    :param high: Third quartile.
    :param bar: Largest value that is accepted; None for a figure given for information.
    :param floor: Smallest value that is accepted, where more is better.
    """

    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    bar: float | None = None
    floor: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether bar and floor are met; None without either."""
        if self.bar is None and self.floor is None:
            return None
        return (self.bar is None or self.value <= self.bar) and (
            self.floor is None or self.value >= self.floor
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value."""
        return {**asdict(self), "met": self.met}


def repeat(measure: Callable[[], Mapping[str, T]], rounds: int) -> dict[str, list[T]]:
    """
    Return each value of a round, by name, for all rounds.

    One round before the first warms up caches, and is not counted unless it is the only one.
    """
    warm_up, *others = (measure() for _ in range(rounds + 1))
    found = others or [warm_up]
    return {name: [values[name] for values in found] for name in found[0]}


def interleave(cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return each case's seconds, one round of all cases after another, so that a busy machine slows all alike."""
    return repeat(lambda: {name: measure() for name, measure in cases.items()}, rounds)


def milliseconds(name: str, seconds: list[float], *, bar: float | None = None) -> Figure:
    """Return the median of the rounds with its quartiles."""
    return spread(name, [taken * 1e3 for taken in seconds], "ms", bar=bar)


def spread(name: str, values: list[float], unit: str, *, bar: float | None = None) -> Figure:
    """Return the median of values in any unit with their quartiles."""
    low, _, high = quantiles(values, n=4) if len(values) > 1 else values * 3
    return Figure(name, median(values), unit, low, high, bar)


def render(figures: Iterable[Figure]) -> list[str]:
    """Return the table that the command prints."""
    rows = [("figure", "median", "quartiles", "bar", "")]
    for figure in figures:
        digits = _DIGITS.get(figure.unit, 0)
        quartiles = f"{figure.low:.{digits}f} to {figure.high:.{digits}f}" if figure.low is not None else ""
        bar = f"<= {figure.bar:g} {figure.unit}" if figure.bar is not None else ""
        floor = f">= {figure.floor:g} {figure.unit}" if figure.floor is not None else ""
        result = {None: "", True: "met", False: "NOT MET"}[figure.met]
        rows.append((figure.name, amount(figure.value, figure.unit), quartiles, bar or floor, result))
    return aligned(rows)


def amount(value: float, unit: str) -> str:
    """Return a value with its unit, as tables show it."""
    return f"{value:.{_DIGITS.get(unit, 0)}f} {unit}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
