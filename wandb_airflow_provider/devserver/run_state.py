"""The state of a run: the one place that says which it is in, for answers, filters and pages alike."""

from __future__ import annotations

from datetime import datetime, timedelta

from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.store import register_function

HEARTBEAT_SECONDS = 300.0
ALIVE = ("running", "preempting")
# Stored for a run that a sweep has given to an agent and that has not been opened yet; told as pending.
QUEUED = "queued"
FINAL = ("finished", "failed", "killed", "crashed", "preempted")
# What is told instead of the stored state: with a heartbeat of late, and without.
_HEARD = {QUEUED: "pending"}
_SILENT = {"running": "crashed", "preempting": "preempted", QUEUED: "crashed"}


def alive_since(now: datetime) -> str:
    """Return the stored time before which a heartbeat is too old."""
    return stamp(now - timedelta(seconds=HEARTBEAT_SECONDS))


def run_state(stored: str, heartbeat_at: str, since: str) -> str:
    """
    Return the state of a run at the moment of reading.

    :param stored: The last state that the run itself reported.
    :param since: From :func:`alive_since`; without a heartbeat since then, a running run has crashed and a
        preempting one has been preempted. For a queued run its agent sends the heartbeats.
    """
    return (_SILENT if heartbeat_at < since else _HEARD).get(stored, stored)


def _case(told: dict[str, str]) -> str:
    return (
        "CASE state "
        + " ".join(f"WHEN '{stored}' THEN '{name}'" for stored, name in told.items())
        + " ELSE state END"
    )


# The same over the ``runs`` table; its parameter is ``since``. Calling Python for each of thousands of runs is slow.
STATE_SQL = f"(CASE WHEN heartbeat_at < ? THEN {_case(_SILENT)} ELSE {_case(_HEARD)} END)"


def state_after_exit(stored: str, exit_code: int, stopped: bool = False) -> str:
    """Return the state of a run that has reported its exit code; ``stopped`` if it had been asked to stop."""
    if exit_code == 0:
        return "finished"
    if stopped:
        return "killed"
    return "preempted" if stored == "preempting" else "failed"


register_function("run_state", 3, run_state)
