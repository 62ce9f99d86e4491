"""What pages and tests read: collections, versions, aliases and their history, edges, contents."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver.artifacts import aliases, collections, expiry, memberships, versions
from wandb_airflow_provider.devserver.backend import Backend


@dataclass(frozen=True)
class CollectionRecord:
    """
    A collection of a project.

    :param kind: ``SEQUENCE`` (versions are logged here) or ``PORTFOLIO`` (versions are linked here).
    :param latest_version: Number of the newest version, or None if there is none.
    """

    id: str
    entity: str
    project: str
    name: str
    kind: str
    type: str
    description: str | None
    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    version_count: int
    latest_version: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class VersionRecord:
    """
    A version as one collection shows it.

    :param version: Its number in this collection.
    :param aliases: Its aliases in this collection.
    :param source: ``entity/project/name:vN`` where it was logged.
    :param added_at: When it was logged, or linked if ``is_link``.
    """

    artifact_id: str
    collection_id: str
    version: int
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    type: str
    digest: str
    description: str | None
    metadata: dict[str, Any]
    size_bytes: int
    file_count: int
    source: str
    is_link: bool
    added_by: str
    added_at: datetime


@dataclass(frozen=True)
class AliasChange:
    """
    One change of an alias.

    :param action: ``added``, ``moved`` or ``removed``.
    :param previous_version: Number of the version that held it before, in the collection.
    :param version: Number of the version that holds it since, or None if it was removed.
    :param reason: ``logged``, ``linked``, ``edited``, ``unlinked``, ``deleted`` or ``expired``.
    """

    at: datetime
    user: str
    collection: str
    alias: str
    action: str
    previous_version: int | None
    version: int | None
    previous_digest: str | None
    digest: str | None
    reason: str


@dataclass(frozen=True)
class EdgeRecord:
    """
    A run that put out or used a version; ``run_id`` is the storage id.

    :param kind: ``output`` or ``input``.
    :param used_through: ``entity/project`` in which a using run found the version, if it said so.
    """

    kind: str
    run_id: str
    artifact_id: str
    used_through: str | None
    at: datetime


@dataclass(frozen=True)
class EntryRecord:
    """
    A file or reference in a version.

    :param digest: Base64 MD5 of a file; whatever identifies the content of a reference.
    :param ref: Where the content is, or None if it is stored here.
    """

    path: str
    digest: str
    size_bytes: int
    ref: str | None


def list_collections(backend: Backend, entity: str, project: str) -> list[CollectionRecord]:
    """Return the collections of a project, by name."""
    with _read(backend) as conn:
        rows = conn.execute(
            f"{_COLLECTIONS} WHERE p.entity = ? AND p.name = ? AND c.state = 'READY' ORDER BY c.name",
            (entity, project),
        ).fetchall()
        return [_collection(conn, row) for row in rows]


def get_collection(backend: Backend, entity: str, project: str, name: str) -> CollectionRecord | None:
    """Return a collection by name, or None."""
    return next((item for item in list_collections(backend, entity, project) if item.name == name), None)


def list_versions(backend: Backend, collection_id: str) -> list[VersionRecord]:
    """Return the versions of a collection, newest first."""
    with _read(backend) as conn:
        return [_version(conn, row) for row in memberships.of_collection(conn, collection_id)]


def get_version(backend: Backend, collection_id: str, alias: str) -> VersionRecord | None:
    """Return the version of a collection that an alias or ``vN`` names, or None."""
    with _read(backend) as conn:
        row = memberships.find(conn, collection_id, alias)
        return None if row is None else _version(conn, row)


def list_places(backend: Backend, artifact_id: str) -> list[tuple[CollectionRecord, VersionRecord]]:
    """Return every collection that a version is in, its own sequence first, and the version as seen there."""
    found = []
    with _read(backend) as conn:
        for membership in memberships.of_artifact(conn, artifact_id):
            row = conn.execute(f"{_COLLECTIONS} WHERE c.id = ?", (membership["collection_id"],)).fetchone()
            found.append((_collection(conn, row), _version(conn, membership)))
    return found


def alias_history(
    backend: Backend, collection_id: str, alias: str | None = None, limit: int = 1000
) -> list[AliasChange]:
    """
    Return the changes of the aliases of a collection, oldest first.

    :param alias: Only changes of this one.
    :param limit: At most so many, the newest ones.
    """
    with _read(backend) as conn:
        rows = conn.execute(
            "SELECT e.*, c.name AS collection, b.digest AS previous_digest, a.digest AS digest"
            " FROM artifact_alias_events e JOIN artifact_collections c ON c.id = e.collection_id"
            " LEFT JOIN artifacts b ON b.id = e.previous_artifact_id LEFT JOIN artifacts a ON a.id = e.artifact_id"
            " WHERE e.collection_id = ?1 AND (?2 IS NULL OR e.alias = ?2) ORDER BY e.seq DESC LIMIT ?3",
            (collection_id, alias, limit),
        ).fetchall()
    return [_change(row) for row in reversed(rows)]


def list_edges(backend: Backend, artifact_id: str) -> list[EdgeRecord]:
    """Return the runs that put out and used a version, in order of time."""
    with _read(backend) as conn:
        rows = conn.execute(
            "SELECT * FROM artifact_edges WHERE artifact_id = ? ORDER BY rowid", (artifact_id,)
        )
        return [_edge(row) for row in rows]


def list_run_edges(backend: Backend, run_id: str) -> list[EdgeRecord]:
    """
    Return the versions that a run put out and used, in order of time, without those still uploading.

    :param run_id: Global id of the run.
    """
    with _read(backend) as conn:
        rows = conn.execute(
            "SELECT e.* FROM artifact_edges e JOIN artifacts a ON a.id = e.artifact_id"
            " WHERE e.run_id = ? AND a.state <> 'PENDING' ORDER BY e.rowid",
            (run_id,),
        )
        return [_edge(row) for row in rows]


def list_entries(backend: Backend, artifact_id: str) -> list[EntryRecord]:
    """Return the files and references of a version, by path."""
    with _read(backend) as conn:
        rows = conn.execute(
            "SELECT * FROM artifact_entries WHERE artifact_id = ? ORDER BY path", (artifact_id,)
        )
        return [EntryRecord(row["path"], row["digest"], row["size"], row["ref"]) for row in rows]


@contextmanager
def _read(backend: Backend) -> Iterator[sqlite3.Connection]:
    expiry.delete_expired(backend.context(expiry.POLICY, ""))
    with backend.store.read() as conn:
        yield conn


_COLLECTIONS = (
    "SELECT c.*, p.entity AS entity, p.name AS project FROM artifact_collections c"
    " JOIN projects p ON p.internal_id = c.project_id"
)


def _collection(conn: sqlite3.Connection, row: sqlite3.Row) -> CollectionRecord:
    count, newest = conn.execute(
        "SELECT count(*), max(version) FROM artifact_memberships WHERE collection_id = ?", (row["id"],)
    ).fetchone()
    return CollectionRecord(
        id=row["id"],
        entity=row["entity"],
        project=row["project"],
        name=row["name"],
        kind=row["kind"],
        type=row["type_name"],
        description=row["description"],
        tags=tuple(tag["name"] for tag in collections.tags(conn, row["id"])),
        aliases=tuple(alias["alias"] for alias in aliases.of_collection(conn, row["id"])),
        version_count=count,
        latest_version=newest,
        created_at=datetime.fromisoformat(row["created_at"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
    )


def _version(conn: sqlite3.Connection, membership: sqlite3.Row) -> VersionRecord:
    artifact = versions.get(conn, membership["artifact_id"])
    source = conn.execute(f"{_COLLECTIONS} WHERE c.id = ?", (artifact["collection_id"],)).fetchone()
    return VersionRecord(
        artifact_id=artifact["id"],
        collection_id=membership["collection_id"],
        version=membership["version"],
        aliases=tuple(row["alias"] for row in aliases.of_membership(conn, membership["id"])),
        tags=tuple(row["name"] for row in versions.tags(conn, artifact["id"])),
        type=source["type_name"],
        digest=artifact["digest"],
        description=artifact["description"],
        metadata=json.loads(artifact["metadata"] or "{}"),
        size_bytes=artifact["size"],
        file_count=artifact["file_count"],
        source=f"{source['entity']}/{source['project']}/{source['name']}:v{artifact['version']}",
        is_link=membership["collection_id"] != artifact["collection_id"],
        added_by=membership["created_by_user"],
        added_at=datetime.fromisoformat(membership["created_at"]),
    )


def _change(row: sqlite3.Row) -> AliasChange:
    return AliasChange(
        at=datetime.fromisoformat(row["at"]),
        user=row["user"],
        collection=row["collection"],
        alias=row["alias"],
        action=row["action"],
        previous_version=row["previous_version"],
        version=row["version"],
        previous_digest=row["previous_digest"],
        digest=row["digest"],
        reason=row["reason"],
    )


def _edge(row: sqlite3.Row) -> EdgeRecord:
    at = datetime.fromisoformat(row["created_at"])
    return EdgeRecord(row["kind"], row["run_id"], row["artifact_id"], row["used_through"], at)
