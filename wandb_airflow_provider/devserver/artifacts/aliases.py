"""
Aliases: names in a collection that point to one version each.

Every change is written to a history: what, from which version, to which, who, why and when.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from wandb_airflow_provider.devserver.artifacts import collections, protection
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import RequestContext

LATEST = "latest"


def assign(
    ctx: RequestContext, conn: sqlite3.Connection, membership: sqlite3.Row, added: Iterable[str], reason: str
) -> None:
    """
    Point aliases to a version, taking them from whichever version of the collection holds them now.

    :param reason: For the history: ``logged``, ``linked`` or ``edited``.
    :raises GraphQLError: 403 if one would change that is protected, and whoever asks is no admin of the registry.
    """
    for alias in dict.fromkeys(added):
        holder = conn.execute(
            "SELECT m.* FROM artifact_aliases a JOIN artifact_memberships m ON m.id = a.membership_id"
            " WHERE a.collection_id = ? AND a.alias = ?",
            (membership["collection_id"], alias),
        ).fetchone()
        if holder is not None and holder["id"] == membership["id"]:
            continue
        action = "give it" if holder is None else "move it"
        protection.require_allowed(ctx, conn, membership["collection_id"], [alias], action)
        conn.execute(
            "INSERT INTO artifact_aliases VALUES (?, ?, ?, ?, ?) ON CONFLICT (collection_id, alias) DO UPDATE"
            " SET membership_id = excluded.membership_id, created_at = excluded.created_at",
            (
                ctx.ids.new("ArtifactAlias"),
                membership["collection_id"],
                membership["id"],
                alias,
                stamp(ctx.now()),
            ),
        )
        _record(ctx, conn, alias, "added" if holder is None else "moved", holder, membership, reason)


def remove(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    membership: sqlite3.Row,
    removed: Iterable[str],
    reason: str,
) -> None:
    """
    Take aliases from a version; one that meanwhile points elsewhere stays there.

    :param reason: For the history: ``edited``, ``unlinked`` or ``deleted``.
    :raises GraphQLError: 403 if one of them is protected, and whoever asks is no admin of the registry.
    """
    held = {row["alias"] for row in of_membership(conn, membership["id"])}
    gone = [alias for alias in dict.fromkeys(removed) if alias in held]
    protection.require_allowed(ctx, conn, membership["collection_id"], gone, "take it away")
    for alias in gone:
        conn.execute(
            "DELETE FROM artifact_aliases WHERE membership_id = ? AND alias = ?", (membership["id"], alias)
        )
        _record(ctx, conn, alias, "removed", membership, None, reason)


def of_membership(conn: sqlite3.Connection, membership_id: str) -> list[sqlite3.Row]:
    """Return the aliases of one version in one collection, oldest first."""
    return conn.execute(
        "SELECT * FROM artifact_aliases WHERE membership_id = ? ORDER BY created_at, rowid", (membership_id,)
    ).fetchall()


def of_artifact(conn: sqlite3.Connection, artifact_id: str) -> list[sqlite3.Row]:
    """Return the aliases of a version in all collections that it is in."""
    return conn.execute(
        "SELECT a.* FROM artifact_aliases a JOIN artifact_memberships m ON m.id = a.membership_id"
        " WHERE m.artifact_id = ? ORDER BY a.created_at, a.rowid",
        (artifact_id,),
    ).fetchall()


def of_collection(conn: sqlite3.Connection, collection_id: str) -> list[sqlite3.Row]:
    """Return all aliases of a collection, oldest first."""
    return conn.execute(
        "SELECT * FROM artifact_aliases WHERE collection_id = ? ORDER BY created_at, rowid", (collection_id,)
    ).fetchall()


def _record(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    alias: str,
    action: str,
    before: sqlite3.Row | None,
    after: sqlite3.Row | None,
    reason: str,
) -> None:
    one = after or before
    assert one is not None
    conn.execute(
        "INSERT INTO artifact_alias_events (collection_id, alias, action, previous_artifact_id, previous_version,"
        " artifact_id, version, user, reason, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            one["collection_id"],
            alias,
            action,
            before["artifact_id"] if before else None,
            before["version"] if before else None,
            after["artifact_id"] if after else None,
            after["version"] if after else None,
            ctx.user.username,
            reason,
            stamp(ctx.now()),
        ),
    )
    collections.touch(ctx, conn, one["collection_id"])
