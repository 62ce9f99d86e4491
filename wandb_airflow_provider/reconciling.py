"""How a run that nobody closed has ended, from what Airflow and W&B say of its task. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

__all__ = ["AirflowSays", "Ending", "attempt_ending", "belongs_here", "pipeline_ending", "quiet_seconds"]

_FINAL = {
    "success": (0, "success"),
    "skipped": (0, "skipped"),
    "failed": (1, "failed"),
    "upstream_failed": (1, "failed"),
    "removed": (1, "removed"),
}
# The task instance waits: the attempt that opened the run is over, and the next has not begun.
_BETWEEN_ATTEMPTS = frozenset({"up_for_retry", "scheduled", "queued", "restarting", "none"})
_ENDED_DAG_RUN = frozenset({"success", "failed"})


class AirflowSays(NamedTuple):
    """
    What Airflow tells of a DAG run.

    :param dag_run: Its state; None when Airflow has no such DAG run.
    :param tasks: State of each task instance, by ``task_id``, or ``task_id_<map index>`` for a mapped one.
    """

    dag_run: str | None
    tasks: Mapping[str, str]

    def task(self, task_id: str, map_index: int) -> str | None:
        """Return the state of a task instance; None when Airflow has no such instance."""
        return self.tasks.get(task_id if map_index < 0 else f"{task_id}_{map_index}")


class Ending(NamedTuple):
    """
    How a run is to be closed.

    :param source: How this is known, in a sentence.
    """

    exit_code: int
    state: str
    source: str

    def reason(self, what: str) -> str | None:
        """Return why it did not go well, for ``airflow/reason``; ``what`` is the word for what has ended."""
        return None if self.exit_code == 0 else f"The {what} ended without closing its run. {self.source}"


def attempt_ending(
    airflow: AirflowSays, task_id: str, map_index: int, try_number: int, last_try: int
) -> Ending | None:
    """
    Return how an attempt has ended, or None while it may still be at work.

    :param last_try: The highest try of the same task instance that has a run in W&B.
    """
    if airflow.dag_run is None:
        return _unknown()
    if last_try > try_number:
        return Ending(
            1, "failed", f"W&B has a run of try {last_try}, which Airflow starts when one has failed."
        )
    state = airflow.task(task_id, map_index)
    if state is None:
        return Ending(1, "removed", "Airflow has no such task instance in this DAG run any more.")
    if state in _FINAL:
        exit_code, said = _FINAL[state]
        return Ending(exit_code, said, f"Airflow says that the task instance is {state!r}.")
    if state in _BETWEEN_ATTEMPTS:
        return Ending(1, "failed", f"Airflow says that the task instance is {state!r}: its attempt is over.")
    return None


def pipeline_ending(airflow: AirflowSays, close_task_id: str) -> Ending | None:
    """Return how a pipeline run has ended, or None while its DAG run works, or its closing task still can."""
    if airflow.dag_run is None:
        return _unknown()
    closing = airflow.task(close_task_id, -1)
    if airflow.dag_run not in _ENDED_DAG_RUN or (closing is not None and closing not in _FINAL):
        return None
    failed = airflow.dag_run == "failed"
    did = f"its closing task is {closing!r}" if closing else "it has no closing task"
    return Ending(
        int(failed), airflow.dag_run, f"Airflow says that the DAG run is {airflow.dag_run!r} and {did}."
    )


def quiet_seconds(heartbeat_at: str, now: datetime) -> float:
    """Return the seconds since W&B heard from a run; W&B's times are UTC, with or without saying so."""
    heard = datetime.fromisoformat(heartbeat_at)
    return (now - (heard if heard.tzinfo else heard.replace(tzinfo=UTC))).total_seconds()


def belongs_here(provenance: Any, log_url: str) -> bool:
    """
    Say whether a run comes from the Airflow that a task of ours runs in.

    Several Airflows may write to one project, and would each take the others' DAG runs for deleted ones.

    :param provenance: ``config["airflow"]`` of the run.
    :param log_url: Log URL of the task that asks; both begin with the address of their Airflow.
    """
    if not isinstance(provenance, Mapping) or not all(
        isinstance(provenance.get(name), str) and provenance[name] for name in ("dag_id", "dag_run_id")
    ):
        return False
    if provenance.get("task_id") is not None and not all(
        isinstance(provenance.get(name), int) for name in ("map_index", "try_number")
    ):
        # Another tool's, or a policy has removed it: its task cannot be told.
        return False
    theirs = str(provenance.get("log_url") or "")
    return theirs.partition("/dags/")[0] == log_url.partition("/dags/")[0]


def _unknown() -> Ending:
    return Ending(1, "unknown", "Airflow has no such DAG run any more.")
