"""Files of runs: upload URLs, listings, downloads."""

from __future__ import annotations

import mimetypes
import posixpath
import sqlite3
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from wandb_airflow_provider.devserver.artifacts import contents
from wandb_airflow_provider.devserver.blobs import Blob, hex_to_base64
from wandb_airflow_provider.devserver.clock import api_time, stamp
from wandb_airflow_provider.devserver.graphql.registry import (
    GraphQLError,
    RequestContext,
    connection,
    field,
    mutation,
    page_bounds,
)
from wandb_airflow_provider.devserver.ids import decode_global_id, global_id
from wandb_airflow_provider.devserver.runs_table import get_run
from wandb_airflow_provider.devserver.store import register_schema
from wandb_airflow_provider.devserver.uploads import on_upload, sign_download, sign_upload

_KIND = "run_file"
_LONGEST_NAME = 1024
_NO_FILE = 0

register_schema("""
CREATE TABLE IF NOT EXISTS run_files (
    file_id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL REFERENCES runs (pk),
    name TEXT NOT NULL,
    md5 TEXT NOT NULL,
    size INTEGER NOT NULL,
    mimetype TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (run, name)
);
""")


@on_upload(_KIND)
def store_file(ctx: RequestContext, purpose: Mapping[str, Any], blob: Blob) -> None:
    """Make an uploaded file part of its run; a later upload under the same name replaces it."""
    mimetype = mimetypes.guess_type(purpose["name"])[0] or "application/octet-stream"
    with ctx.store.write() as conn:
        conn.execute(
            "INSERT INTO run_files (run, name, md5, size, mimetype, updated_at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (run, name) DO UPDATE SET md5 = excluded.md5, size = excluded.size,"
            " updated_at = excluded.updated_at",
            (purpose["run"], purpose["name"], blob.md5, blob.size, mimetype, stamp(ctx.now())),
        )
        contents.sent_to_run(conn, purpose["run"], blob)


def find_file(ctx: RequestContext, entity: str, project: str, run: str, name: str) -> tuple[str, str]:
    """
    Return the hex MD5 and the MIME type of a file of a run.

    :raises GraphQLError: 404 if there is no such run or file, or the account may not read it.
    """
    with ctx.store.read() as conn:
        row = get_run(conn, entity, project, run) if ctx.user.may_read(entity) else None
        file = None if row is None else _file(conn, row["pk"], name)
    if file is None:
        raise GraphQLError(f"run '{entity}/{project}/{run}' has no file {name!r}.", 404)
    return file["md5"], file["mimetype"]


def _file(conn: sqlite3.Connection, run: int, name: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM run_files WHERE run = ? AND name = ?", (run, name)
    ).fetchone()
    return row


@mutation("createRunFiles")
def create_run_files(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Hand out upload URLs for files of a run."""
    row = _run(ctx, args)
    files = []
    for name in args.get("files") or []:
        _check_name(name)
        url = sign_upload(ctx, {"kind": _KIND, "run": row["pk"], "name": name})
        files.append({"__typename": "RunFile", "name": name, "uploadUrl": url})
    return {"__typename": "CreateRunFilesPayload", "runID": row["id"], "uploadHeaders": [], "files": files}


@mutation("markRunFilesUploaded")
def mark_run_files_uploaded(
    ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]
) -> dict[str, Any]:
    """Confirm uploads; they are part of the run as soon as their bytes are here."""
    _run(ctx, args)
    return {"__typename": "MarkRunFilesUploadedPayload", "success": True}


@mutation("deleteFiles")
def delete_files(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Delete files of runs by their global ids."""
    with ctx.store.write() as conn:
        for file_id in args.get("files") or []:
            kind, *rest = decode_global_id(file_id) or [""]
            row = conn.execute(
                "SELECT runs.entity, file_id FROM run_files JOIN runs ON runs.pk = run_files.run WHERE file_id = ?",
                (int(rest[0]) if kind == "File" else -1,),
            ).fetchone()
            if row is None or not ctx.user.may_read(row["entity"]):
                raise GraphQLError(f"there is no run file with the id {file_id!r}.", 404)
            ctx.user.require_write(row["entity"])
            conn.execute("DELETE FROM run_files WHERE file_id = ?", (row["file_id"],))
    return {"__typename": "DeleteFilesPayload", "success": True}


def _check_name(name: str) -> None:
    if not 0 < len(name) <= _LONGEST_NAME or "\0" in name:
        raise GraphQLError(
            f"invalid file name {name[:80]!r}: it has 1 to {_LONGEST_NAME} characters, none of them NUL."
        )
    if name.startswith("/") or ".." in name.split("/"):
        raise GraphQLError(f"invalid file name {name!r}: it must stay inside the run's folder.")


def _run(ctx: RequestContext, args: Mapping[str, Any]) -> sqlite3.Row:
    entity = args.get("entityName") or ctx.user.entity
    ctx.user.require_write(entity)
    with ctx.store.read() as conn:
        row = get_run(conn, entity, args["projectName"], args["runName"])
    if row is None:
        raise GraphQLError(f"run '{entity}/{args['projectName']}/{args['runName']}' does not exist.", 404)
    return row


@field("Run", "fileCount")
def file_count(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> int:
    """Return how many files a run has."""
    with ctx.store.read() as conn:
        return int(
            conn.execute("SELECT count(*) FROM run_files WHERE run = ?", (parent["_pk"],)).fetchone()[0]
        )


@field("Run", "files")
def files(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """
    List files of a run by name: all, those like a ``pattern`` of SQL's LIKE, or those in ``names``.

    As at W&B, each of ``names`` is answered in its place, one that the run does not have with the MD5 ``0``: by that
    ``wandb.restore`` knows that there is none.
    """
    names = [name for name in args.get("names") or [] if name is not None]
    if names:
        with ctx.store.read() as conn:
            found = [(name, _asked_for(conn, parent["_pk"], name)) for name in names]
        nodes = [
            _absent(ctx, parent, name) if row is None else _node(ctx, parent, row) for name, row in found
        ]
        return connection(nodes, args, typename="FileConnection")
    condition, params = "run = ?", [parent["_pk"]]
    if args.get("pattern"):
        condition += " AND name LIKE ?"
        params.append(args["pattern"])
    with ctx.store.read() as conn:
        total = conn.execute(f"SELECT count(*) FROM run_files WHERE {condition}", params).fetchone()[0]  # noqa: S608
        start, stop = page_bounds(args, total)
        rows = conn.execute(
            f"SELECT * FROM run_files WHERE {condition} ORDER BY name LIMIT ? OFFSET ?",  # noqa: S608
            (*params, stop - start, start),
        ).fetchall()
    nodes = [_node(ctx, parent, row) for row in rows]
    return connection(nodes, args, total, "FileConnection")


def _asked_for(conn: sqlite3.Connection, run: int, name: str) -> sqlite3.Row | None:
    # ``wandb verify`` asks for "./name" as well.
    return _file(conn, run, name) or _file(conn, run, posixpath.normpath(name))


def _node(ctx: RequestContext, run: Mapping[str, Any], row: sqlite3.Row) -> dict[str, Any]:
    return {
        "__typename": "File",
        "id": global_id("File", row["file_id"]),
        "name": row["name"],
        "sizeBytes": row["size"],
        "mimetype": row["mimetype"],
        "md5": hex_to_base64(row["md5"]),
        "updatedAt": api_time(row["updated_at"]),
        "directUrl": sign_download(ctx, row["md5"], row["name"]),
        "_url": _address(ctx, run, row["name"]),
        "_run": run["_pk"],
        "_entity": run["_entity"],
    }


def _absent(ctx: RequestContext, run: Mapping[str, Any], name: str) -> dict[str, Any]:
    address = _address(ctx, run, name)
    return {
        "__typename": "File",
        "id": global_id("File", _NO_FILE),
        "name": name,
        "sizeBytes": 0,
        "mimetype": "",
        "md5": "0",
        "updatedAt": None,
        "directUrl": address,
        "_url": address,
        "_run": run["_pk"],
        "_entity": run["_entity"],
    }


def _address(ctx: RequestContext, run: Mapping[str, Any], name: str) -> str:
    path = "/".join(quote(part) for part in (run["_entity"], run["_project"], run["name"], *name.split("/")))
    return f"{ctx.base_url}/files/{path}"


@field("File", "url")
def url(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> str:
    """
    Return where a file can be read with the API key, or, with ``upload``, written without it.

    :raises GraphQLError: 403 if an upload is asked for by somebody who may not write.
    """
    if args.get("upload"):
        ctx.user.require_write(parent["_entity"])
        _check_name(parent["name"])
        return sign_upload(ctx, {"kind": _KIND, "run": parent["_run"], "name": parent["name"]})
    address: str = parent["_url"]
    return address
