"""The panels of a report: charts for Plotly, tables, Markdown; for other kinds, a box that names them."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.pages.charts import AXIS, base_layout, shown
from wandb_airflow_provider.devserver.pages.runsets import RunSet, mapping, sequence
from wandb_airflow_provider.devserver.pages.values import flat, is_number, ordered, plain_summary
from wandb_airflow_provider.devserver.queries import RunRecord, get_history

_COLORS = (
    "#2456a6",
    "#c2571a",
    "#2f8f5b",
    "#8a3fa0",
    "#b3262e",
    "#0f7f8c",
    "#9a7b00",
    "#5b6675",
    "#c04a8b",
    "#4b4fc4",
)
_COLOR = re.compile(r"#(?:[0-9a-fA-F]{3}){1,2}")
_DRAWN_RUNS = 10
_MOST_BARS = 40
_MOST_POINTS = 1000
_HEIGHT, _LINE_HEIGHT, _MOST_LEGEND_LINES, _ROOMY_NAMES = 280, 19, 8, 10
_LONGEST_NAME = 32
_AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "min": min,
    "max": max,
    "median": statistics.median,
    "sum": sum,
}
_AXES = {"_step": "step", "_runtime": "seconds", "_absolute_runtime": "seconds", "_timestamp": "time"}


@dataclass
class Panel:
    """
    One panel, ready to be shown.

    :param kind: ``chart``, ``value``, ``comparison``, ``markdown`` or ``unknown``.
    :param type: What the report calls it.
    :param note: What is left out, or why nothing is shown.
    """

    id: str
    kind: str
    type: str
    title: str
    note: str = ""
    text: str = ""
    rows: list[tuple[str, list[Any]]] = field(default_factory=list)
    columns: list[RunRecord] = field(default_factory=list)
    figure: dict[str, Any] | None = None


class Grid:
    """The panels of one grid, over the run sets that are switched on."""

    def __init__(self, backend: Backend, runsets: Sequence[RunSet], colors: Any, prefix: str) -> None:
        self._backend = backend
        self._runs = list({run.id: run for runset in runsets for run in runset.runs}.values())
        self._colors = mapping(colors)
        self._labels = _labels(self._runs)
        self._prefix = prefix

    def build(self, specs: Sequence[Any]) -> list[Panel]:
        """Return the panels from top left to bottom right."""
        placed = sorted(
            map(mapping, specs),
            key=lambda spec: tuple(_number(mapping(spec.get("layout")).get(key)) for key in "yx"),
        )
        return [self._panel(f"{self._prefix}-{number}", spec) for number, spec in enumerate(placed)]

    def _panel(self, panel_id: str, spec: Mapping[str, Any]) -> Panel:
        kind = str(spec.get("viewType") or "unknown")
        config = mapping(spec.get("config"))
        metrics = [str(metric) for metric in sequence(config.get("metrics"))]
        title = str(config.get("chartTitle") or ", ".join(metrics) or kind)
        build = _BUILDERS.get(kind)
        if build is None:
            note = f"Panels of the type {kind!r} are kept, but not drawn here."
            return Panel(panel_id, "unknown", kind, str(config.get("chartTitle") or kind), note)
        panel = Panel(panel_id, "chart", kind, title)
        build(self, panel, config, metrics)
        if panel.kind == "chart" and not panel.note and panel.figure is None:
            panel.note = "There is nothing to draw."
        return panel

    def _line(self, panel: Panel, config: Mapping[str, Any], metrics: list[str]) -> None:
        axis = str(config.get("xAxis") or "_step")
        limit = int(_number(config.get("limit")) or _DRAWN_RUNS)
        drawn = self._runs[:limit]
        traces = []
        for metric in metrics:
            for run in drawn:
                rows = get_history(self._backend, run, list(dict.fromkeys((axis, metric))), _MOST_POINTS)
                points = [(row[axis], row[metric]) for row in rows if is_number(row[metric])]
                if points:
                    name = self._labels[run.id]
                    label = name if len(metrics) == 1 else f"{name} · {shown(metric)}"
                    line = {"color": self._color(run), "width": 2, "dash": _dash(metrics.index(metric))}
                    mode = "lines+markers" if len(points) < 40 else "lines"
                    traces.append(_trace("scatter", label, points, mode=mode, line=line, marker={"size": 4}))
        if len(self._runs) > limit:
            panel.note = f"{limit} of {len(self._runs)} runs are drawn."
        if traces:
            panel.figure = _figure(
                panel.id,
                traces,
                _axis(config.get("xAxisTitle") or _AXES.get(axis, axis), config, "x"),
                _axis(config.get("yAxisTitle") or "", config, "y"),
            )

    def _bar(self, panel: Panel, config: Mapping[str, Any], metrics: list[str]) -> None:
        upright = bool(config.get("vertical"))
        traces = []
        for metric in metrics:
            found = [(run, value) for run in self._runs if is_number(value := _summary(run, metric))][
                :_MOST_BARS
            ]
            if found:
                names, values = [self._labels[run.id] for run, _ in found], [value for _, value in found]
                traces.append(
                    {
                        "type": "bar",
                        "name": shown(metric),
                        "orientation": "v" if upright else "h",
                        "x": names if upright else values,
                        "y": values if upright else names,
                        "marker": {"color": [self._color(run) for run, _ in found]}
                        if len(metrics) == 1
                        else {},
                    }
                )
        if traces:
            panel.figure = _figure(
                panel.id,
                traces,
                {"title": {"text": shown(str(config.get("xAxisTitle") or ""))}},
                {"autorange": "reversed", "dtick": 1} if not upright else {},
                0 if upright else len({name for trace in traces for name in trace["y"]}),
            )

    def _scalar(self, panel: Panel, config: Mapping[str, Any], metrics: list[str]) -> None:
        panel.kind = "value"
        name = str(config.get("groupAgg") or "mean")
        aggregate = _AGGREGATES.get(name, statistics.fmean)
        for metric in metrics:
            values = [value for run in self._runs if is_number(value := _summary(run, metric))]
            if values:
                over = f"{name} of {len(values)} runs" if len(values) > 1 else "1 run"
                panel.rows.append((metric, [aggregate(values), over]))
        if not panel.rows:
            panel.note = "No run has a value."

    def _scatter(self, panel: Panel, config: Mapping[str, Any], metrics: list[str]) -> None:
        across, up = str(config.get("xAxis") or ""), str(config.get("yAxis") or "")
        panel.title = str(config.get("chartTitle") or f"{_short(up)} by {_short(across)}")
        found = [
            (run, x, y)
            for run in self._runs
            if is_number(x := _column(run, across)) and is_number(y := _column(run, up))
        ]
        if found:
            marker = {"size": 9, "color": [self._color(run) for run, _, _ in found]}
            trace = _trace("scatter", "", [(x, y) for _, x, y in found], mode="markers", marker=marker)
            trace["text"] = [self._labels[run.id] for run, _, _ in found]
            trace["hovertemplate"] = "%{text}<br>%{x}, %{y}<extra></extra>"
            x_axis = {"title": {"text": shown(_short(across))}, **_log(config.get("xAxisLogScale"))}
            y_axis = {"title": {"text": shown(_short(up))}, **_log(config.get("yAxisLogScale"))}
            panel.figure = _figure(panel.id, [trace], x_axis, y_axis)

    def _comparison(self, panel: Panel, config: Mapping[str, Any], metrics: list[str]) -> None:
        panel.kind, panel.title = "comparison", "Run comparer"
        panel.columns = self._runs[:_DRAWN_RUNS]
        if len(self._runs) > _DRAWN_RUNS:
            panel.note = f"{_DRAWN_RUNS} of {len(self._runs)} runs are compared."
        for section, values in (
            ("config", [dict(flat(run.config)) for run in panel.columns]),
            ("summary", [plain_summary(run.summary) for run in panel.columns]),
        ):
            keys = {key: None for item in values for key in item}
            for key, _ in ordered(keys):
                cells = [item.get(key) for item in values]
                if not config.get("diffOnly") or any(cell != cells[0] for cell in cells):
                    panel.rows.append((f"{section}.{key}", cells))
        if not panel.rows:
            panel.note = (
                "The runs do not differ." if len(panel.columns) > 1 else "There is nothing to compare."
            )

    def _markdown(self, panel: Panel, config: Mapping[str, Any], metrics: list[str]) -> None:
        panel.kind, panel.title, panel.text = "markdown", "", str(config.get("value") or "")

    def _color(self, run: RunRecord) -> str:
        chosen = self._colors.get(run.name)
        if isinstance(chosen, str) and _COLOR.fullmatch(chosen):
            return chosen
        position = next(number for number, item in enumerate(self._runs) if item.id == run.id)
        return _COLORS[position % len(_COLORS)]


_BUILDERS: dict[str, Callable[[Grid, Panel, Mapping[str, Any], list[str]], None]] = {
    "Run History Line Plot": Grid._line,
    "Bar Chart": Grid._bar,
    "Scalar Chart": Grid._scalar,
    "Scatter Plot": Grid._scatter,
    "Run Comparer": Grid._comparison,
    "Markdown Panel": Grid._markdown,
}


def figures(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    """Yield the charts as the page's script takes them."""
    return (panel.figure for panel in panels if panel.figure is not None)


def _labels(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return what each run is called in charts: Plotly knows some tags, and draws bars of one name as one."""
    names = {run.id: _cut(run.display_name) for run in runs}
    count = Counter(names.values())
    named = {
        run.id: names[run.id] if count[names[run.id]] == 1 else f"{names[run.id]} ({run.name})"
        for run in runs
    }
    return {run_id: shown(name) for run_id, name in named.items()}


def _cut(name: str) -> str:
    """Return a name that leaves room for the chart; the ends of long names tell them apart."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}"


def _trace(kind: str, name: str, points: Sequence[tuple[Any, Any]], **more: Any) -> dict[str, Any]:
    return {"type": kind, "name": name, "x": [x for x, _ in points], "y": [y for _, y in points], **more}


def _figure(
    panel_id: str,
    traces: list[dict[str, Any]],
    x_axis: Mapping[str, Any],
    y_axis: Mapping[str, Any],
    names: int = 0,
) -> dict[str, Any]:
    """Return a chart as Plotly takes it; ``names`` are those that stand below each other beside it."""
    # In most panels the legend has two names in a line.
    lines = min((len(traces) + 1) // 2, _MOST_LEGEND_LINES) if len(traces) > 1 else 0
    layout = base_layout("", **x_axis) | {
        "height": _HEIGHT + _LINE_HEIGHT * (lines + max(names - _ROOMY_NAMES, 0)),
        "yaxis": {**AXIS, **y_axis},
        "showlegend": len(traces) > 1,
        # A place relative to the plot would be on the axis's title once many names make the plot low.
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
    }
    return {"id": panel_id, "data": traces, "layout": layout}


def _axis(title: Any, config: Mapping[str, Any], letter: str) -> dict[str, Any]:
    bounds = [config.get(f"{letter}AxisMin"), config.get(f"{letter}AxisMax")]
    limits = {"range": bounds} if all(map(is_number, bounds)) else {}
    return {
        "title": {"text": shown(str(title)), "standoff": 6},
        **limits,
        **_log(config.get(f"{letter}LogScale")),
    }


def _log(wanted: Any) -> dict[str, Any]:
    return {"type": "log"} if wanted is True else {}


def _dash(position: int) -> str:
    return ("solid", "dash", "dot", "dashdot")[position % 4]


def _summary(run: RunRecord, key: str) -> Any:
    return run.summary[key] if key in run.summary else dict(flat(run.summary)).get(key)


def _column(run: RunRecord, accessor: str) -> Any:
    section, _, key = accessor.partition(":")
    if section == "config":
        return dict(flat(run.config)).get(key.replace(".value", "", 1))
    return _summary(run, key or section)


def _short(accessor: str) -> str:
    return accessor.partition(":")[2].removesuffix(".value") or accessor


def _number(value: Any) -> float:
    return float(value) if is_number(value) else 0.0
