"""The pages that list: everything on the server, and one project."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from wandb_airflow_provider.devserver.artifacts.names import is_registry
from wandb_airflow_provider.devserver.artifacts.queries import list_collections
from wandb_airflow_provider.devserver.endpoint import backend_of
from wandb_airflow_provider.devserver.pages import addresses, report_page
from wandb_airflow_provider.devserver.pages.automations_page import count_automations
from wandb_airflow_provider.devserver.pages.lineage import GENERATED_TYPES
from wandb_airflow_provider.devserver.pages.origin import shown_state
from wandb_airflow_provider.devserver.pages.records import latest_groups, latest_runs, require_project
from wandb_airflow_provider.devserver.pages.templating import render
from wandb_airflow_provider.devserver.queries import RunRecord, count_runs, list_projects, list_runs
from wandb_airflow_provider.devserver.sweeps.queries import list_sweeps
from wandb_airflow_provider.devserver.views import list_reports

_LATEST_RUNS = 15
_LATEST_GROUPS = 10


@dataclass(frozen=True)
class RunSummary:
    """A run in a list."""

    run: RunRecord
    state: str


def home(request: Request) -> Response:
    """List projects, registries, and the latest DAG runs and runs."""
    backend = backend_of(request)
    everything = list_projects(backend)
    registries = [
        (project, list_collections(backend, project.entity, project.name))
        for project in everything
        if is_registry(project.name)
    ]
    return render(
        request,
        "home.html",
        groups=latest_groups(backend, _LATEST_GROUPS),
        projects=[project for project in everything if not is_registry(project.name)],
        registries=sorted(registries, key=lambda item: item[0].name),
        runs=[RunSummary(run, shown_state(run)) for run in latest_runs(backend, _LATEST_RUNS)],
    )


def project(request: Request) -> Response:
    """Show what is in a project: the latest DAG runs and runs, reports, sweeps, artifacts."""
    backend = backend_of(request)
    entity, name = request.path_params["entity"], request.path_params["project"]
    record = require_project(backend, entity, name)
    if is_registry(name):
        return RedirectResponse(addresses.project(entity, name))
    runs = list_runs(backend, entity, name, limit=_LATEST_RUNS)
    collections = list_collections(backend, entity, name)
    return render(
        request,
        "project.html",
        project=record,
        groups=latest_groups(backend, 2 * _LATEST_GROUPS, entity, name),
        runs=[RunSummary(run, shown_state(run)) for run in runs],
        total=count_runs(backend, entity, name),
        reports=[(report, report_page.address(report)) for report in list_reports(backend, entity, name)],
        sweeps=list_sweeps(backend, entity, name),
        automation_count=count_automations(backend, entity, name),
        collections=[item for item in collections if item.type not in GENERATED_TYPES],
        generated=[item for item in collections if item.type in GENERATED_TYPES],
    )
