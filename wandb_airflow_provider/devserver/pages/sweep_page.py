"""The page of a sweep: its runs with their parameters and the metric, and the metric over each parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wandb_airflow_provider.devserver.endpoint import backend_of
from wandb_airflow_provider.devserver.pages.charts import LINE_COLOR, base_layout
from wandb_airflow_provider.devserver.pages.not_found import PageNotFoundError
from wandb_airflow_provider.devserver.pages.templating import render
from wandb_airflow_provider.devserver.pages.values import flat, is_number, natural
from wandb_airflow_provider.devserver.queries import RunRecord, list_runs
from wandb_airflow_provider.devserver.sweeps.queries import SweepRecord, get_sweep
from wandb_airflow_provider.devserver.sweeps.state import metric_value

_MOST_CHARTS = 12
_MOST_ROWS = 500
_LOG_DECADES = 100


@dataclass(frozen=True)
class Trial:
    """
    A run of a sweep.

    :param values: What it was given, by parameter; nested parameters joined by dots.
    :param metric: The sweep's metric in its summary, or None.
    """

    run: RunRecord
    values: dict[str, Any]
    metric: float | None


@dataclass(frozen=True)
class ParameterChart:
    """The metric of the runs over one parameter."""

    id: str
    parameter: str
    figure: dict[str, Any]


def sweep(request: Request) -> Response:
    """Show one sweep."""
    backend, path = backend_of(request), request.path_params
    entity, project, name = path["entity"], path["project"], path["sweep"]
    record = get_sweep(backend, entity, project, name)
    if record is None:
        raise PageNotFoundError(f"Project {entity}/{project} has no sweep {name}.")
    parameters = _parameters(record)
    runs = list_runs(backend, entity, project, {"sweep": name}, order="+created_at")
    trials = [_trial(record, run, parameters) for run in runs]
    ranked = [trial.metric for trial in trials if trial.metric is not None]
    charts = _charts(record, trials, [name for name in parameters if _varies(trials, name)])
    return render(
        request,
        "sweep.html",
        sweep=record,
        parameters=parameters,
        trials=sorted(trials, key=lambda trial: _rank(record, trial))[:_MOST_ROWS],
        more_trials=max(0, len(trials) - _MOST_ROWS),
        best=record.best if ranked else None,
        charts=charts,
        figures=[chart.figure for chart in charts],
    )


def _parameters(record: SweepRecord) -> list[str]:
    return sorted(_names(record.config["parameters"]), key=natural)


def _names(parameters: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for name, entry in parameters.items():
        inner = entry.get("parameters") if isinstance(entry, Mapping) else None
        if isinstance(inner, Mapping):
            yield from _names(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _trial(record: SweepRecord, run: RunRecord, parameters: Iterable[str]) -> Trial:
    config = {**run.config, **dict(flat(run.config))}
    metric = None if record.metric is None else metric_value(run.summary, record.metric[0])
    return Trial(run, {name: config.get(name) for name in parameters}, metric)


def _varies(trials: Iterable[Trial], name: str) -> bool:
    return len({str(trial.values[name]) for trial in trials}) > 1


def _rank(record: SweepRecord, trial: Trial) -> tuple[bool, float]:
    """Return a sort key: the best run first, those without a metric last, as they were started."""
    if trial.metric is None or record.metric is None:
        return True, 0.0
    return False, -trial.metric if record.metric[1] else trial.metric


def _charts(record: SweepRecord, trials: list[Trial], parameters: list[str]) -> list[ParameterChart]:
    measured = [trial for trial in trials if trial.metric is not None]
    if record.metric is None or len(measured) < 2:
        return []
    return [
        ParameterChart(f"chart-{number}", name, _figure(f"chart-{number}", record.metric[0], name, measured))
        for number, name in enumerate(parameters[:_MOST_CHARTS])
    ]


def _figure(chart_id: str, metric: str, parameter: str, trials: list[Trial]) -> dict[str, Any]:
    values = [trial.values[parameter] for trial in trials]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": values if all(is_number(value) for value in values) else [str(value) for value in values],
        "y": [trial.metric for trial in trials],
        "text": [trial.run.display_name for trial in trials],
        "marker": {"size": 8, "color": LINE_COLOR},
        "hovertemplate": "%{text}<br>%{x}<br>%{y:.6g}<extra></extra>",
    }
    layout = base_layout(parameter, metric, type=_axis_kind(values))
    return {"id": chart_id, "data": [trace], "layout": layout}


def _axis_kind(values: list[Any]) -> str:
    if not all(is_number(value) for value in values):
        return "category"
    return "log" if min(values) > 0 and max(values) / min(values) >= _LOG_DECADES else "linear"
