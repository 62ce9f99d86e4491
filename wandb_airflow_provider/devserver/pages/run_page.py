"""The page of one run, and its files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from wandb_airflow_provider.devserver.artifacts.queries import CollectionRecord, VersionRecord, list_run_edges
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.endpoint import backend_of
from wandb_airflow_provider.devserver.pages import charts, media
from wandb_airflow_provider.devserver.pages.console import read_console
from wandb_airflow_provider.devserver.pages.lineage import find_place
from wandb_airflow_provider.devserver.pages.not_found import PageNotFoundError
from wandb_airflow_provider.devserver.pages.origin import CONFIG_KEY, Origin, shown_state
from wandb_airflow_provider.devserver.pages.records import defined_metrics, find_run, started_by, sweep_of
from wandb_airflow_provider.devserver.pages.step_axes import StepAxes
from wandb_airflow_provider.devserver.pages.templating import render
from wandb_airflow_provider.devserver.pages.values import plain_summary
from wandb_airflow_provider.devserver.queries import (
    RunRecord,
    console_tail,
    event_rows,
    get_run,
    history_rows,
    list_alerts,
    list_files,
)
from wandb_airflow_provider.devserver.uploads import download_path

_CONSOLE_LINES = 500
# A file was written by whoever logged it: its own origin, no scripts, nothing loaded.
FILE_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class RunReference:
    """Another run that this one names by its path; ``run`` is None if it is not on this server."""

    path: str
    run: RunRecord | None


def run(request: Request) -> Response:
    """Show one run: where it comes from, what it was given, what it logged."""
    backend, record = backend_of(request), _record(request)
    origin, now = Origin.of(record), backend.now()
    files = list_files(backend, record)
    axes = StepAxes.of(defined_metrics(backend, record))
    with history_rows(backend, record) as rows:
        metrics = charts.build_charts(rows, axes)
    drawn = [chart for chart in metrics if chart.count > 1]
    shown = drawn[: charts.MOST_CHARTS]
    with event_rows(backend, record) as rows:
        system = charts.build_system_charts(rows)[: charts.MOST_SYSTEM_CHARTS]
    used, logged = _artifacts(backend, record)
    console, console_lines = console_tail(backend, record, _CONSOLE_LINES)
    return render(
        request,
        "run.html",
        run=record,
        state=shown_state(record),
        origin=origin,
        sweep=sweep_of(backend, record),
        parent=_references(backend, [origin.parent_run] if origin else []),
        upstream=_references(backend, origin.upstream_runs if origin else []),
        retry_of=_references(backend, [origin.retry_of] if origin else []),
        triggered_by={
            item.path: item for item in _references(backend, origin.triggering_runs if origin else [])
        },
        children=started_by(backend, [record]),
        config={key: value for key, value in record.config.items() if key != CONFIG_KEY or origin is None},
        summary=plain_summary(record.summary),
        charts=shown,
        system_charts=system,
        figures=[chart.figure() for chart in (*shown, *system)],
        logged_once=[chart.key for chart in metrics if chart.count == 1] if drawn else [],
        more_charts=max(0, len(drawn) - charts.MOST_CHARTS),
        tables=media.find_tables(backend, record, files),
        html=media.find_html(record, files),
        images=media.find_images(record, files),
        files=[(item, download_path(backend.signer, now, item.md5, item.name)) for item in files],
        used=used,
        logged=logged,
        alerts=list_alerts(backend, record),
        console=read_console(console),
        console_lines=console_lines,
    )


def file(request: Request) -> Response:
    """Return a file of a run as it was logged; HTML without the style sheet elsewhere that the SDK adds."""
    backend, record = backend_of(request), _record(request)
    name = request.path_params["name"]
    found = next((item for item in list_files(backend, record) if item.name == name), None)
    if found is None:
        raise PageNotFoundError(f"Run {record.path} has no file {name}.")
    if found.mimetype == "text/html":
        content = media.read_html(backend, found)
        return StreamingResponse(content, media_type="text/html; charset=utf-8", headers=FILE_HEADERS)
    return FileResponse(backend.blobs.path(found.md5), media_type=found.mimetype, headers=FILE_HEADERS)


def _record(request: Request) -> RunRecord:
    path = request.path_params
    record = get_run(backend_of(request), path["entity"], path["project"], path["run"])
    if record is None:
        raise PageNotFoundError(f"There is no run {path['entity']}/{path['project']}/{path['run']}.")
    return record


def _references(backend: Backend, paths: Iterable[str | None]) -> list[RunReference]:
    return [RunReference(path, find_run(backend, path)) for path in paths if path is not None]


def _artifacts(
    backend: Backend, record: RunRecord
) -> tuple[list[tuple[CollectionRecord, VersionRecord]], list[tuple[CollectionRecord, VersionRecord]]]:
    """Return the versions that a run used and those that it logged; deleted ones are gone."""
    places = [
        (edge.kind, find_place(backend, edge.artifact_id)) for edge in list_run_edges(backend, record.id)
    ]
    used = [place for kind, place in places if kind == "input" and place is not None]
    return used, [place for kind, place in places if kind == "output" and place is not None]
