"""Content of versions: manifests and files, up and down."""

from __future__ import annotations

import mimetypes
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from wandb_airflow_provider.devserver.artifacts import contents, manifests
from wandb_airflow_provider.devserver.artifacts.access import require_artifact_write, require_download
from wandb_airflow_provider.devserver.blobs import Blob
from wandb_airflow_provider.devserver.clock import api_time
from wandb_airflow_provider.devserver.graphql.registry import (
    GraphQLError,
    RequestContext,
    connection,
    field,
    mutation,
    page_bounds,
)
from wandb_airflow_provider.devserver.ids import global_id
from wandb_airflow_provider.devserver.uploads import on_upload, sign_download, sign_upload

Args = dict[str, Any]
Parent = Mapping[str, Any]

_UPLOAD = "artifact-file"
_NAMES_AT_ONCE = 500


@mutation("createArtifactManifest")
def create_manifest(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Announce a manifest and hand out where to upload it."""
    with ctx.store.write() as conn:
        row = require_artifact_write(ctx, conn, args["artifactID"])
        manifest = manifests.create(
            ctx,
            conn,
            row,
            kind=args.get("type") or manifests.FULL,
            digest=args.get("digest") or "",
            base_artifact_id=_base(ctx, conn, args),
        )
    node = _manifest_node(ctx, manifest)
    return {"__typename": "CreateArtifactManifestPayload", "artifactManifest": node}


@mutation("updateArtifactManifest")
def update_manifest(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Set the digest of a manifest and hand out where to upload it."""
    with ctx.store.write() as conn:
        manifest = manifests.get(conn, args["artifactManifestID"])
        manifests.require_pending(require_artifact_write(ctx, conn, manifest["artifact_id"]))
        manifest = manifests.announce(conn, manifest, args.get("digest"), _base(ctx, conn, args))
    node = _manifest_node(ctx, manifest)
    return {"__typename": "UpdateArtifactManifestPayload", "artifactManifest": node}


@mutation("createArtifactFiles")
def create_files(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Hand out where to upload files, in the order asked for; none is needed for content sent to where one reads."""
    specs = args["artifactFiles"]
    with ctx.store.read() as conn:
        for artifact_id in dict.fromkeys(spec["artifactID"] for spec in specs):
            manifests.require_pending(require_artifact_write(ctx, conn, artifact_id))
        md5s = [manifests.digest_to_hex(spec["md5"]) for spec in specs]
        missing = contents.missing(ctx, conn, md5s)
    files = [
        _upload_node(ctx, spec, md5, needed=md5 in missing) for spec, md5 in zip(specs, md5s, strict=True)
    ]
    return {
        "__typename": "CreateArtifactFilesPayload",
        "files": connection(files, {}, typename="FileConnection"),
    }


@on_upload(_UPLOAD)
def file_uploaded(ctx: RequestContext, purpose: Mapping[str, Any], blob: Blob) -> None:
    """Accept the content of a file if it is what was announced."""
    if blob.md5 != purpose["md5"]:
        raise GraphQLError(
            f"the file {purpose['name']!r} has MD5 {blob.md5}, not {purpose['md5']} as announced."
        )
    with ctx.store.write() as conn:
        contents.sent_to_artifact(conn, purpose["artifact"], blob)


@field("Artifact", "currentManifest")
def current_manifest(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the manifest of a committed version."""
    if parent["_manifest_id"] is None:
        return None
    with ctx.store.read() as conn:
        return _manifest_node(ctx, manifests.get(conn, parent["_manifest_id"]))


@field("Artifact", "files")
def artifact_files(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the files and references of a version."""
    return _files(ctx, parent["id"], args)


@field("ArtifactCollectionMembership", "files")
def membership_files(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the files and references of a version."""
    return _files(ctx, parent["_artifact_id"], args)


@field("Artifact", "filesByManifestEntries")
def files_by_entries(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the files of a version that a client names."""
    wanted = [entry["name"] for entry in args.get("entries") or ()]
    return _files(ctx, parent["id"], {"names": wanted})


def _files(ctx: RequestContext, artifact_id: str, args: Args) -> dict[str, Any]:
    with ctx.store.read() as conn:
        updated_at = require_download(ctx, conn, artifact_id)["updated_at"]
        if args.get("names") is not None:
            rows = _named(conn, artifact_id, list(dict.fromkeys(args["names"])))
            found = [_file_node(ctx, row, updated_at) for row in rows]
            return connection(found, args, typename="FileConnection")
        query = "SELECT count(*) FROM artifact_entries WHERE artifact_id = ?"
        total = conn.execute(query, (artifact_id,)).fetchone()[0]
        start, stop = page_bounds(args, total)
        rows = conn.execute(
            "SELECT * FROM artifact_entries WHERE artifact_id = ? ORDER BY path LIMIT ? OFFSET ?",
            (artifact_id, stop - start, start),
        ).fetchall()
    return connection([_file_node(ctx, row, updated_at) for row in rows], args, total, "FileConnection")


def _named(conn: sqlite3.Connection, artifact_id: str, wanted: Sequence[str]) -> list[sqlite3.Row]:
    found: list[sqlite3.Row] = []
    for start in range(0, len(wanted), _NAMES_AT_ONCE):
        part = wanted[start : start + _NAMES_AT_ONCE]
        marks = ", ".join("?" * len(part))
        query = f"SELECT * FROM artifact_entries WHERE artifact_id = ? AND path IN ({marks})"  # noqa: S608 - marks
        found += conn.execute(query, (artifact_id, *part)).fetchall()
    return sorted(found, key=lambda row: row["path"])


def _manifest_node(ctx: RequestContext, manifest: sqlite3.Row) -> dict[str, Any]:
    stored = manifest["blob_md5"]
    file: dict[str, Any] = {
        "__typename": "File",
        "id": global_id("File", manifest["id"]),
        "name": "wandb_manifest.json",
        "directUrl": sign_download(ctx, stored, "wandb_manifest.json") if stored else None,
        "uploadUrl": manifests.upload_url(ctx, manifest) if not stored else None,
        "uploadHeaders": [],
    }
    return {
        "__typename": "ArtifactManifest",
        "id": manifest["id"],
        "digest": manifest["digest"],
        "type": manifest["type"],
        "file": file,
    }


def _base(ctx: RequestContext, conn: sqlite3.Connection, args: Args) -> str | None:
    """Return the id of the version that a manifest builds on, whose content the new version will have."""
    if not args.get("baseArtifactID"):
        return None
    return str(require_download(ctx, conn, args["baseArtifactID"])["id"])


def _upload_node(ctx: RequestContext, spec: Mapping[str, Any], md5: str, *, needed: bool) -> dict[str, Any]:
    purpose = {"kind": _UPLOAD, "artifact": spec["artifactID"], "name": spec["name"], "md5": md5}
    return {
        "__typename": "File",
        "id": global_id("ArtifactFile", spec["artifactID"], spec["name"]),
        "name": spec["name"],
        "displayName": spec["name"],
        "storagePath": _storage_path(md5, spec["name"]),
        "uploadUrl": sign_upload(ctx, purpose) if needed else None,
        "uploadHeaders": [],
        "uploadMultipartUrls": None,
        "artifact": {"__typename": "Artifact", "id": spec["artifactID"]},
    }


def _file_node(ctx: RequestContext, row: sqlite3.Row, updated_at: str) -> dict[str, Any]:
    path, reference = row["path"], row["ref"]
    md5 = None if reference is not None else manifests.digest_to_hex(row["digest"])
    url = reference if md5 is None else sign_download(ctx, md5, path)
    return {
        "__typename": "File",
        "id": global_id("ArtifactFile", row["artifact_id"], path),
        "name": path,
        "displayName": path,
        "directUrl": url,
        "_url": url,
        "sizeBytes": row["size"],
        "storagePath": None if md5 is None else _storage_path(md5, path),
        "mimetype": mimetypes.guess_type(path)[0] or "application/octet-stream",
        "updatedAt": api_time(updated_at),
        "digest": row["digest"],
        "md5": None if md5 is None else row["digest"],
    }


def _storage_path(md5: str, path: str) -> str:
    return f"wandb_artifacts/{md5[:2]}/{md5[2:]}/{path.rsplit('/', 1)[-1]}"
