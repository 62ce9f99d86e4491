"""The table of the runs of a project, found and sorted by what its address says, so that it can be shared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from wandb_airflow_provider.devserver.artifacts.names import is_registry
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.endpoint import backend_of
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.pages import addresses, run_query
from wandb_airflow_provider.devserver.pages.origin import shown_state
from wandb_airflow_provider.devserver.pages.records import count_states, require_project
from wandb_airflow_provider.devserver.pages.templating import render
from wandb_airflow_provider.devserver.pages.values import key_metrics, natural
from wandb_airflow_provider.devserver.queries import RunRecord, find_page

_RUNS_PER_PAGE = 50
_MOST_METRICS = 3
_NEWEST_FIRST = "-created"
_COLUMNS = (
    ("name", "Run"),
    ("state", "State"),
    ("job", "Job type"),
    ("group", "Group"),
    ("created", "Created"),
    ("duration", "Duration"),
)
# What is larger or later is looked for more often.
_LARGEST_FIRST = ("created", "duration")


@dataclass(frozen=True)
class Column:
    """
    A column of the table.

    :param href: The address of the table sorted by it; the other way round if it is so already.
    :param order: ``ascending`` or ``descending`` if the table is sorted by it, else ``none``.
    """

    key: str
    title: str
    href: str
    order: str


@dataclass(frozen=True)
class RunRow:
    """A run in the table; ``values`` are those of the columns for metrics."""

    run: RunRecord
    state: str
    values: list[Any]


@dataclass(frozen=True)
class _View:
    """What the address asks for; parameters that say nothing new are left out of addresses."""

    query: str
    sort: str
    columns: str

    def href(self, **changes: str) -> str:
        """Return the address of this view with some parameters changed."""
        params = {"q": self.query, "sort": self.sort, "columns": self.columns, **changes}
        if params["sort"] == _NEWEST_FIRST:
            params["sort"] = ""
        return "?" + urlencode({name: value for name, value in params.items() if value})

    def column(self, key: str, title: str) -> Column:
        """Return a column with the address that sorts by it."""
        descending = key in _LARGEST_FIRST or "." in key
        order = "none"
        if self.sort.removeprefix("-") == key:
            descending = not self.sort.startswith("-")
            order = "ascending" if descending else "descending"
        return Column(key, title, self.href(sort=f"-{key}" if descending else key), order)


def runs(request: Request) -> Response:
    """List the runs of a project."""
    backend = backend_of(request)
    entity, name = request.path_params["entity"], request.path_params["project"]
    project = require_project(backend, entity, name)
    if is_registry(name):
        return RedirectResponse(addresses.project(entity, name))
    params = request.query_params
    view = _View(params.get("q", "").strip(), params.get("sort") or _NEWEST_FIRST, params.get("columns", ""))
    found: list[RunRecord] = []
    keys: tuple[str, ...] = ()
    total, page, problem = 0, 1, None
    try:
        query, order = run_query.parse_query(view.query), run_query.parse_order(view.sort)
        keys = run_query.parse_keys(view.columns)
        found, page, total = find_page(
            backend, entity, name, query.filters, order, max(_whole(params.get("page")), 1), _RUNS_PER_PAGE
        )
        keys = keys or _keys(query.keys, view.sort.removeprefix("-"), found)
    except (run_query.RunQueryError, GraphQLError) as error:
        problem = str(error)
    return render(
        request,
        "runs.html",
        status=200 if problem is None else 400,
        project=project,
        view=view,
        problem=problem,
        columns=[view.column(key, title) for key, title in _COLUMNS],
        metrics=[view.column(key, key.removeprefix("summary.")) for key in keys],
        rows=[RunRow(run, shown_state(run), [_value(run, key) for key in keys]) for run in found],
        states=_states(backend, entity, name),
        total=total,
        page=page,
        pages=max(1, -(-total // _RUNS_PER_PAGE)),
    )


def _whole(text: str | None) -> int:
    """Return the whole number in a parameter, 1 for anything else."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else 1


def _states(backend: Backend, entity: str, project: str) -> list[tuple[str, int, str]]:
    """Return each state with how many runs of the project are in it, and the query for them."""
    return [(state, count, f"state:{state}") for state, count in count_states(backend, entity, project)]


def _keys(asked: Sequence[str], sorted_by: str, found: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return the keys to show where none were chosen: those asked about, then what most of the runs have."""
    common = Counter(f"summary.{key}" for run in found for key, _ in key_metrics(run.summary))
    keys = [*asked, *([sorted_by] if "." in sorted_by else [])]
    room = max(_MOST_METRICS - len(keys), 0)
    others = [(key, count) for key, count in common.most_common() if key not in keys]
    return tuple(dict.fromkeys(keys + sorted((key for key, _ in others[:room]), key=natural)))


def _value(run: RunRecord, key: str) -> Any:
    root, _, path = key.partition(".")
    return run_query.look_up(run.config if root == "config" else run.summary, path)
