"""What happened in a DAG run, from its tasks' states and their W&B runs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

__all__ = ["TASK_COUNTS", "Outcome", "TaskRun", "TaskState", "dag_run_outcome", "timeline"]

TASK_COUNTS = "airflow/tasks/"
"""What the summary keys begin with that say how many tasks ended in a state."""

_FAILED = frozenset({"failed", "upstream_failed"})


class TaskState(NamedTuple):
    """
    The final state of one task instance, as Airflow tells it.

    :param duration: Seconds of its last try; None for one that never ran.
    """

    task_id: str
    map_index: int
    state: str
    duration: float | None = None


class TaskRun(NamedTuple):
    """
    The W&B run of a task attempt; ``state``, ``reason`` and ``seconds`` are what the attempt wrote about itself.

    :param created_at: When the attempt started.
    :param seconds: For how long its run was open.
    """

    task_id: str | None
    map_index: int
    try_number: int
    path: str
    url: str | None = None
    created_at: str | None = None
    state: str | None = None
    reason: str | None = None
    seconds: float | None = None


class Outcome(NamedTuple):
    """
    How a DAG run went.

    :param duration: Sum of the tasks' durations in seconds; parallel tasks count each.
    """

    failed: bool
    reason: str | None
    states: dict[str, int]
    runs: int
    duration: float

    def totals(self) -> dict[str, Any]:
        """Return the totals as summary keys."""
        counts = {f"{TASK_COUNTS}{state}": count for state, count in sorted(self.states.items())}
        return {**counts, "airflow/runs": self.runs, "airflow/task_seconds": self.duration}

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that lands in XCom."""
        return {"failed": self.failed, "reason": self.reason, "states": dict(self.states), "runs": self.runs}


def dag_run_outcome(leaves: Collection[str], states: Sequence[TaskState], runs: Sequence[TaskRun]) -> Outcome:
    """
    Judge a DAG run as Airflow does: failed when a leaf task failed or could not start.

    :param leaves: Ids of the tasks whose states decide.
    """
    failed = any(state.task_id in leaves and state.state in _FAILED for state in states)
    counts: dict[str, int] = {}
    for state in states:
        counts[state.state] = counts.get(state.state, 0) + 1
    reasons = _last_reasons(runs)
    broken = [s for s in states if s.state == "failed"]
    said = [
        f"{_label(s.task_id, s.map_index)}: {reasons.get((s.task_id, s.map_index), s.state)}" for s in broken
    ]
    if not said:
        # A gate that skips leaves no failed task behind, and is still why nothing was promoted.
        said = [f"{_label(*key)}: {reason}" for key, reason in sorted(reasons.items())]
    return Outcome(
        failed=failed,
        reason="; ".join(said) or None,
        states=counts,
        runs=len(runs),
        duration=round(sum(state.duration or 0.0 for state in states), 3),
    )


def timeline(states: Iterable[TaskState], runs: Iterable[TaskRun]) -> list[dict[str, Any]]:
    """
    Return one row per task attempt that had a run, and one per task that had none, ordered by start.

    Earlier tries carry the state and the time that their run recorded, because Airflow tells only the last.
    """
    by_task: dict[tuple[str | None, int], list[TaskRun]] = {}
    for task_run in runs:
        by_task.setdefault((task_run.task_id, task_run.map_index), []).append(task_run)
    rows = []
    for state in states:
        attempts = sorted(by_task.get((state.task_id, state.map_index), []), key=lambda run: run.try_number)
        candidates: list[TaskRun | None] = [*attempts] or [None]
        for run in candidates:
            last = run is candidates[-1]
            known = state.duration if last else None
            rows.append(
                {
                    "task_id": state.task_id,
                    "map_index": state.map_index,
                    "try_number": run.try_number if run else None,
                    "state": state.state if last else (run.state if run else None),
                    "started_at": run.created_at if run else None,
                    # Of a task that it has skipped while it worked, Airflow tells no duration.
                    "duration_seconds": known if known is not None or run is None else run.seconds,
                    "run": run.path if run else None,
                    "url": run.url if run else None,
                }
            )
    return sorted(rows, key=lambda row: (row["started_at"] is None, row["started_at"] or "", row["task_id"]))


def _last_reasons(runs: Iterable[TaskRun]) -> dict[tuple[str, int], str]:
    last: dict[tuple[str, int], TaskRun] = {}
    for run in sorted(runs, key=lambda run: run.try_number):
        if run.task_id is not None:
            last[(run.task_id, run.map_index)] = run
    return {key: run.reason for key, run in last.items() if run.reason}


def _label(task_id: str, index: int) -> str:
    return f"{task_id}[{index}]" if index >= 0 else task_id
