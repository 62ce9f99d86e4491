"""The tables of sweeps, their agents, and which run an agent was given."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver import runs_table
from wandb_airflow_provider.devserver.store import register_schema

# Their schema comes first: an index here is on it.
assert runs_table

register_schema("""
CREATE TABLE IF NOT EXISTS sweeps (
    pk INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    entity TEXT NOT NULL,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    display_name TEXT,
    description TEXT,
    config TEXT NOT NULL,
    settings TEXT NOT NULL,
    state TEXT NOT NULL,
    expected_runs INTEGER,
    exhausted INTEGER NOT NULL DEFAULT 0,
    seed TEXT NOT NULL,
    user TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (entity, project, name)
);
CREATE TABLE IF NOT EXISTS sweep_agents (
    pk INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    sweep INTEGER NOT NULL REFERENCES sweeps (pk) ON DELETE CASCADE,
    host TEXT NOT NULL,
    user TEXT NOT NULL,
    created_at TEXT NOT NULL,
    heartbeat_at TEXT NOT NULL,
    exited INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS sweep_runs (
    run INTEGER PRIMARY KEY REFERENCES runs (pk) ON DELETE CASCADE,
    sweep INTEGER NOT NULL REFERENCES sweeps (pk) ON DELETE CASCADE,
    agent INTEGER NOT NULL REFERENCES sweep_agents (pk) ON DELETE CASCADE,
    parameters TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS sweep_runs_by_sweep ON sweep_runs (sweep);
CREATE INDEX IF NOT EXISTS sweep_runs_by_agent ON sweep_runs (agent);
CREATE INDEX IF NOT EXISTS runs_by_sweep ON runs (entity, project, sweep) WHERE sweep IS NOT NULL;
""")

_MEMBERS = (
    "SELECT runs.*, sweep_runs.agent, sweep_runs.parameters FROM runs"
    " LEFT JOIN sweep_runs ON sweep_runs.run = runs.pk"
    " WHERE runs.entity = ? AND runs.project = ? AND runs.sweep = ? AND runs.deleted_at IS NULL ORDER BY runs.pk"
)


def get_sweep(conn: sqlite3.Connection, entity: str, project: str, name: str) -> sqlite3.Row | None:
    """Return the row of a sweep by its short id, or None."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM sweeps WHERE entity = ? AND project = ? AND name = ?", (entity, project, name)
    ).fetchone()
    return row


def get_sweep_by_id(conn: sqlite3.Connection, sweep_id: str) -> sqlite3.Row | None:
    """Return the row of a sweep by its global id, or None."""
    row: sqlite3.Row | None = conn.execute("SELECT * FROM sweeps WHERE id = ?", (sweep_id,)).fetchone()
    return row


def list_sweeps(conn: sqlite3.Connection, entity: str, project: str) -> list[sqlite3.Row]:
    """Return the sweeps of a project, newest first."""
    return conn.execute(
        "SELECT * FROM sweeps WHERE entity = ? AND project = ? ORDER BY pk DESC", (entity, project)
    ).fetchall()


def get_agent(conn: sqlite3.Connection, key: str) -> sqlite3.Row | None:
    """Return the row of an agent by its global id or its name, or None."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM sweep_agents WHERE id = ?1 OR name = ?1", (key,)
    ).fetchone()
    return row


def list_agents(conn: sqlite3.Connection, sweep: int) -> list[sqlite3.Row]:
    """Return the agents of a sweep, oldest first."""
    return conn.execute("SELECT * FROM sweep_agents WHERE sweep = ? ORDER BY pk", (sweep,)).fetchall()


def sweep_of(conn: sqlite3.Connection, agent: sqlite3.Row) -> sqlite3.Row:
    """Return the row of the sweep that an agent works for."""
    row: sqlite3.Row = conn.execute("SELECT * FROM sweeps WHERE pk = ?", (agent["sweep"],)).fetchone()
    return row


def given_runs(conn: sqlite3.Connection, agent: int) -> list[sqlite3.Row]:
    """Return the rows of the runs that an agent was given, oldest first."""
    return conn.execute(
        "SELECT runs.* FROM runs JOIN sweep_runs ON sweep_runs.run = runs.pk"
        " WHERE sweep_runs.agent = ? AND runs.deleted_at IS NULL ORDER BY runs.pk",
        (agent,),
    ).fetchall()


def member_runs(conn: sqlite3.Connection, sweep: sqlite3.Row) -> list[sqlite3.Row]:
    """
    Return the rows of a sweep's runs, oldest first, also with ``agent`` and ``parameters``.

    Both are null for a run that no agent was given: one that was added to the sweep.
    """
    return conn.execute(_MEMBERS, (sweep["entity"], sweep["project"], sweep["name"])).fetchall()


def insert(conn: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> None:
    """Add a row to one of these tables; ``values`` gives its columns by name."""
    marks = ", ".join("?" * len(values))
    conn.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))  # noqa: S608


def update(conn: sqlite3.Connection, table: str, pk: int, values: Mapping[str, Any]) -> None:
    """Change the named columns of a row of one of these tables."""
    assignments = ", ".join(f"{column} = ?" for column in values)
    conn.execute(f"UPDATE {table} SET {assignments} WHERE pk = ?", (*values.values(), pk))  # noqa: S608
