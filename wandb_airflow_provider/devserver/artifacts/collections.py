"""Collections of artifact versions, and the artifact types of a project."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from wandb_airflow_provider.devserver.artifacts import names
from wandb_airflow_provider.devserver.artifacts import schema as schema
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext

SEQUENCE = "SEQUENCE"
PORTFOLIO = "PORTFOLIO"


def find(conn: sqlite3.Connection, project_id: int, name: str) -> sqlite3.Row | None:
    """Return the collection of a project by name."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM artifact_collections WHERE project_id = ? AND name = ? AND state = 'READY'",
        (project_id, name),
    ).fetchone()
    return row


def get(conn: sqlite3.Connection, collection_id: str) -> sqlite3.Row:
    """Return a collection by id, deleted ones included. Raises a 404 if there is none."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM artifact_collections WHERE id = ?", (collection_id,)
    ).fetchone()
    if row is None:
        raise GraphQLError(f"artifact collection with id {collection_id!r} not found.", 404)
    return row


def get_ready(conn: sqlite3.Connection, collection_id: str) -> sqlite3.Row:
    """Return a collection by id. Raises a 404 if there is none or it is deleted."""
    row = get(conn, collection_id)
    if row["state"] != "READY":
        raise GraphQLError(f"artifact collection {row['name']!r} was deleted.", 404)
    return row


def ensure_sequence(
    ctx: RequestContext, conn: sqlite3.Connection, project: sqlite3.Row, name: str, type_name: str
) -> sqlite3.Row:
    """Return the sequence to log versions to, created if it does not exist."""
    row = find(conn, project["internal_id"], name)
    if row is None:
        return _create(
            ctx, conn, SEQUENCE, project["internal_id"], names.check_sequence_name(name), type_name
        )
    where = f"{project['entity']}/{project['name']}/{name}"
    if row["kind"] != SEQUENCE:
        raise GraphQLError(
            f"cannot log to {where!r}: it is a collection of linked versions. Log under another name, then link."
        )
    if row["type_name"] != type_name:
        raise GraphQLError(
            f"artifact {where!r} already exists with type {row['type_name']!r}; "
            f"cannot create another with type {type_name!r}."
        )
    return row


def ensure_portfolio(
    ctx: RequestContext, conn: sqlite3.Connection, project: sqlite3.Row, name: str, type_name: str
) -> sqlite3.Row:
    """Return the portfolio to link versions of a type to, created if it does not exist."""
    row = find(conn, project["internal_id"], name)
    if row is None:
        return _create(
            ctx, conn, PORTFOLIO, project["internal_id"], names.check_portfolio_name(name), type_name
        )
    where = f"{project['entity']}/{project['name']}/{name}"
    if row["kind"] != PORTFOLIO:
        raise GraphQLError(
            f"cannot link to {where!r}: versions are logged there. Link to another collection."
        )
    if row["type_name"] != type_name:
        raise GraphQLError(
            f"cannot link an artifact of type {type_name!r} to {where!r}, which holds type {row['type_name']!r}."
        )
    return row


def update(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    row: sqlite3.Row,
    *,
    name: str | None = None,
    description: str | None = None,
    type_name: str | None = None,
) -> sqlite3.Row:
    """Change what is given of a collection's name, description and type; return it as it is then."""
    if name is not None and name != row["name"]:
        check = names.check_sequence_name if row["kind"] == SEQUENCE else names.check_portfolio_name
        if find(conn, row["project_id"], check(name)) is not None:
            raise GraphQLError(
                f"cannot rename {row['name']!r}: the project already has a collection {name!r}."
            )
    if type_name is not None:
        ensure_type(ctx, conn, row["project_id"], names.check_type(type_name))
    conn.execute(
        "UPDATE artifact_collections SET name = coalesce(?, name), description = coalesce(?, description),"
        " type_name = coalesce(?, type_name), updated_at = ? WHERE id = ?",
        (name, description, type_name, stamp(ctx.now()), row["id"]),
    )
    return get(conn, row["id"])


def touch(ctx: RequestContext, conn: sqlite3.Connection, collection_id: str) -> None:
    """Note that a collection changed."""
    conn.execute(
        "UPDATE artifact_collections SET updated_at = ? WHERE id = ?", (stamp(ctx.now()), collection_id)
    )


def take_version(conn: sqlite3.Connection, collection_id: str) -> int:
    """Return the next version number of a collection; a number is never handed out twice."""
    row = conn.execute(
        "UPDATE artifact_collections SET next_version = next_version + 1 WHERE id = ? RETURNING next_version - 1",
        (collection_id,),
    ).fetchone()
    return int(row[0])


def mark_deleted(ctx: RequestContext, conn: sqlite3.Connection, collection_id: str) -> None:
    """Take a collection that has no versions left out of sight; its name is free again."""
    conn.execute(
        "UPDATE artifact_collections SET state = 'DELETED', updated_at = ? WHERE id = ?",
        (stamp(ctx.now()), collection_id),
    )


def tags(conn: sqlite3.Connection, collection_id: str) -> list[sqlite3.Row]:
    """Return the tags of a collection, in the order they were added."""
    return conn.execute(
        "SELECT * FROM artifact_collection_tags WHERE collection_id = ? ORDER BY rowid", (collection_id,)
    ).fetchall()


def add_tags(ctx: RequestContext, conn: sqlite3.Connection, collection_id: str, added: Iterable[str]) -> None:
    """Add tags that the collection does not have yet."""
    conn.executemany(
        "INSERT OR IGNORE INTO artifact_collection_tags VALUES (?, ?, ?)",
        [(ctx.ids.new("Tag"), collection_id, name) for name in added],
    )
    touch(ctx, conn, collection_id)


def remove_tags(
    ctx: RequestContext, conn: sqlite3.Connection, collection_id: str, removed: Iterable[str]
) -> None:
    """Remove tags; unknown ones are ignored."""
    conn.executemany(
        "DELETE FROM artifact_collection_tags WHERE collection_id = ? AND name = ?",
        [(collection_id, name) for name in removed],
    )
    touch(ctx, conn, collection_id)


def ensure_type(ctx: RequestContext, conn: sqlite3.Connection, project_id: int, name: str) -> None:
    """Make a type known in a project."""
    conn.execute(
        "INSERT OR IGNORE INTO artifact_types VALUES (?, ?, ?, ?)",
        (ctx.ids.new("ArtifactType"), project_id, name, stamp(ctx.now())),
    )


def types(conn: sqlite3.Connection, project_id: int) -> list[sqlite3.Row]:
    """Return the types of a project, in the order they appeared."""
    return conn.execute(
        "SELECT * FROM artifact_types WHERE project_id = ? ORDER BY rowid", (project_id,)
    ).fetchall()


def _create(
    ctx: RequestContext, conn: sqlite3.Connection, kind: str, project_id: int, name: str, type_name: str
) -> sqlite3.Row:
    ensure_type(ctx, conn, project_id, names.check_type(type_name))
    now = stamp(ctx.now())
    collection_id = ctx.ids.new("ArtifactCollection")
    conn.execute(
        "INSERT INTO artifact_collections (id, project_id, kind, name, type_name, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (collection_id, project_id, kind, name, type_name, now, now),
    )
    return get(conn, collection_id)
