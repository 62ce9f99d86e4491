"""Who may read, download and change a version: whoever may in a project that it is in."""

from __future__ import annotations

import sqlite3

from wandb_airflow_provider.devserver.artifacts import roles, versions
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext


def readable_artifact(ctx: RequestContext, conn: sqlite3.Connection, artifact_id: str) -> sqlite3.Row | None:
    """Return a version that the account may see in its own project or in one that it is linked to, or None."""
    row = versions.find(conn, artifact_id)
    if row is None:
        return None
    return row if any(roles.may_see(ctx, conn, project) for project in _places(conn, row)) else None


def require_download(ctx: RequestContext, conn: sqlite3.Connection, artifact_id: str) -> sqlite3.Row:
    """
    Return a version whose files the account may read, through its own project or one that it is linked to.

    :raises GraphQLError: 404 if it may not see the version, 403 if it may only see that there is one.
    """
    row = readable_artifact(ctx, conn, artifact_id)
    if row is None:
        raise GraphQLError(f"artifact with id {artifact_id!r} not found.", 404)
    if not any(roles.may_download(ctx, conn, project) for project in _places(conn, row)):
        raise GraphQLError(
            f"permission denied: user {ctx.user.username!r} is a restricted viewer, who may not use or download this"
            " artifact version.",
            403,
        )
    return row


def require_artifact_write(ctx: RequestContext, conn: sqlite3.Connection, artifact_id: str) -> sqlite3.Row:
    """
    Return a version that the account may change.

    :raises GraphQLError: 404 if it may not see it, 403 if it may only read it.
    """
    row = readable_artifact(ctx, conn, artifact_id)
    if row is None:
        raise GraphQLError(f"artifact with id {artifact_id!r} not found.", 404)
    owner = conn.execute(
        "SELECT p.* FROM artifact_collections c JOIN projects p ON p.internal_id = c.project_id WHERE c.id = ?",
        (row["collection_id"],),
    ).fetchone()
    roles.require(ctx, conn, owner)
    return row


def _places(conn: sqlite3.Connection, artifact: sqlite3.Row) -> list[sqlite3.Row]:
    return conn.execute(
        "SELECT DISTINCT p.* FROM artifact_collections c JOIN projects p ON p.internal_id = c.project_id"
        " WHERE c.id = ? OR c.id IN (SELECT collection_id FROM artifact_memberships WHERE artifact_id = ?)",
        (artifact["collection_id"], artifact["id"]),
    ).fetchall()
