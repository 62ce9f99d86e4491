"""Rows as documents for filters, under the field names that clients filter and order by."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import aliases, collections, memberships, search, versions
from wandb_airflow_provider.devserver.clock import api_time
from wandb_airflow_provider.devserver.graphql.registry import RequestContext

COLLECTION_ORDERS = ("name", "created_at", "updated_at")
PROJECT_ORDERS = ("name", "created_at", "updated_at")
VERSION_ORDERS = (
    "version_index",
    "created_at",
    "updated_at",
    "artifact_created_at",
    "artifact_size",
    "acm_created_at",
)

Document = dict[str, Any]


def version_document(conn: sqlite3.Connection, membership: sqlite3.Row) -> Document:
    """Return a version in a collection; ``_membership`` and ``_artifact`` are its rows."""
    row = versions.get(conn, membership["artifact_id"])
    tags = [tag["name"] for tag in versions.tags(conn, row["id"])]
    held = [alias["alias"] for alias in aliases.of_membership(conn, membership["id"])]
    return _version_document(membership, row, tags, held)


def version_documents(conn: sqlite3.Connection, collection_id: str) -> list[Document]:
    """Return the versions of a collection, newest first, with a few queries for all."""
    found = conn.execute(
        "SELECT a.* FROM artifacts a JOIN artifact_memberships m ON m.artifact_id = a.id WHERE m.collection_id = ?",
        (collection_id,),
    )
    rows = {row["id"]: row for row in found}
    tagged = conn.execute(
        "SELECT t.* FROM artifact_tags t JOIN artifact_memberships m ON m.artifact_id = t.artifact_id"
        " WHERE m.collection_id = ? ORDER BY t.rowid",
        (collection_id,),
    )
    tags: dict[str, list[str]] = {}
    for tag in tagged:
        tags.setdefault(tag["artifact_id"], []).append(tag["name"])
    held: dict[str, list[str]] = {}
    for alias in aliases.of_collection(conn, collection_id):
        held.setdefault(alias["membership_id"], []).append(alias["alias"])
    return [
        _version_document(
            item, rows[item["artifact_id"]], tags.get(item["artifact_id"], []), held.get(item["id"], [])
        )
        for item in memberships.of_collection(conn, collection_id)
    ]


def _version_document(
    membership: sqlite3.Row, row: sqlite3.Row, tags: list[str], held: list[str]
) -> Document:
    number = membership["version"]
    metadata = json.loads(row["metadata"] or "{}")
    return {
        "id": row["id"],
        "artifact_id": row["id"],
        "state": row["state"],
        "digest": row["digest"],
        "version": [number, f"v{number}"],
        "version_index": number,
        "tag": tags,
        "tags": tags,
        "alias": held,
        "aliases": held,
        "metadata": metadata,
        "artifact_metadata": metadata,
        "size": row["size"],
        "artifact_size": row["size"],
        "created_at": api_time(row["created_at"]),
        "artifact_created_at": api_time(row["created_at"]),
        "updated_at": api_time(row["updated_at"]),
        "acm_created_at": api_time(membership["created_at"]),
        "_membership": membership,
        "_artifact": row,
    }


def collection_document(conn: sqlite3.Connection, row: sqlite3.Row) -> Document:
    """Return a collection; ``_row`` is its row."""
    tags = [tag["name"] for tag in collections.tags(conn, row["id"])]
    return {
        "id": row["id"],
        "artifact_collection_id": row["id"],
        "name": row["name"],
        "type": row["type_name"],
        "description": row["description"],
        "tag": tags,
        "tags": tags,
        "created_at": api_time(row["created_at"]),
        "updated_at": api_time(row["updated_at"]),
        "_row": row,
    }


def project_document(row: sqlite3.Row) -> Document:
    """Return a registry's project, whose ``id`` is a number; ``row`` also has ``updated_at``."""
    return {
        "id": row["internal_id"],
        "project_id": row["internal_id"],
        "name": row["name"],
        "entity_id": row["entity"],
        "description": row["description"],
        "created_at": api_time(row["created_at"]),
        "updated_at": api_time(row["updated_at"]),
        "_row": row,
    }


def select(documents: list[Document], filters: str | None) -> list[Document]:
    """Return the documents that pass a filter in JSON text."""
    condition = search.parse(filters)
    return [document for document in documents if search.matches(document, condition)]


def select_collections(
    ctx: RequestContext, project_id: int, *, kinds: tuple[str, ...], filters: str | None
) -> list[Document]:
    """Return the collections of a project, of some kinds, that pass a filter; by name."""
    with ctx.store.read() as conn:
        rows = conn.execute(
            "SELECT * FROM artifact_collections WHERE project_id = ? AND state = 'READY' ORDER BY name",
            (project_id,),
        )
        found = [collection_document(conn, row) for row in rows if row["kind"] in kinds]
    return select(found, filters)


def sort(documents: list[Document], order: str | None, known: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """Return documents in an order such as ``-created_at``; none leaves them as they are."""
    return search.ordered(documents, order, known)
