"""One measured figure, and the bar it is held to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True)
class Figure:
    """
    :param unit: ``ms`` or ``x``, a ratio.
    :param low: First quartile of the rounds; None for a figure that is computed from medians.
    :param high: Third quartile.
    :param bar: Largest value that is accepted; None for a figure given for information.
    """

    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    bar: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        return None if self.bar is None else self.value <= self.bar

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value."""
        return {**asdict(self), "met": self.met}


def interleave(cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """
    Return each case's seconds, one round of all cases after another, so that a busy machine slows all alike.

    One round before the first warms up caches, and is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, measure in cases.items():
            taken = measure()
            if number:
                seconds[name].append(taken)
    return seconds


def milliseconds(name: str, seconds: list[float], *, bar: float | None = None) -> Figure:
    """Return the median of the rounds with its quartiles."""
    low, _, high = quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    return Figure(name, median(seconds) * 1e3, "ms", low * 1e3, high * 1e3, bar)


def render(figures: Iterable[Figure]) -> list[str]:
    """Return the table that the command prints."""
    rows = [("figure", "median", "quartiles", "bar", "")]
    for figure in figures:
        spread = f"{figure.low:.1f} to {figure.high:.1f}" if figure.low is not None else ""
        digits = 2 if figure.unit == "x" else 1
        bar = f"<= {figure.bar:g} {figure.unit}" if figure.bar is not None else ""
        result = {None: "", True: "met", False: "NOT MET"}[figure.met]
        rows.append((figure.name, f"{figure.value:.{digits}f} {figure.unit}", spread, bar, result))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
