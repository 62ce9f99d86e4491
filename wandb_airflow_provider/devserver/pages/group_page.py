"""The page of a group: a DAG run as a tree of runs, and over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.endpoint import backend_of
from wandb_airflow_provider.devserver.pages.media import find_table
from wandb_airflow_provider.devserver.pages.not_found import PageNotFoundError
from wandb_airflow_provider.devserver.pages.origin import Origin, shown_state
from wandb_airflow_provider.devserver.pages.records import find_run, started_by
from wandb_airflow_provider.devserver.pages.templating import render
from wandb_airflow_provider.devserver.pages.timeline import build_lines, build_ticks
from wandb_airflow_provider.devserver.pages.tree import Tree, build_tree
from wandb_airflow_provider.devserver.pages.values import key_metrics
from wandb_airflow_provider.devserver.queries import RunRecord, count_runs, list_files, list_runs

_TIMELINE = "timeline"
_MOST_RUNS = 1000


@dataclass(frozen=True)
class ChildGroup:
    """A run elsewhere that this group started, with the state to show."""

    run: RunRecord
    state: str


@dataclass(frozen=True)
class Source:
    """
    What started this DAG run.

    :param path: Path of the run behind it, or None if none was named.
    :param run: That run, or None if it is not on this server.
    :param text: What else is known, such as the asset.
    """

    path: str | None
    run: RunRecord | None
    text: str


def group(request: Request) -> Response:
    """Show the runs of a group as a tree, and what it was started by and has started."""
    backend, path = backend_of(request), request.path_params
    entity, project, name = path["entity"], path["project"], path["group"]
    # Oldest first: the run of the whole DAG run is among the first.
    runs = list_runs(backend, entity, project, {"group": name}, order="+created_at", limit=_MOST_RUNS)
    if not runs:
        raise PageNotFoundError(f"Project {entity}/{project} has no group {name}.")
    tree = build_tree(runs)
    origin = Origin.of(tree.root) if tree.root else None
    return render(
        request,
        "group.html",
        entity=entity,
        project=project,
        name=name,
        tree=tree,
        more_runs=count_runs(backend, entity, project, {"group": name}) - len(runs),
        lines=build_lines(tree),
        ticks=build_ticks(tree.seconds),
        by_path={run.path: run for run in runs},
        origin=origin,
        sources=_sources(backend, origin),
        metrics={row.run.path: key_metrics(row.run.summary) for row in tree.rows},
        without_run=_tasks_without_run(backend, tree),
        children=_children(backend, runs),
    )


def _children(backend: Backend, runs: Sequence[RunRecord]) -> list[ChildGroup]:
    """Return one run per group that these runs have started: its first, which is the root."""
    first: dict[tuple[str, str, str], RunRecord] = {}
    for run in started_by(backend, runs):
        first.setdefault((run.entity, run.project, run.group or run.path), run)
    return [ChildGroup(run, shown_state(run)) for run in first.values()]


def _sources(backend: Backend, origin: Origin | None) -> list[Source]:
    """Return what started a DAG run: its triggers, and a parent run that is not among them."""
    if origin is None:
        return []
    found = [
        Source(item.run, find_run(backend, item.run) if item.run else None, item.text)
        for item in origin.triggers
    ]
    if origin.parent_run and origin.parent_run not in origin.triggering_runs:
        found.insert(0, Source(origin.parent_run, find_run(backend, origin.parent_run), ""))
    return found


def _tasks_without_run(backend: Backend, tree: Tree) -> list[tuple[str, str]]:
    """Return the tasks, with their states, that the root's timeline lists and that opened no run."""
    if tree.root is None:
        return []
    table = find_table(backend, tree.root, list_files(backend, tree.root), _TIMELINE)
    found = []
    for row in table.records() if table else ():
        task, state = row.get("task_id"), row.get("state")
        if isinstance(task, str) and isinstance(state, str) and row.get("run") is None:
            index = row.get("map_index")
            found.append((f"{task}[{index}]" if isinstance(index, int) and index >= 0 else task, state))
    return found
