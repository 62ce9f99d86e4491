"""How figures grow with the number of tasks, waiters, runs, rows and megabytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from benchmarks.catalogue import Benchmark, Growth
from benchmarks.figure import Figure, aligned, amount

Run = Callable[[str, int, Mapping[str, int]], list[Figure]]
"""Measures a benchmark by name, with so many rounds and these sizes."""


@dataclass(frozen=True)
class Curve:
    """
    One figure at several sizes.

    :param figure: Its name, with ``*`` for the size.
    :param values: By size, smallest first.
    """

    benchmark: str
    figure: str
    size: str
    unit: str
    values: Mapping[int, float]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value."""
        return {**vars(self), "values": {str(size): value for size, value in self.values.items()}}


def curves(name: str, growth: Growth, run: Run) -> list[Curve]:
    """
    Measure one benchmark at each of its sizes.

    :raises RuntimeError: a pattern stands for no figure, or for more than one.
    """
    measured = {step: run(name, growth.rounds, {**growth.fixed, growth.size: step}) for step in growth.steps}
    return [
        Curve(
            name,
            pattern,
            growth.size,
            the_one(pattern, measured[growth.steps[0]]).unit,
            {step: the_one(pattern, figures).value for step, figures in measured.items()},
        )
        for pattern in growth.figures
    ]


def the_one(pattern: str, figures: list[Figure]) -> Figure:
    """Return the figure whose name a pattern fits."""
    found = [figure for figure in figures if fnmatchcase(figure.name, pattern)]
    if len(found) != 1:
        raise RuntimeError(f"{pattern!r} stands for {len(found)} of {[figure.name for figure in figures]}.")
    return found[0]


def all_curves(benchmarks: Mapping[str, Benchmark], run: Run) -> list[Curve]:
    """Measure every benchmark that shows how it grows."""
    return [
        curve for name, each in benchmarks.items() if each.growth for curve in curves(name, each.growth, run)
    ]


def render_curves(found: list[Curve]) -> list[str]:
    """Return the table that the command prints; the last column is the largest size's value by the smallest's."""
    if not found:
        return []
    rows = [("how it grows", "with", "", "", "", "last / first")]
    for curve in found:
        cells = [f"{size}: {amount(value, curve.unit)}" for size, value in curve.values.items()]
        first, last = (curve.values[size] for size in (min(curve.values), max(curve.values)))
        ratio = f"{last / first:.1f} x" if first else ""
        rows.append((curve.figure.replace("*", "N"), curve.size, *(cells + [""] * 3)[:3], ratio))
    return aligned(rows)
