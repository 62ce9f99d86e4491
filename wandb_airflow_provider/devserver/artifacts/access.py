"""Who may read and change a version: whoever may in a project that it is in."""

from __future__ import annotations

import sqlite3

from wandb_airflow_provider.devserver.artifacts import versions
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext


def readable_artifact(ctx: RequestContext, conn: sqlite3.Connection, artifact_id: str) -> sqlite3.Row | None:
    """Return a version that the account may read in its own project or in one that it is linked to, or None."""
    row = versions.find(conn, artifact_id)
    if row is None:
        return None
    entities = conn.execute(
        "SELECT p.entity FROM artifact_collections c JOIN projects p ON p.internal_id = c.project_id"
        " WHERE c.id = ? OR c.id IN (SELECT collection_id FROM artifact_memberships WHERE artifact_id = ?)",
        (row["collection_id"], row["id"]),
    )
    return row if any(ctx.user.may_read(entity) for (entity,) in entities) else None


def require_artifact_write(ctx: RequestContext, conn: sqlite3.Connection, artifact_id: str) -> sqlite3.Row:
    """
    Return a version that the account may change.

    :raises GraphQLError: 404 if it may not see it, 403 if it may only read it.
    """
    row = readable_artifact(ctx, conn, artifact_id)
    if row is None:
        raise GraphQLError(f"artifact with id {artifact_id!r} not found.", 404)
    owner = conn.execute(
        "SELECT p.entity FROM artifact_collections c JOIN projects p ON p.internal_id = c.project_id WHERE c.id = ?",
        (row["collection_id"],),
    ).fetchone()
    ctx.user.require_write(owner["entity"])
    return row
