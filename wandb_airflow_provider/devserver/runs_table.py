"""The ``runs`` table: finding, listing, and the few ways in which rows change."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver.filters import filter_sql, order_sql
from wandb_airflow_provider.devserver.ids import global_id
from wandb_airflow_provider.devserver.run_state import alive_since, run_state
from wandb_airflow_provider.devserver.store import dumps, register_schema

register_schema("""
CREATE TABLE IF NOT EXISTS runs (
    pk INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    entity TEXT NOT NULL,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    state TEXT NOT NULL,
    group_name TEXT,
    job_type TEXT,
    sweep TEXT,
    tags TEXT NOT NULL DEFAULT '[]',
    notes TEXT,
    description TEXT,
    host TEXT,
    program TEXT,
    repo TEXT,
    commit_sha TEXT,
    user TEXT NOT NULL,
    created_at TEXT NOT NULL,
    heartbeat_at TEXT NOT NULL,
    finished_at TEXT,
    exit_code INTEGER,
    stop_requested INTEGER NOT NULL DEFAULT 0,
    resume_asked_at TEXT,
    deleted_at TEXT,
    -- Last, so that reading the other columns does not walk through the pages of large documents.
    summary TEXT NOT NULL DEFAULT '{}',
    config TEXT NOT NULL DEFAULT '{}',
    UNIQUE (entity, project, name)
);
CREATE INDEX IF NOT EXISTS runs_by_group ON runs (entity, project, group_name) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS runs_by_creation ON runs (entity, project, created_at) WHERE deleted_at IS NULL;
""")

# What a run is set to when a process opens it again.
REOPENED = {
    "state": "running",
    "exit_code": None,
    "finished_at": None,
    "stop_requested": 0,
    "resume_asked_at": None,
}
_OF_PROJECT = "FROM runs WHERE entity = ? AND project = ? AND deleted_at IS NULL"
_AMONG = "pk IN (SELECT value FROM json_each(?))"


def storage_id(entity: str, project: str, name: str) -> str:
    """Return the global id of a run."""
    return global_id("Run", "v1", name, project, entity)


def get_run(conn: sqlite3.Connection, entity: str, project: str, name: str) -> sqlite3.Row | None:
    """Return the row of a run by its short id, or None if there is none or it was deleted."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM runs WHERE entity = ? AND project = ? AND name = ? AND deleted_at IS NULL",
        (entity, project, name),
    ).fetchone()
    return row


def get_run_by_id(conn: sqlite3.Connection, run_id: str) -> sqlite3.Row | None:
    """Return the row of a run by its global id, or None if there is none or it was deleted."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM runs WHERE id = ? AND deleted_at IS NULL", (run_id,)
    ).fetchone()
    return row


def is_deleted(conn: sqlite3.Connection, entity: str, project: str, name: str) -> bool:
    """Tell whether a run of this short id existed and was deleted."""
    query = "SELECT 1 FROM runs WHERE entity = ? AND project = ? AND name = ? AND deleted_at IS NOT NULL"
    return conn.execute(query, (entity, project, name)).fetchone() is not None


def current_state(row: sqlite3.Row, now: datetime) -> str:
    """Return the state that a run's row means at this moment."""
    return run_state(row["state"], row["heartbeat_at"], alive_since(now))


def count_runs(
    conn: sqlite3.Connection,
    entity: str,
    project: str,
    filters: Mapping[str, Any] | str | None,
    now: datetime,
) -> int:
    """Return how many runs of a project pass a filter."""
    condition, params = filter_sql(filters, now)
    query = f"SELECT count(*) {_OF_PROJECT} AND {condition}"
    return int(conn.execute(query, (entity, project, *params)).fetchone()[0])


def find_runs(
    conn: sqlite3.Connection,
    entity: str,
    project: str,
    filters: Mapping[str, Any] | str | None,
    now: datetime,
) -> list[int]:
    """Return the keys (``pk``) of the runs of a project that pass a filter, in no order."""
    condition, params = filter_sql(filters, now)
    rows = conn.execute(f"SELECT pk {_OF_PROJECT} AND {condition}", (entity, project, *params))
    return [row["pk"] for row in rows]


def select_runs(
    conn: sqlite3.Connection,
    entity: str,
    project: str,
    filters: Mapping[str, Any] | str | None,
    now: datetime,
    order: str | None = None,
    offset: int = 0,
    limit: int = -1,
    among: Sequence[int] | None = None,
) -> list[sqlite3.Row]:
    """
    Return runs of a project, oldest first unless ``order`` says otherwise.

    :param limit: At most so many; -1 for all.
    :param among: What :func:`find_runs` has returned for the filter, which is then not looked at again.
    """
    condition, params = filter_sql(filters, now) if among is None else (_AMONG, [dumps(among)])
    terms, order_params = order_sql(order, now)
    # Sorting whole rows would copy every document.
    query = f"SELECT pk {_OF_PROJECT} AND {condition} ORDER BY {terms} LIMIT ? OFFSET ?"
    found = conn.execute(query, (entity, project, *params, *order_params, limit, offset))
    pks = [row["pk"] for row in found]
    rows = conn.execute(f"SELECT * FROM runs WHERE {_AMONG}", (dumps(pks),))  # noqa: S608
    by_pk = {row["pk"]: row for row in rows}
    return [by_pk[pk] for pk in pks]


def insert_run(
    conn: sqlite3.Connection, entity: str, project: str, name: str, values: Mapping[str, Any]
) -> None:
    """Add a row; ``values`` gives its columns by name."""
    columns = {
        "id": storage_id(entity, project, name),
        "entity": entity,
        "project": project,
        "name": name,
        **values,
    }
    marks = ", ".join("?" * len(columns))
    conn.execute(f"INSERT INTO runs ({', '.join(columns)}) VALUES ({marks})", tuple(columns.values()))  # noqa: S608


def update_run(conn: sqlite3.Connection, pk: int, values: Mapping[str, Any]) -> None:
    """Change the named columns of a row."""
    if values:
        assignments = ", ".join(f"{column} = ?" for column in values)
        conn.execute(f"UPDATE runs SET {assignments} WHERE pk = ?", (*values.values(), pk))  # noqa: S608
