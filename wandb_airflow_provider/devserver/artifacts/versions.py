"""Versions of artifacts: created pending, filled, committed, updated, deleted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import (
    aliases,
    collections,
    edges,
    manifests,
    memberships,
    names,
)
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext

_TTL_INHERIT = -1
TTL_DISABLED = -2


def find(conn: sqlite3.Connection, artifact_id: str) -> sqlite3.Row | None:
    """Return a version by id, deleted ones included."""
    row: sqlite3.Row | None = conn.execute("SELECT * FROM artifacts WHERE id = ?", (artifact_id,)).fetchone()
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


def create(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    collection: sqlite3.Row,
    run: sqlite3.Row | None,
    args: Mapping[str, Any],
) -> sqlite3.Row:
    """
    Return the version to fill: a new pending one, or the committed one that has this content already.

    :param args: The fields of ``CreateArtifactInput``.
    """
    wanted = [names.check_alias(item["alias"]) for item in args.get("aliases") or ()]
    tag_names = names.check_tags(args.get("tags"))
    metadata = names.check_metadata(args.get("metadata"))
    row = _existing(conn, collection, args)
    if row is None:
        row = _insert(ctx, conn, collection, run, args, metadata, wanted)
        add_tags(ctx, conn, row["id"], tag_names)
    elif row["state"] == "COMMITTED":
        membership = memberships.in_collection(conn, collection["id"], row["id"])
        assert membership is not None
        aliases.assign(ctx, conn, membership, wanted, "logged")
        add_tags(ctx, conn, row["id"], tag_names)
    if args.get("clientID"):
        conn.execute("INSERT OR REPLACE INTO artifact_clients VALUES (?, ?)", (args["clientID"], row["id"]))
    if run is not None:
        edges.add_output(ctx, conn, run["id"], row["id"])
    return row


def commit(ctx: RequestContext, conn: sqlite3.Connection, artifact: sqlite3.Row) -> sqlite3.Row:
    """Give a pending version its number, its content and its aliases; a committed one stays as it is."""
    if artifact["state"] == "COMMITTED":
        return artifact
    manifests.require_pending(artifact)
    collections.get_ready(conn, artifact["collection_id"])
    manifest, entries = manifests.assemble(ctx, conn, artifact)
    digest = (
        manifests.logical_digest(entries)
        if artifact["digest_algorithm"] == manifests.MD5
        else artifact["digest"]
    )
    manifests.write_entries(conn, artifact["id"], entries)
    membership = memberships.add(ctx, conn, artifact["collection_id"], artifact["id"])
    conn.execute(
        "UPDATE artifacts SET state = 'COMMITTED', version = ?, digest = ?, size = ?, file_count = ?,"
        " commit_hash = ?, manifest_id = ?, updated_at = ? WHERE id = ?",
        (
            membership["version"],
            digest,
            sum(int(entry.get("size") or 0) for entry in entries.values()),
            len(entries),
            ctx.ids.token(20),
            manifest["id"],
            stamp(ctx.now()),
            artifact["id"],
        ),
    )
    wanted = [*json.loads(artifact["requested_aliases"]), aliases.LATEST]
    aliases.assign(ctx, conn, membership, wanted, "logged")
    return get(conn, artifact["id"])


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
        ttl_seconds, ttl_inherited = _ttl(args["ttlDurationSeconds"])
    conn.execute(
        "UPDATE artifacts SET description = coalesce(?, description), metadata = coalesce(?, metadata),"
        " ttl_seconds = ?, ttl_inherited = ?, updated_at = ? WHERE id = ?",
        (args.get("description"), metadata, ttl_seconds, ttl_inherited, stamp(ctx.now()), artifact["id"]),
    )
    add_tags(ctx, conn, artifact["id"], names.check_tags(args.get("tagsToAdd")))
    conn.executemany(
        "DELETE FROM artifact_tags WHERE artifact_id = ? AND name = ?",
        [(artifact["id"], name) for name in names.check_tags(args.get("tagsToDelete"))],
    )
    if args.get("aliases") is not None:
        _replace_aliases(ctx, conn, artifact, [names.check_alias(item["alias"]) for item in args["aliases"]])
    return get(conn, artifact["id"])


def delete(
    ctx: RequestContext, conn: sqlite3.Connection, artifact: sqlite3.Row, delete_aliases: bool
) -> sqlite3.Row:
    """Delete a version and its links; its number is not used again and its files stay for other versions."""
    require_not_deleted(artifact)
    held = [row["alias"] for row in aliases.of_artifact(conn, artifact["id"])]
    if held and not delete_aliases:
        raise GraphQLError(
            f"cannot delete artifact version v{artifact['version']}: it has the aliases"
            f" {', '.join(map(repr, held))}. Remove them first, or delete with delete_aliases=True."
        )
    for membership in memberships.of_artifact(conn, artifact["id"]):
        memberships.remove(ctx, conn, membership, "deleted")
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


def _existing(
    conn: sqlite3.Connection, collection: sqlite3.Row, args: Mapping[str, Any]
) -> sqlite3.Row | None:
    if args.get("clientID"):
        row = of_client(conn, args["clientID"])
        if row is not None and row["state"] != "DELETED" and row["collection_id"] == collection["id"]:
            return row
    if args.get("distributedID"):
        # Each part of a distributed version has a digest of its own: none of them names the whole content.
        found: sqlite3.Row | None = conn.execute(
            "SELECT * FROM artifacts WHERE collection_id = ? AND distributed_id = ? AND state = 'PENDING'",
            (collection["id"], args["distributedID"]),
        ).fetchone()
        return found
    if args.get("enableDigestDeduplication"):
        same: sqlite3.Row | None = conn.execute(
            "SELECT * FROM artifacts WHERE collection_id = ? AND digest = ? AND state = 'COMMITTED'"
            " ORDER BY version DESC LIMIT 1",
            (collection["id"], args["digest"]),
        ).fetchone()
        return same
    return None


def _insert(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    collection: sqlite3.Row,
    run: sqlite3.Row | None,
    args: Mapping[str, Any],
    metadata: str | None,
    wanted: list[str],
) -> sqlite3.Row:
    ttl_seconds, ttl_inherited = _ttl(args.get("ttlDurationSeconds") or _TTL_INHERIT)
    artifact_id = ctx.ids.new("Artifact")
    now = stamp(ctx.now())
    values = {
        "id": artifact_id,
        "collection_id": collection["id"],
        "state": "PENDING",
        "digest": args["digest"],
        "digest_algorithm": args.get("digestAlgorithm") or manifests.MD5,
        "description": args.get("description"),
        "metadata": metadata,
        "ttl_seconds": ttl_seconds,
        "ttl_inherited": ttl_inherited,
        "history_step": args.get("historyStep"),
        "distributed_id": args.get("distributedID"),
        "requested_aliases": json.dumps(wanted),
        "created_by_run": run["id"] if run is not None else None,
        "created_by_user": ctx.user.username,
        "created_at": now,
        "updated_at": now,
    }
    columns, marks = ", ".join(values), ", ".join("?" * len(values))
    conn.execute(f"INSERT INTO artifacts ({columns}) VALUES ({marks})", tuple(values.values()))  # noqa: S608
    return get(conn, artifact_id)


def _replace_aliases(
    ctx: RequestContext, conn: sqlite3.Connection, artifact: sqlite3.Row, wanted: list[str]
) -> None:
    membership = memberships.in_collection(conn, artifact["collection_id"], artifact["id"])
    if membership is None:
        raise GraphQLError("cannot set aliases of an artifact version that is not committed.")
    held = [row["alias"] for row in aliases.of_membership(conn, membership["id"])]
    aliases.remove(ctx, conn, membership, [alias for alias in held if alias not in wanted], "edited")
    aliases.assign(ctx, conn, membership, wanted, "edited")


def _ttl(seconds: int) -> tuple[int | None, bool]:
    if seconds == _TTL_INHERIT:
        return None, True
    if seconds == TTL_DISABLED:
        return None, False
    if seconds <= 0:
        raise GraphQLError(f"a time to live must be positive, not {seconds} seconds.")
    return seconds, False
