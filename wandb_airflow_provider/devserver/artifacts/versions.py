"""Versions of artifacts: found, updated, deleted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import (
    aliases,
    collections,
    lifetimes,
    memberships,
    names,
    protection,
)
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext


def find(conn: sqlite3.Connection, artifact_id: str) -> sqlite3.Row | None:
    """Return a version by id, deleted ones included; for one that had the content of another, that one."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT a.* FROM artifacts x JOIN artifacts a ON a.id = coalesce(x.same_as, x.id) WHERE x.id = ?",
        (artifact_id,),
    ).fetchone()
    return row


def get(conn: sqlite3.Connection, artifact_id: str) -> sqlite3.Row:
    """Return a version by id, deleted ones included. Raises a 404 if there is none."""
    row = find(conn, artifact_id)
    if row is None:
        raise GraphQLError(f"artifact with id {artifact_id!r} not found.", 404)
    return row


def of_client(conn: sqlite3.Connection, client_id: str) -> sqlite3.Row | None:
    """Return the version that a client made under an id of its own."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT a.* FROM artifacts a JOIN artifact_clients c ON c.artifact_id = a.id WHERE c.client_id = ?",
        (client_id,),
    ).fetchone()
    return row


def latest(conn: sqlite3.Connection, collection_id: str) -> sqlite3.Row | None:
    """Return the newest committed version of a sequence."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM artifacts WHERE collection_id = ? AND state = 'COMMITTED' ORDER BY version DESC LIMIT 1",
        (collection_id,),
    ).fetchone()
    return row


def update(
    ctx: RequestContext, conn: sqlite3.Connection, artifact: sqlite3.Row, args: Mapping[str, Any]
) -> sqlite3.Row:
    """
    Change what is given of a version's description, metadata, time to live, tags and aliases.

    :param args: The fields of ``UpdateArtifactInput``.
    """
    require_not_deleted(artifact)
    metadata = names.check_metadata(args.get("metadata"))
    ttl_seconds, ttl_inherited = artifact["ttl_seconds"], artifact["ttl_inherited"]
    if args.get("ttlDurationSeconds") is not None:
        ttl_seconds, ttl_inherited = lifetimes.parse_seconds(args["ttlDurationSeconds"])
    conn.execute(
        "UPDATE artifacts SET description = coalesce(?, description), metadata = coalesce(?, metadata),"
        " ttl_seconds = ?, ttl_inherited = ?, updated_at = ? WHERE id = ?",
        (args.get("description"), metadata, ttl_seconds, ttl_inherited, stamp(ctx.now()), artifact["id"]),
    )
    lifetimes.schedule(conn, get(conn, artifact["id"]))
    add_tags(ctx, conn, artifact["id"], names.check_tags(args.get("tagsToAdd")))
    conn.executemany(
        "DELETE FROM artifact_tags WHERE artifact_id = ? AND name = ?",
        [(artifact["id"], name) for name in names.check_tags(args.get("tagsToDelete"))],
    )
    if args.get("aliases") is not None:
        _replace_aliases(ctx, conn, artifact, [names.check_alias(item["alias"]) for item in args["aliases"]])
    return get(conn, artifact["id"])


def delete(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    artifact: sqlite3.Row,
    *,
    delete_aliases: bool,
    reason: str = "deleted",
) -> sqlite3.Row:
    """
    Delete a version and its links; its number is not used again and its files stay for other versions.

    :param reason: For the history of its aliases: ``deleted`` or ``expired``.
    """
    require_not_deleted(artifact)
    protection.require_unprotected(conn, artifact["id"])
    held = [row["alias"] for row in aliases.of_artifact(conn, artifact["id"])]
    if held and not delete_aliases:
        raise GraphQLError(
            f"cannot delete artifact version v{artifact['version']}: it has the aliases"
            f" {', '.join(map(repr, held))}. Remove them first, or delete with delete_aliases=True."
        )
    for membership in memberships.of_artifact(conn, artifact["id"]):
        memberships.remove(ctx, conn, membership, reason)
    conn.execute(
        "UPDATE artifacts SET state = 'DELETED', updated_at = ? WHERE id = ?",
        (stamp(ctx.now()), artifact["id"]),
    )
    return get(conn, artifact["id"])


def delete_collection(ctx: RequestContext, conn: sqlite3.Connection, collection: sqlite3.Row) -> sqlite3.Row:
    """Delete a collection: versions of a sequence with it, but of a portfolio only the links."""
    for membership in memberships.of_collection(conn, collection["id"]):
        if collection["kind"] == collections.SEQUENCE:
            delete(ctx, conn, get(conn, membership["artifact_id"]), delete_aliases=True)
        else:
            memberships.remove(ctx, conn, membership, "deleted")
    collections.mark_deleted(ctx, conn, collection["id"])
    return collections.get(conn, collection["id"])


def require_not_deleted(artifact: sqlite3.Row) -> None:
    """Refuse to work with a version that is deleted."""
    if artifact["state"] == "DELETED":
        raise GraphQLError(f"artifact version v{artifact['version']} was deleted.", 404)


def tags(conn: sqlite3.Connection, artifact_id: str) -> list[sqlite3.Row]:
    """Return the tags of a version, in the order they were added."""
    return conn.execute(
        "SELECT * FROM artifact_tags WHERE artifact_id = ? ORDER BY rowid", (artifact_id,)
    ).fetchall()


def add_tags(ctx: RequestContext, conn: sqlite3.Connection, artifact_id: str, added: Iterable[str]) -> None:
    """Add tags that the version does not have yet."""
    conn.executemany(
        "INSERT OR IGNORE INTO artifact_tags VALUES (?, ?, ?)",
        [(ctx.ids.new("Tag"), artifact_id, name) for name in added],
    )


def _replace_aliases(
    ctx: RequestContext, conn: sqlite3.Connection, artifact: sqlite3.Row, wanted: list[str]
) -> None:
    membership = memberships.in_collection(conn, artifact["collection_id"], artifact["id"])
    if membership is None:
        raise GraphQLError("cannot set aliases of an artifact version that is not committed.")
    held = [row["alias"] for row in aliases.of_membership(conn, membership["id"])]
    aliases.remove(ctx, conn, membership, [alias for alias in held if alias not in wanted], "edited")
    aliases.assign(ctx, conn, membership, wanted, "edited")
