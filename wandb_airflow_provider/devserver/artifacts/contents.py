"""
Which content has been sent to which project: whoever reads the project need not send it again.

A digest alone gives nobody the content. To others it is as if it were not stored, until they send it themselves.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from wandb_airflow_provider.devserver.artifacts import roles
from wandb_airflow_provider.devserver.blobs import Blob, hex_to_base64
from wandb_airflow_provider.devserver.graphql.registry import RequestContext
from wandb_airflow_provider.devserver.store import register_schema

register_schema("""
CREATE TABLE IF NOT EXISTS project_contents (
    digest TEXT NOT NULL,
    project_id INTEGER NOT NULL,
    PRIMARY KEY (digest, project_id)
) WITHOUT ROWID;
""")

_SENT = "SELECT digest, project_id FROM project_contents WHERE digest IN (SELECT value FROM json_each(?))"
# For what is linked to where it was not sent to: reads the entries of all versions, as nothing is indexed by digest.
_LINKED = (
    "SELECT DISTINCT e.digest, c.project_id FROM artifact_entries e"
    " JOIN artifact_memberships m ON m.artifact_id = e.artifact_id"
    " JOIN artifact_collections c ON c.id = m.collection_id"
    " WHERE e.ref IS NULL AND e.digest IN (SELECT value FROM json_each(?))"
)


def sent_to_artifact(conn: sqlite3.Connection, artifact_id: str, blob: Blob) -> None:
    """Note that content was sent for a version, unless the version is gone."""
    conn.execute(
        "INSERT OR IGNORE INTO project_contents SELECT ?, c.project_id FROM artifacts a"
        " JOIN artifact_collections c ON c.id = a.collection_id WHERE a.id = ?",
        (blob.md5_base64, artifact_id),
    )


def sent_to_run(conn: sqlite3.Connection, run: int, blob: Blob) -> None:
    """Note that content was sent as a file of a run (``pk``)."""
    conn.execute(
        "INSERT OR IGNORE INTO project_contents SELECT ?, p.internal_id FROM runs r"
        " JOIN projects p ON p.entity = r.entity AND p.name = r.project WHERE r.pk = ?",
        (blob.md5_base64, run),
    )


def missing(ctx: RequestContext, conn: sqlite3.Connection, md5s: Collection[str]) -> set[str]:
    """
    Return those of some contents (hex MD5s) that whoever asks has to send.

    The others are stored, and were sent to a project or are in a version that whoever asks may download from.
    """
    left = {hex_to_base64(md5): md5 for md5 in md5s if ctx.blobs.exists(md5)}
    absent = set(md5s) - set(left.values())
    readable: dict[int, bool] = {}
    for query in (_SENT, _LINKED):
        rows = conn.execute(query, (json.dumps(sorted(left)),)).fetchall() if left else []
        for row in rows:
            project_id = row["project_id"]
            if project_id not in readable:
                readable[project_id] = _may_download(ctx, conn, project_id)
            if readable[project_id]:
                left.pop(row["digest"], None)
    return absent | set(left.values())


def _may_download(ctx: RequestContext, conn: sqlite3.Connection, project_id: int) -> bool:
    row = conn.execute("SELECT * FROM projects WHERE internal_id = ?", (project_id,)).fetchone()
    return row is not None and roles.may_download(ctx, conn, row)
