"""The states of sweeps and of agents: what is stored, and what it means at the moment of reading."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.run_state import ALIVE, alive_since
from wandb_airflow_provider.devserver.runs_table import current_state

PENDING, RUNNING, PAUSED, FINISHED, CANCELED = "PENDING", "RUNNING", "PAUSED", "FINISHED", "CANCELED"
UNDER_WAY = ("pending", *ALIVE)
# A preempted run is given to the next agent that asks.
_OPEN = (*UNDER_WAY, "preempted")
# From which states a client may set which.
_CHANGES = {
    RUNNING: (PENDING, RUNNING, PAUSED, FINISHED, CANCELED),
    PAUSED: (RUNNING, PAUSED),
    FINISHED: (PENDING, RUNNING, PAUSED),
    CANCELED: (PENDING, RUNNING, PAUSED),
}


def sweep_state(sweep: sqlite3.Row, members: Sequence[sqlite3.Row], now: datetime) -> str:
    """
    Return the state of a sweep.

    A running sweep is finished once all of its runs were handed out and have ended.
    """
    stored = str(sweep["state"])
    if stored != RUNNING or any(current_state(run, now) in _OPEN for run in members):
        return stored
    return FINISHED if is_exhausted(sweep, members) else stored


def is_exhausted(sweep: sqlite3.Row, members: Sequence[sqlite3.Row]) -> bool:
    """Tell whether no further run is to be handed out."""
    given = sum(1 for run in members if run["agent"] is not None)
    return bool(sweep["exhausted"]) or (
        sweep["expected_runs"] is not None and given >= sweep["expected_runs"]
    )


def require_change(name: str, current: str, wanted: str) -> None:
    """
    Check that a sweep may be set to a state.

    :raises GraphQLError: 400 if there is no such state or the sweep is in one that does not lead there.
    """
    if wanted not in _CHANGES:
        raise GraphQLError(
            f"a sweep cannot be set to the state {wanted!r}; it can be set to {', '.join(_CHANGES)}."
        )
    if current not in _CHANGES[wanted]:
        raise GraphQLError(f"sweep {name!r} is {current}: it cannot be set to {wanted}.")


def agent_state(agent: sqlite3.Row, now: datetime) -> str:
    """Return FINISHED for an agent that was told to exit, CRASHED for one that has gone silent, else RUNNING."""
    if agent["exited"]:
        return FINISHED
    return "CRASHED" if agent["heartbeat_at"] < alive_since(now) else RUNNING


def metric_of(settings: Mapping[str, Any]) -> tuple[str, bool] | None:
    """Return the name of the metric that a configuration names, and whether it is maximised; None without one."""
    metric = settings.get("metric")
    return None if not metric else (metric["name"], metric.get("goal") == "maximize")


def metric_value(values: Mapping[str, Any], name: str) -> float | None:
    """Return a metric from a summary or a history row, by its key or by a dotted path; None if it is no number."""
    found: Any = values.get(name)
    if found is None:
        found = values
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def best_value(sweep: sqlite3.Row, members: Sequence[sqlite3.Row]) -> float | None:
    """Return the best value of the sweep's metric among the summaries of its runs, or None."""
    metric = metric_of(json.loads(sweep["settings"]))
    if metric is None:
        return None
    name, maximise = metric
    found = (metric_value(json.loads(run["summary"]), name) for run in members)
    return (max if maximise else min)((value for value in found if value is not None), default=None)
