"""Projects: what runs, artifacts and registries live in."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.accounts import FOLDERS
from wandb_airflow_provider.devserver.artifacts import names, registries, roles
from wandb_airflow_provider.devserver.clock import api_time, stamp
from wandb_airflow_provider.devserver.graphql.registry import (
    GraphQLError,
    RequestContext,
    connection,
    mutation,
    page_bounds,
    query,
)
from wandb_airflow_provider.devserver.ids import global_id, numbered_id
from wandb_airflow_provider.devserver.store import register_schema

_FORBIDDEN = "/\\#?%:"
_LONGEST_NAME = 128

register_schema("""
CREATE TABLE IF NOT EXISTS projects (
    internal_id INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    entity TEXT NOT NULL REFERENCES entities (name),
    name TEXT NOT NULL,
    description TEXT,
    access TEXT NOT NULL DEFAULT 'PRIVATE',
    created_at TEXT NOT NULL,
    created_by TEXT,
    UNIQUE (entity, name)
);
""")


def get_project(conn: sqlite3.Connection, entity: str, name: str) -> sqlite3.Row | None:
    """Return a project's row, or None."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM projects WHERE entity = ? AND name = ?", (entity, name)
    ).fetchone()
    return row


def visible_project(ctx: RequestContext, entity: str | None, name: str | None) -> sqlite3.Row | None:
    """Return the row of a project that the account may read, or None: a private one looks as if it were absent."""
    entity = entity or ctx.user.entity
    if not ctx.user.may_read(entity):
        return None
    with ctx.store.read() as conn:
        row = get_project(conn, entity, name or "uncategorized")
        return row if row is not None and roles.may_see(ctx, conn, row) else None


def ensure_project(
    ctx: RequestContext, conn: sqlite3.Connection, entity: str | None, name: str | None
) -> sqlite3.Row:
    """
    Return a project's row, creating the project if needed.

    :param conn: A connection inside :meth:`Store.write`.
    :param entity: Empty means the account's default entity.
    :raises GraphQLError: 403 if the account may not write there; 400 if the name is not allowed, or is a registry's.
    """
    entity = entity or ctx.user.entity
    name = name or "uncategorized"
    if names.is_registry(name):
        raise GraphQLError(
            f"'{entity}/{name}' names a registry: runs are not logged there. Link artifacts to it instead."
        )
    return _ensure(ctx, conn, entity, name)


def _ensure(ctx: RequestContext, conn: sqlite3.Connection, entity: str, name: str) -> sqlite3.Row:
    ctx.user.require_write(entity)
    row = get_project(conn, entity, name)
    if row is None:
        insert_project(conn, entity, name, now=stamp(ctx.now()), user=ctx.user.username)
        row = get_project(conn, entity, name)
    assert row is not None
    return row


def insert_project(
    conn: sqlite3.Connection,
    entity: str,
    name: str,
    *,
    now: str,
    user: str | None = None,
    access: str = "PRIVATE",
) -> None:
    """
    Create a project unless it exists.

    :raises GraphQLError: 400 if the name is not allowed.
    """
    if len(name) > _LONGEST_NAME or name in FOLDERS or any(char in _FORBIDDEN for char in name):
        raise GraphQLError(
            f"invalid project name {name!r}: at most {_LONGEST_NAME} characters, none of {' '.join(_FORBIDDEN)}, and"
            " not only one or two dots."
        )
    conn.execute(
        "INSERT OR IGNORE INTO projects (id, entity, name, access, created_at, created_by) VALUES (?, ?, ?, ?, ?, ?)",
        (global_id("Project", "v1", name, entity), entity, name, access, now, user),
    )


def project_node(ctx: RequestContext, row: Mapping[str, Any] | sqlite3.Row) -> dict[str, Any]:
    """Return the object of a project's row."""
    entity = row["entity"]
    return {
        "__typename": "Project",
        "id": row["id"],
        "name": row["name"],
        "internalId": global_id("ProjectInternalId", row["internal_id"]),
        "entityName": entity,
        "entity": {"__typename": "Entity", "id": numbered_id("Entity", entity), "name": entity},
        "description": row["description"],
        "access": row["access"],
        "createdAt": api_time(row["created_at"]),
        "isBenchmark": False,
        "readOnly": not ctx.user.may_write(entity),
        "views": None,
        "_user": row["created_by"],
    }


@query("project")
def project(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any] | None:
    """Return a project by entity and name, or null."""
    row = visible_project(ctx, args.get("entityName"), args.get("name"))
    return None if row is None else project_node(ctx, row)


@query("model")
def model(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any] | None:
    """Return a project, under the name that older documents use."""
    row = visible_project(ctx, args.get("entityName"), args.get("name"))
    return None if row is None else project_node(ctx, row)


@query("models")
def models(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """List the projects of an entity, newest first, without registries that the account may not see."""
    entity = args.get("entityName") or ctx.user.entity
    if not ctx.user.may_read(entity):
        return connection([], args, typename="ProjectConnection")
    with ctx.store.read() as conn:
        condition, params = registries.visible(ctx, conn, entity)
        total = conn.execute(f"SELECT count(*) FROM projects WHERE {condition}", params).fetchone()[0]  # noqa: S608
        start, stop = page_bounds(args, total)
        rows = conn.execute(
            f"SELECT * FROM projects WHERE {condition} ORDER BY internal_id DESC LIMIT ? OFFSET ?",  # noqa: S608
            (*params, stop - start, start),
        ).fetchall()
    return connection([project_node(ctx, row) for row in rows], args, total, "ProjectConnection")


@mutation("upsertModel")
def upsert_model(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Create a project, or change its description or access."""
    with ctx.store.write() as conn:
        entity, name = args.get("entityName") or ctx.user.entity, args.get("name") or "uncategorized"
        inserted = get_project(conn, entity, name) is None
        row = _ensure(ctx, conn, entity, name)
        conn.execute(
            "UPDATE projects SET description = coalesce(?, description), access = coalesce(?, access)"
            " WHERE internal_id = ?",
            (args.get("description"), args.get("access"), row["internal_id"]),
        )
        registries.configure(ctx, conn, row, args)
        row = _ensure(ctx, conn, entity, name)
    node = project_node(ctx, row)
    return {"__typename": "UpsertModelPayload", "project": node, "model": node, "inserted": inserted}
