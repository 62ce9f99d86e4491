"""What is stored about sweeps, as plain values: for pages, and for tests that look behind HTTP."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.sweeps import state, tables


@dataclass(frozen=True)
class SweepRecord:
    """
    A sweep.

    :param id: Short id, as in its URL.
    :param config: All of its configuration, as JSON values.
    :param state: ``PENDING``, ``RUNNING``, ``PAUSED``, ``FINISHED`` or ``CANCELED``.
    :param metric: The name of its metric and whether it is maximised, or None.
    :param expected_runs: How many runs it ends after; None if it has no end.
    :param best: The best value of the metric so far, or None.
    """

    id: str
    entity: str
    project: str
    title: str
    description: str | None
    config: dict[str, Any]
    state: str
    metric: tuple[str, bool] | None
    expected_runs: int | None
    run_count: int
    agent_count: int
    best: float | None
    user: str
    created_at: datetime

    @property
    def method(self) -> str:
        """``grid``, ``random`` or ``bayes``."""
        return str(self.config["method"])


def get_sweep(backend: Backend, entity: str, project: str, sweep_id: str) -> SweepRecord | None:
    """Return a sweep by its short id, or None."""
    with backend.store.read() as conn:
        row = tables.get_sweep(conn, entity, project, sweep_id)
        return None if row is None else _record(conn, row, backend.now())


def list_sweeps(backend: Backend, entity: str, project: str) -> list[SweepRecord]:
    """Return the sweeps of a project, newest first."""
    now = backend.now()
    with backend.store.read() as conn:
        return [_record(conn, row, now) for row in tables.list_sweeps(conn, entity, project)]


def _record(conn: sqlite3.Connection, row: sqlite3.Row, now: datetime) -> SweepRecord:
    members = tables.member_runs(conn, row)
    config = json.loads(row["settings"])
    return SweepRecord(
        id=row["name"],
        entity=row["entity"],
        project=row["project"],
        title=row["display_name"] or config.get("name") or row["name"],
        description=row["description"],
        config=config,
        state=state.sweep_state(row, members, now),
        metric=state.metric_of(config),
        expected_runs=row["expected_runs"],
        run_count=len(members),
        agent_count=len(tables.list_agents(conn, row["pk"])),
        best=state.best_value(row, members),
        user=row["user"],
        created_at=datetime.fromisoformat(row["created_at"]),
    )
