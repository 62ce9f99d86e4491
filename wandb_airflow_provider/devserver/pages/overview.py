"""The pages that list: everything on the server, and one project."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from wandb_airflow_provider.devserver.artifacts.names import is_registry
from wandb_airflow_provider.devserver.artifacts.queries import list_collections
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.endpoint import backend_of
from wandb_airflow_provider.devserver.pages import addresses
from wandb_airflow_provider.devserver.pages.lineage import GENERATED_TYPES
from wandb_airflow_provider.devserver.pages.not_found import PageNotFoundError
from wandb_airflow_provider.devserver.pages.origin import shown_state
from wandb_airflow_provider.devserver.pages.records import GroupRecord, latest_groups, latest_runs
from wandb_airflow_provider.devserver.pages.templating import render
from wandb_airflow_provider.devserver.pages.tree import Tree, build_tree
from wandb_airflow_provider.devserver.queries import (
    RunRecord,
    count_runs,
    get_project,
    list_projects,
    list_runs,
)

_LATEST_RUNS = 15
_LATEST_GROUPS = 10
_RUNS_PER_PAGE = 50


@dataclass(frozen=True)
class GroupSummary:
    """A group of runs in a list: how many of its runs are in which state."""

    record: GroupRecord
    tree: Tree
    counts: list[tuple[str, int]]


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
        groups=_summaries(backend, latest_groups(backend, _LATEST_GROUPS)),
        projects=[project for project in everything if not is_registry(project.name)],
        registries=sorted(registries, key=lambda item: item[0].name),
        runs=[RunSummary(run, shown_state(run)) for run in latest_runs(backend, _LATEST_RUNS)],
    )


def project(request: Request) -> Response:
    """List the DAG runs, runs and artifacts of a project."""
    backend = backend_of(request)
    entity, name = request.path_params["entity"], request.path_params["project"]
    record = get_project(backend, entity, name)
    if record is None:
        raise PageNotFoundError(f"There is no project {entity}/{name}.")
    if is_registry(name):
        return RedirectResponse(addresses.project(entity, name))
    total = count_runs(backend, entity, name)
    pages = max(1, -(-total // _RUNS_PER_PAGE))
    page = min(max(_whole(request.query_params.get("page")), 1), pages)
    runs = list_runs(backend, entity, name, offset=(page - 1) * _RUNS_PER_PAGE, limit=_RUNS_PER_PAGE)
    collections = list_collections(backend, entity, name)
    return render(
        request,
        "project.html",
        project=record,
        groups=_summaries(backend, latest_groups(backend, 2 * _LATEST_GROUPS, entity, name)),
        runs=[RunSummary(run, shown_state(run)) for run in runs],
        total=total,
        page=page,
        pages=pages,
        collections=[item for item in collections if item.type not in GENERATED_TYPES],
        generated=[item for item in collections if item.type in GENERATED_TYPES],
    )


def _summaries(backend: Backend, groups: list[GroupRecord]) -> list[GroupSummary]:
    found = []
    for record in groups:
        runs = list_runs(backend, record.entity, record.project, {"group": record.name})
        if runs:
            tree = build_tree(runs)
            tasks = [row.state for row in tree.rows if tree.root is None or row.run is not tree.root]
            found.append(GroupSummary(record, tree, Counter(tasks).most_common()))
    return found


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else 1
