"""Manifests: what a version contains. Uploaded as JSON, checked and unfolded into rows when the version commits."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import contents
from wandb_airflow_provider.devserver.audit import valid_text
from wandb_airflow_provider.devserver.blobs import Blob, base64_to_hex
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.uploads import on_upload, sign_upload

FULL = "FULL"
INCREMENTAL = "INCREMENTAL"
PATCH = "PATCH"
MD5 = "MANIFEST_MD5"
_DIGEST_HEADER = b"wandb-artifact-manifest-v1\n"
_UPLOAD = "artifact-manifest"

_TEXTS = ("digest", "ref", "birthArtifactID")
_LARGEST_FILE = 1 << 50

Entries = dict[str, dict[str, Any]]


def create(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    artifact: sqlite3.Row,
    *,
    kind: str,
    digest: str,
    base_artifact_id: str | None,
) -> sqlite3.Row:
    """Announce a manifest of a pending version; its content is uploaded afterwards."""
    require_pending(artifact)
    if kind not in (FULL, INCREMENTAL, PATCH):
        raise GraphQLError(f"unknown manifest type {kind!r}; known: {FULL}, {INCREMENTAL}, {PATCH}.")
    manifest_id = ctx.ids.new("ArtifactManifest")
    conn.execute(
        "INSERT INTO artifact_manifests VALUES (?, ?, ?, ?, ?, NULL, ?)",
        (manifest_id, artifact["id"], kind, digest, base_artifact_id, stamp(ctx.now())),
    )
    return get(conn, manifest_id)


def get(conn: sqlite3.Connection, manifest_id: str) -> sqlite3.Row:
    """Return a manifest by id. Raises a 404 if there is none."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM artifact_manifests WHERE id = ?", (manifest_id,)
    ).fetchone()
    if row is None:
        raise GraphQLError(f"artifact manifest with id {manifest_id!r} not found.", 404)
    return row


def announce(
    conn: sqlite3.Connection, manifest: sqlite3.Row, digest: str | None, base_artifact_id: str | None
) -> sqlite3.Row:
    """Set the digest (base64 MD5) of the content that will be uploaded, and the version it builds on."""
    conn.execute(
        "UPDATE artifact_manifests SET digest = coalesce(?, digest), base_artifact_id = coalesce(?, base_artifact_id)"
        " WHERE id = ?",
        (digest, base_artifact_id, manifest["id"]),
    )
    return get(conn, manifest["id"])


def upload_url(ctx: RequestContext, manifest: sqlite3.Row) -> str:
    """Return the URL that takes the manifest's content, and only that content."""
    purpose = {"kind": _UPLOAD, "manifest": manifest["id"]}
    if manifest["digest"]:
        purpose["md5"] = digest_to_hex(manifest["digest"])
    return sign_upload(ctx, purpose)


@on_upload(_UPLOAD)
def store_manifest(ctx: RequestContext, purpose: Mapping[str, Any], blob: Blob) -> None:
    """Remember the content of a manifest."""
    with ctx.store.write() as conn:
        manifest = get(conn, purpose["manifest"])
        expected = digest_to_hex(manifest["digest"]) if manifest["digest"] else blob.md5
        if blob.md5 != expected:
            raise GraphQLError(f"the uploaded manifest has MD5 {blob.md5}, not {expected} as announced.")
        conn.execute("UPDATE artifact_manifests SET blob_md5 = ? WHERE id = ?", (blob.md5, manifest["id"]))


def assemble(
    ctx: RequestContext, conn: sqlite3.Connection, artifact: sqlite3.Row
) -> tuple[sqlite3.Row, Entries]:
    """
    Return the manifest that a version commits with and all its entries.

    Incremental manifests add to their base; patches of one distributed version add to each other, in order.
    The entries' files must have been uploaded, to where whoever commits may read them.
    """
    uploaded = conn.execute(
        "SELECT * FROM artifact_manifests WHERE artifact_id = ? AND blob_md5 IS NOT NULL ORDER BY rowid",
        (artifact["id"],),
    ).fetchall()
    if not uploaded:
        raise GraphQLError("cannot commit the artifact: its manifest was not uploaded.")
    last = uploaded[-1]
    document = _parse(ctx.blobs.read(last["blob_md5"]))
    if last["type"] == FULL:
        entries = _entries(document)
        _require_digest(artifact, entries)
        _require_files(ctx, conn, entries)
        return last, entries
    base: Entries = {}
    if last["type"] == INCREMENTAL and last["base_artifact_id"]:
        base = read_entries(conn, last["base_artifact_id"])
    entries = dict(base)
    for manifest in [row for row in uploaded if row["type"] == last["type"]]:
        entries |= _entries(_parse(ctx.blobs.read(manifest["blob_md5"])))
    _require_files(ctx, conn, entries, base)
    return _write_merged(ctx, conn, last, document, entries), entries


def logical_digest(entries: Entries) -> str:
    """Return the digest of a version with these entries, as clients compute it."""
    digest = hashlib.md5(_DIGEST_HEADER, usedforsecurity=False)
    for path in sorted(entries):
        digest.update(f"{path}:{entries[path]['digest']}\n".encode())
    return digest.hexdigest()


def write_entries(conn: sqlite3.Connection, artifact_id: str, entries: Entries) -> None:
    """Store the entries of a version."""
    conn.execute("DELETE FROM artifact_entries WHERE artifact_id = ?", (artifact_id,))
    conn.executemany(
        "INSERT INTO artifact_entries VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (
                artifact_id,
                path,
                entry["digest"],
                int(entry.get("size") or 0),
                entry.get("ref"),
                entry.get("birthArtifactID"),
                json.dumps(entry.get("extra") or {}),
            )
            for path, entry in entries.items()
        ),
    )


def read_entries(conn: sqlite3.Connection, artifact_id: str) -> Entries:
    """Return the entries of a version as its manifest writes them."""
    rows = conn.execute("SELECT * FROM artifact_entries WHERE artifact_id = ? ORDER BY path", (artifact_id,))
    return {row["path"]: _entry(row) for row in rows}


def require_pending(artifact: sqlite3.Row) -> None:
    """Refuse to change the content of a version that is committed or deleted."""
    if artifact["state"] != "PENDING":
        raise GraphQLError(
            f"the content of artifact version v{artifact['version']} cannot change:"
            f" it is {artifact['state'].lower()}."
        )


def digest_to_hex(digest: str) -> str:
    """Return a base64 MD5 in hex, or refuse it."""
    try:
        md5 = base64_to_hex(digest)
    except ValueError as error:
        raise GraphQLError(f"{digest!r} is not an MD5 in base64.") from error
    if len(md5) != 32:
        raise GraphQLError(f"{digest!r} is not an MD5 in base64.")
    return md5


def _entry(row: sqlite3.Row) -> dict[str, Any]:
    entry: dict[str, Any] = {"digest": row["digest"], "size": row["size"]}
    if row["ref"] is not None:
        entry["ref"] = row["ref"]
    if row["birth_artifact_id"] is not None:
        entry["birthArtifactID"] = row["birth_artifact_id"]
    extra = json.loads(row["extra"])
    if extra:
        entry["extra"] = extra
    return entry


def _parse(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GraphQLError(f"the artifact's manifest is not JSON: {error}.") from error
    if not isinstance(document, dict) or document.get("version") != 1:
        raise GraphQLError("the artifact's manifest is not of version 1.")
    return document


def _entries(document: Mapping[str, Any]) -> Entries:
    entries = document.get("contents")
    if not isinstance(entries, dict):
        raise GraphQLError("the artifact's manifest has no contents.")
    for path, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("digest"), str):
            raise GraphQLError(f"the artifact's manifest has no digest for {path!r}.")
        if path.startswith("/") or ".." in path.split("/"):
            raise GraphQLError(f"the artifact's manifest has a path outside of the artifact: {path!r}.")
        texts = [path, *(entry[name] for name in _TEXTS if entry.get(name) is not None)]
        if not all(isinstance(text, str) and valid_text(text) == text for text in texts):
            raise GraphQLError(
                f"the artifact's manifest has for {path!r} what is no text among {', '.join(_TEXTS)}."
            )
        size = entry.get("size") or 0
        if not isinstance(size, int) or not 0 <= size <= _LARGEST_FILE:
            raise GraphQLError(f"the artifact's manifest has the size {size!r} for {path!r}.")
    return entries


def _require_digest(artifact: sqlite3.Row, entries: Entries) -> None:
    if artifact["digest_algorithm"] == MD5 and logical_digest(entries) != artifact["digest"]:
        raise GraphQLError(
            f"cannot commit the artifact: its manifest has the digest {logical_digest(entries)}, but"
            f" {artifact['digest']} was announced."
        )


def _require_files(
    ctx: RequestContext, conn: sqlite3.Connection, entries: Entries, base: Entries | None = None
) -> None:
    # Whoever announced the base was asked for the right to read it.
    inherited = {md5 for md5 in _files(base or {}).values() if ctx.blobs.exists(md5)}
    files = _files(entries)
    needed = contents.missing(ctx, conn, set(files.values()) - inherited)
    missing = [path for path, md5 in files.items() if md5 in needed]
    if missing:
        shown = ", ".join(map(repr, missing[:5]))
        raise GraphQLError(f"cannot commit the artifact: {len(missing)} file(s) were not uploaded: {shown}.")


def _files(entries: Entries) -> dict[str, str]:
    """Return the hex MD5 of each entry that is a file rather than a reference."""
    return {path: digest_to_hex(entry["digest"]) for path, entry in entries.items() if not entry.get("ref")}


def _write_merged(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    last: sqlite3.Row,
    document: Mapping[str, Any],
    entries: Entries,
) -> sqlite3.Row:
    merged = {**document, "contents": {path: entries[path] for path in sorted(entries)}}
    blob = ctx.blobs.put(json.dumps(merged, separators=(",", ":")).encode())
    manifest_id = ctx.ids.new("ArtifactManifest")
    conn.execute(
        "INSERT INTO artifact_manifests VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            manifest_id,
            last["artifact_id"],
            FULL,
            blob.md5_base64,
            last["base_artifact_id"],
            blob.md5,
            stamp(ctx.now()),
        ),
    )
    return get(conn, manifest_id)
