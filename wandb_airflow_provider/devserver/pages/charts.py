"""A run's history as one line chart per metric."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wandb_airflow_provider.devserver.history import spread
from wandb_airflow_provider.devserver.pages.values import flat, is_number, natural

MOST_CHARTS = 24
_MOST_POINTS = 1000
_FEW_POINTS = 40
_FEW_STEPS = 8
_NOT_NUMBERS = ("NaN", "Infinity", "-Infinity")
_INK, _GRID, _LINE = "#3d4654", "#e7eaef", "#2456a6"


@dataclass(frozen=True)
class Chart:
    """
    One metric over the steps of a run.

    :param points: Step and value; None where the value was no number.
    :param count: How many values were logged, of which ``points`` are a sample.
    """

    id: str
    key: str
    points: list[tuple[int | float, int | float | None]]
    count: int
    last: int | float
    lowest: int | float
    highest: int | float

    def figure(self) -> dict[str, Any]:
        """Return the chart as Plotly takes it."""
        steps, values = [step for step, _ in self.points], [value for _, value in self.points]
        trace = {
            "type": "scatter",
            "mode": "lines+markers" if len(steps) <= _FEW_POINTS else "lines",
            "x": steps,
            "y": values,
            "line": {"color": _LINE, "width": 2},
            "marker": {"size": 4},
            "hovertemplate": "step %{x}<br>%{y:.6g}<extra></extra>",
        }
        axis = {
            "gridcolor": _GRID,
            "linecolor": _GRID,
            "zeroline": False,
            "automargin": True,
            "fixedrange": True,
        }
        layout = {
            "height": 220,
            "margin": {"l": 44, "r": 12, "t": 8, "b": 36},
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": _INK},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": {
                **axis,
                "title": {"text": "step", "standoff": 6},
                "rangemode": "tozero",
                **_ticks(steps),
            },
            "yaxis": axis,
            "showlegend": False,
        }
        return {"id": self.id, "data": [trace], "layout": layout}


def build_charts(rows: Iterable[Mapping[str, Any]]) -> list[Chart]:
    """
    Return a chart per numeric key of history rows, by key; one that was logged once has a single point.

    Keys that start with an underscore are the SDK's own and left out.
    """
    series: dict[str, list[tuple[int | float, int | float | None]]] = {}
    for position, row in enumerate(rows):
        step = row.get("_step", position)
        for key, value in flat(row):
            if key.startswith("_"):
                continue
            if is_number(value):
                series.setdefault(key, []).append((step, value))
            elif value in _NOT_NUMBERS:
                series.setdefault(key, []).append((step, None))
    charts: list[Chart] = []
    for key, points in sorted(series.items(), key=lambda item: natural(item[0])):
        values = [value for _, value in points if value is not None]
        if values:
            charts.append(
                Chart(
                    id=f"chart-{len(charts)}",
                    key=key,
                    points=spread(points, _MOST_POINTS),
                    count=len(points),
                    last=values[-1],
                    lowest=min(values),
                    highest=max(values),
                )
            )
    return charts


def _ticks(steps: list[int | float]) -> dict[str, Any]:
    # Plotly would put ticks between the whole steps of a short run.
    return {"dtick": 1} if max(steps) <= _FEW_STEPS else {}


@cache
def plotly_script() -> Path | None:
    """Return the JavaScript of the installed plotly package, found without importing it; None without the package."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return path if path.is_file() else None
