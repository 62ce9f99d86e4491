"""The state of a run: the one place that says which it is in, for answers, filters and pages alike."""

from __future__ import annotations

from datetime import datetime, timedelta

from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.store import register_function

HEARTBEAT_SECONDS = 300.0
ALIVE = ("running", "preempting")
FINAL = ("finished", "failed", "killed", "crashed", "preempted")


def alive_since(now: datetime) -> str:
    """Return the stored time before which a heartbeat is too old."""
    return stamp(now - timedelta(seconds=HEARTBEAT_SECONDS))


def run_state(stored: str, heartbeat_at: str, since: str) -> str:
    """
    Return the state of a run at the moment of reading.

    :param stored: The last state that the run itself reported.
    :param since: From :func:`alive_since`; without a heartbeat since then, a running run has crashed and a
        preempting one has been preempted.
    """
    if stored in ALIVE and heartbeat_at < since:
        return "preempted" if stored == "preempting" else "crashed"
    return stored


def state_after_exit(stored: str, exit_code: int) -> str:
    """Return the state of a run that has reported its exit code."""
    if exit_code == 0:
        return "finished"
    return "preempted" if stored == "preempting" else "failed"


register_function("run_state", 3, run_state)
