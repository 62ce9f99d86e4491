"""The filters of automations: which changes of artifacts, and which runs, they wait for."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver.artifacts import search
from wandb_airflow_provider.devserver.automations import metrics
from wandb_airflow_provider.devserver.automations.schema import METRIC_EVENTS
from wandb_airflow_provider.devserver.filters import filter_sql
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

RUN_STATE = "RUN_STATE"
RUN_EVENTS = (RUN_STATE, *METRIC_EVENTS)
ARTIFACT_EVENTS = (
    "CREATE_ARTIFACT",
    "ADD_ARTIFACT_ALIAS",
    "ADD_ARTIFACT_TAG",
    "REMOVE_ARTIFACT_TAG",
    "ADD_COLLECTION_TAG",
    "REMOVE_COLLECTION_TAG",
    "LINK_MODEL",
    "UNLINK_ARTIFACT",
)
# A killed run fires nothing, nor does a preempted one.
REPORTED_STATES = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "crashed": "FAILED"}


def check(event_type: str, event_filter: str, now: datetime) -> None:
    """
    Refuse an event that the server could not watch for.

    :raises GraphQLError: 400, with what is wrong with the filter.
    """
    if event_type in ARTIFACT_EVENTS:
        search.matches({"alias": [], "tag": []}, search.parse(event_filter))
    elif event_type in RUN_EVENTS:
        spec = search.parse(event_filter)
        filter_sql(_run_filter(spec), now)
        if event_type == RUN_STATE:
            states(event_filter)
        else:
            metric(event_filter)
    else:
        known = ", ".join((*ARTIFACT_EVENTS, *RUN_EVENTS))
        raise GraphQLError(f"the dev server does not know events of the type {event_type!r}. Known: {known}.")


def passes(event_filter: str, aliases: list[str], tags: list[str]) -> bool:
    """Tell whether a change of an artifact with these aliases and tags is waited for."""
    return search.matches({"alias": aliases, "tag": tags}, search.parse(event_filter))


def run_passes(conn: sqlite3.Connection, event_filter: str, run: int, now: datetime) -> bool:
    """Tell whether a run is one that is watched."""
    condition, params = filter_sql(_run_filter(search.parse(event_filter)), now)
    query = f"SELECT 1 FROM runs WHERE pk = ? AND deleted_at IS NULL AND {condition}"  # noqa: S608 - parameters
    return conn.execute(query, (run, *params)).fetchone() is not None


def states(event_filter: str) -> list[str]:
    """Return the states of a run that are waited for: RUNNING, FINISHED, FAILED."""
    spec = search.parse(event_filter).get("run_state_filter")
    found = spec.get("states") if isinstance(spec, Mapping) else None
    wanted = found if isinstance(found, list) else []
    if not wanted or not set(wanted) <= set(REPORTED_STATES.values()):
        known = ", ".join(sorted(set(REPORTED_STATES.values())))
        raise GraphQLError(
            f"a run state event needs a run_state_filter with states out of {known}; it has {found!r}."
        )
    return wanted


def metric(event_filter: str) -> metrics.MetricCondition:
    """Return the condition on a metric that is waited for."""
    spec = search.parse(event_filter)
    found = spec.get("run_metric_filter")
    if not found and spec.get("metric_filter"):
        # Older clients know thresholds only.
        found = {"threshold_filter": search.parse(spec["metric_filter"])}
    return metrics.parse(search.parse(found))


def _run_filter(spec: Mapping[str, Any]) -> Any:
    return _in_runs_syntax(search.parse(spec.get("run_filter")))


def _in_runs_syntax(condition: Any) -> Any:
    """Return a condition in what listings of runs understand: they know no ``$contains``."""
    if isinstance(condition, Mapping):
        return {
            "$regex" if key == "$contains" else key: re.escape(value)
            if key == "$contains"
            else _in_runs_syntax(value)
            for key, value in condition.items()
        }
    return [_in_runs_syntax(item) for item in condition] if isinstance(condition, list) else condition


def saved_form(event_type: str, event_filter: str) -> str:
    """Return a filter as clients get it back, which for changes of artifacts is one level deeper than they sent it."""
    return event_filter if event_type in RUN_EVENTS else json.dumps({"filter": event_filter})
