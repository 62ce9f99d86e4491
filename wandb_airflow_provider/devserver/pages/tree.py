"""The runs of a group as a tree, with the time that each took. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from wandb_airflow_provider.devserver.pages.origin import Origin, shown_state
from wandb_airflow_provider.devserver.queries import RunRecord

ROOT_JOB_TYPE = "pipeline"
_THINNEST_BAR = 0.6
_WORST = ("running", "failed", "crashed", "killed")


@dataclass(frozen=True)
class TreeRow:
    """
    A run in the tree.

    :param depth: 0 for a root.
    :param is_last: No sibling comes after it.
    :param left: Where its bar starts, in percent of the group's time.
    :param width: How long its bar is, in the same unit.
    """

    run: RunRecord
    origin: Origin | None
    state: str
    depth: int
    is_last: bool
    left: float
    width: float


@dataclass(frozen=True)
class Tree:
    """
    A group of runs.

    :param root: The run of the whole DAG run, or None if there is not exactly one.
    """

    root: RunRecord | None
    rows: list[TreeRow]
    started_at: datetime
    ended_at: datetime

    @property
    def seconds(self) -> float:
        """How long the group took, in seconds."""
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def state(self) -> str:
        """The state of the root; without one, the worst among the runs."""
        if self.root is not None:
            return shown_state(self.root)
        return worst_state([row.state for row in self.rows])


def worst_state(states: Sequence[str]) -> str:
    """Return the state of several runs together; there must be one."""
    return next((worst for worst in _WORST if worst in states), states[0])


def build_tree(runs: Sequence[RunRecord]) -> Tree:
    """
    Return the tree of at least one run.

    A run whose parent is not among them is a root, as is one of those that name each other as parents.
    """
    ordered = sorted(runs, key=lambda run: (run.created_at, run.row_id))
    origins = {run.path: Origin.of(run) for run in ordered}
    started_at = min(run.created_at for run in ordered)
    ended_at = max(run.finished_at or run.heartbeat_at for run in ordered)
    children: dict[str, list[RunRecord]] = {}
    roots: list[RunRecord] = []
    for run in ordered:
        parent = _parent(origins[run.path], origins, run)
        (roots if parent is None else children.setdefault(parent, [])).append(run)
    # The pipeline's own run leads, even if the clock put a task before it.
    roots.sort(key=lambda run: run.job_type != ROOT_JOB_TYPE)
    span = max((ended_at - started_at).total_seconds(), 0.001)

    def row(run: RunRecord, depth: int, is_last: bool) -> TreeRow:
        state = shown_state(run)
        end = ended_at if state == "running" else run.finished_at or run.heartbeat_at
        left = (run.created_at - started_at).total_seconds() / span * 100
        width = max((end - run.created_at).total_seconds() / span * 100, _THINNEST_BAR)
        left = min(left, 100 - _THINNEST_BAR)
        return TreeRow(
            run, origins[run.path], state, depth, is_last, round(left, 2), round(min(width, 100 - left), 2)
        )

    def walk(siblings: Sequence[RunRecord], depth: int) -> Iterator[TreeRow]:
        for run in siblings:
            yield row(run, depth, run is siblings[-1])
            yield from walk(children.get(run.path, []), depth + 1)

    pipelines = [run for run in roots if run.job_type == ROOT_JOB_TYPE]
    root = pipelines[0] if len(pipelines) == 1 else roots[0] if len(roots) == 1 and len(ordered) > 1 else None
    return Tree(root, list(walk(roots, 0)), started_at, ended_at)


def _parent(origin: Origin | None, origins: dict[str, Origin | None], run: RunRecord) -> str | None:
    parent = origin.parent_run if origin else None
    if parent not in origins:
        return None
    seen = {run.path}
    above: str | None = parent
    while above is not None and above in origins:
        if above in seen:
            return None
        seen.add(above)
        higher = origins[above]
        above = higher.parent_run if higher else None
    return parent
