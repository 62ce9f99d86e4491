"""Edges between runs and versions: which run put a version out, which runs used it."""

from __future__ import annotations

import sqlite3

from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import RequestContext

OUTPUT = "output"
INPUT = "input"


def add_output(ctx: RequestContext, conn: sqlite3.Connection, run_id: str, artifact_id: str) -> None:
    """Note that a run logged a version; several runs may log the same content."""
    _add(ctx, conn, OUTPUT, run_id, artifact_id, None)


def add_input(
    ctx: RequestContext, conn: sqlite3.Connection, run_id: str, artifact_id: str, used_through: str | None
) -> None:
    """
    Note that a run used a version.

    :param used_through: ``entity/project`` in which the run found it, e.g. a registry's.
    """
    _add(ctx, conn, INPUT, run_id, artifact_id, used_through)


def move(conn: sqlite3.Connection, artifact_id: str, target_id: str) -> None:
    """Let the runs that logged or used a version have logged or used another one."""
    conn.execute(
        "INSERT OR IGNORE INTO artifact_edges SELECT kind, run_id, ?, used_through, created_at FROM artifact_edges"
        " WHERE artifact_id = ? ORDER BY rowid",
        (target_id, artifact_id),
    )
    conn.execute("DELETE FROM artifact_edges WHERE artifact_id = ?", (artifact_id,))


def artifacts_of(conn: sqlite3.Connection, run_id: str, kind: str) -> list[sqlite3.Row]:
    """Return the versions that a run logged or used, in that order, without those still pending."""
    return conn.execute(
        "SELECT a.* FROM artifact_edges e JOIN artifacts a ON a.id = e.artifact_id"
        " WHERE e.run_id = ? AND e.kind = ? AND a.state <> 'PENDING' ORDER BY e.rowid",
        (run_id, kind),
    ).fetchall()


def runs_of(conn: sqlite3.Connection, artifact_id: str, kind: str) -> list[str]:
    """Return the ids of the runs that logged or used a version, first one first."""
    rows = conn.execute(
        "SELECT run_id FROM artifact_edges WHERE artifact_id = ? AND kind = ? ORDER BY rowid",
        (artifact_id, kind),
    )
    return [row["run_id"] for row in rows]


def creator_of(conn: sqlite3.Connection, artifact_id: str) -> str | None:
    """Return the id of the run that first logged a version, or None."""
    row = conn.execute("SELECT created_by_run FROM artifacts WHERE id = ?", (artifact_id,)).fetchone()
    if row is not None and row["created_by_run"] is not None:
        return str(row["created_by_run"])
    outputs = runs_of(conn, artifact_id, OUTPUT)
    return outputs[0] if outputs else None


def _add(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    kind: str,
    run_id: str,
    artifact_id: str,
    used_through: str | None,
) -> None:
    conn.execute(
        "INSERT OR IGNORE INTO artifact_edges VALUES (?, ?, ?, ?, ?)",
        (kind, run_id, artifact_id, used_through, stamp(ctx.now())),
    )
