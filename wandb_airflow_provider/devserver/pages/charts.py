"""A run's history as one line chart per metric."""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wandb_airflow_provider.devserver.history import spread
from wandb_airflow_provider.devserver.pages.step_axes import STEP, StepAxes
from wandb_airflow_provider.devserver.pages.values import flat, is_number, natural

MOST_CHARTS = 24
MOST_SYSTEM_CHARTS = 60
_MOST_POINTS = 1000
_FEW_POINTS = 40
_FEW_STEPS = 8
_SYSTEM = "system."
_NOT_NUMBERS = ("NaN", "Infinity", "-Infinity")
LINE_COLOR = "#2456a6"
_INK, _GRID = "#3d4654", "#e7eaef"
# Plotly's own way of writing small and large numbers, 200n and 50T, is not how anybody logs them.
AXIS: dict[str, Any] = {
    "gridcolor": _GRID,
    "linecolor": _GRID,
    "zeroline": False,
    "automargin": True,
    "fixedrange": True,
    "exponentformat": "e",
    "minexponent": 5,
}

Point = tuple[int | float, int | float | None]


@dataclass(frozen=True)
class Chart:
    """
    One metric over the steps of a run, or over another metric.

    :param axis: What it is drawn over, in words.
    :param points: Place on that axis and value; None where the value was no number.
    :param count: How many values were logged, of which ``points`` are a sample.
    """

    id: str
    key: str
    axis: str
    points: list[tuple[int | float, int | float | None]]
    count: int
    last: int | float
    lowest: int | float
    highest: int | float

    def figure(self) -> dict[str, Any]:
        """Return the chart as Plotly takes it."""
        places, values = [place for place, _ in self.points], [value for _, value in self.points]
        trace = {
            "type": "scatter",
            "mode": "lines+markers" if len(places) <= _FEW_POINTS else "lines",
            "x": places,
            "y": values,
            "line": {"color": LINE_COLOR, "width": 2},
            "marker": {"size": 4},
            # Names go to the axis only: a template reads signs in them as its own.
            "hovertemplate": "%{x}<br>%{y:.6g}<extra></extra>",
        }
        layout = base_layout(shown(self.axis), rangemode="tozero", **_ticks(places))
        return {"id": self.id, "data": [trace], "layout": layout}


def base_layout(x_title: str, y_title: str | None = None, **x_axis: Any) -> dict[str, Any]:
    """
    Return the layout that all charts share, as Plotly takes it.

    :param x_axis: More settings of the horizontal axis.
    """
    return {
        "height": 220,
        "margin": {"l": 44, "r": 12, "t": 8, "b": 36},
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": _INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {**AXIS, "title": {"text": x_title, "standoff": 6}, **x_axis},
        "yaxis": AXIS if y_title is None else {**AXIS, "title": {"text": y_title, "standoff": 6}},
        "showlegend": False,
    }


def build_charts(rows: Iterable[Mapping[str, Any]], axes: StepAxes | None = None) -> list[Chart]:
    """
    Return a chart per numeric key of history rows, by key; one that was logged once has a single point.

    Keys that start with an underscore are the SDK's own and left out, as are hidden metrics.
    """
    axes = axes or StepAxes()
    series: dict[str, _Series] = {}
    latest: dict[str, int | float] = {}
    for position, row in enumerate(rows):
        values = list(flat(row))
        latest.update({key: value for key, value in values if is_number(value)})
        latest[STEP] = row.get(STEP, position)
        for key, value in values:
            if key.startswith("_") or key in axes.hidden:
                continue
            place = latest.get(axes.axis(key))
            if place is not None:
                _add(series, key, place, value)
    return _charts("chart", series, lambda key: "step" if axes.axis(key) == STEP else axes.axis(key))


def build_system_charts(rows: Iterable[Mapping[str, Any]]) -> list[Chart]:
    """Return a chart per system metric, over the seconds since the run began."""
    series: dict[str, _Series] = {}
    for row in rows:
        seconds = row.get("_runtime")
        if not is_number(seconds):
            continue
        for key, value in flat(row):
            if key.startswith(_SYSTEM):
                _add(series, key.removeprefix(_SYSTEM), round(seconds, 1), value)
    return _charts("system-chart", series, lambda key: "seconds")


class _Series:
    """The values of one key as they are read: in few points, however many there are."""

    __slots__ = ("_end", "_points", "_stride", "bounds", "count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last: int | float | None = None
        self.bounds: tuple[int | float, int | float] | None = None
        self._points: list[Point] = []
        self._stride = 1
        self._end: Point | None = None

    def add(self, place: int | float, value: int | float | None) -> None:
        """Add what was logged next."""
        self._end = (place, value)
        if value is not None:
            self.last = value
            lowest, highest = self.bounds or (value, value)
            self.bounds = min(lowest, value), max(highest, value)
        if self.count % self._stride == 0:
            self._points.append(self._end)
            if len(self._points) > 2 * _MOST_POINTS:
                del self._points[1::2]
                self._stride *= 2
        self.count += 1

    def points(self) -> list[Point]:
        """Return points spread over all of them, the last one too."""
        points = self._points
        if self._end is not None and points[-1] is not self._end:
            points = [*points, self._end]
        return spread(points, _MOST_POINTS)


def _add(series: dict[str, _Series], key: str, place: int | float, value: Any) -> None:
    if is_number(value):
        series.setdefault(key, _Series()).add(place, value)
    elif value in _NOT_NUMBERS:
        series.setdefault(key, _Series()).add(place, None)


def _charts(prefix: str, series: Mapping[str, _Series], axis: Callable[[str], str]) -> list[Chart]:
    found: list[Chart] = []
    for key, logged in sorted(series.items(), key=lambda item: natural(item[0])):
        if logged.last is not None and logged.bounds is not None:
            found.append(
                Chart(
                    id=f"{prefix}-{len(found)}",
                    key=key,
                    axis=axis(key),
                    points=logged.points(),
                    count=logged.count,
                    last=logged.last,
                    lowest=logged.bounds[0],
                    highest=logged.bounds[1],
                )
            )
    return found


def shown(name: str) -> str:
    """Return a name that Plotly, which knows some tags, shows as it is."""
    return html.escape(name, quote=False)


def _ticks(places: list[int | float]) -> dict[str, Any]:
    # Plotly would put ticks between the whole steps of a short run.
    is_short = max(places) <= _FEW_STEPS and all(float(place).is_integer() for place in places)
    return {"dtick": 1} if is_short else {}


@cache
def plotly_script() -> Path | None:
    """Return the JavaScript of the installed plotly package, found without importing it; None without the package."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return path if path.is_file() else None
