"""Logging of versions: created pending, filled by uploads, committed; content that is there already is not repeated."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import (
    aliases,
    collections,
    edges,
    lifetimes,
    manifests,
    memberships,
    names,
    versions,
)
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import RequestContext


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
        versions.add_tags(ctx, conn, row["id"], tag_names)
    else:
        _log_again(ctx, conn, row, wanted, tag_names)
    if args.get("clientID"):
        conn.execute("INSERT OR REPLACE INTO artifact_clients VALUES (?, ?)", (args["clientID"], row["id"]))
    if run is not None:
        edges.add_output(ctx, conn, run["id"], row["id"])
    return row


def commit(ctx: RequestContext, conn: sqlite3.Connection, artifact: sqlite3.Row) -> sqlite3.Row:
    """
    Give a pending version its number, its content and its aliases; a committed one stays as it is.

    Content that its collection has already becomes no second version, whatever it was put together from.
    """
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
    same = _committed(conn, artifact["collection_id"], digest)
    if same is not None:
        return _merge(ctx, conn, artifact, same)
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
    return versions.get(conn, artifact["id"])


def _existing(
    conn: sqlite3.Connection, collection: sqlite3.Row, args: Mapping[str, Any]
) -> sqlite3.Row | None:
    if args.get("clientID"):
        row = versions.of_client(conn, args["clientID"])
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
        return _committed(conn, collection["id"], args["digest"])
    return None


def _committed(conn: sqlite3.Connection, collection_id: str, digest: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM artifacts WHERE collection_id = ? AND digest = ? AND state = 'COMMITTED'"
        " ORDER BY version DESC LIMIT 1",
        (collection_id, digest),
    ).fetchone()
    return row


def _log_again(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    artifact: sqlite3.Row,
    wanted: list[str],
    tag_names: list[str],
) -> None:
    versions.add_tags(ctx, conn, artifact["id"], tag_names)
    if artifact["state"] == "PENDING":
        requested = dict.fromkeys([*json.loads(artifact["requested_aliases"]), *wanted])
        conn.execute(
            "UPDATE artifacts SET requested_aliases = ? WHERE id = ?",
            (json.dumps(list(requested)), artifact["id"]),
        )
        return
    membership = memberships.in_collection(conn, artifact["collection_id"], artifact["id"])
    assert membership is not None
    aliases.assign(ctx, conn, membership, wanted, "logged")


def _merge(
    ctx: RequestContext, conn: sqlite3.Connection, pending: sqlite3.Row, same: sqlite3.Row
) -> sqlite3.Row:
    wanted = [*json.loads(pending["requested_aliases"]), aliases.LATEST]
    _log_again(ctx, conn, same, wanted, [tag["name"] for tag in versions.tags(conn, pending["id"])])
    edges.move(conn, pending["id"], same["id"])
    conn.execute(
        "UPDATE artifact_clients SET artifact_id = ? WHERE artifact_id = ?", (same["id"], pending["id"])
    )
    conn.execute(
        "UPDATE artifacts SET state = 'DELETED', same_as = ?, updated_at = ? WHERE id = ?",
        (same["id"], stamp(ctx.now()), pending["id"]),
    )
    return versions.get(conn, same["id"])


def _insert(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    collection: sqlite3.Row,
    run: sqlite3.Row | None,
    args: Mapping[str, Any],
    metadata: str | None,
    wanted: list[str],
) -> sqlite3.Row:
    ttl_seconds, ttl_inherited = lifetimes.parse_seconds(args.get("ttlDurationSeconds") or lifetimes.INHERIT)
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
    lifetimes.schedule(conn, versions.get(conn, artifact_id))
    return versions.get(conn, artifact_id)
