"""Rows as GraphQL objects; what needs further rows is left to field resolvers, which find ids under ``_`` keys."""

from __future__ import annotations

import sqlite3
from typing import Any

from wandb_airflow_provider.devserver.artifacts.collections import SEQUENCE
from wandb_airflow_provider.devserver.clock import api_time
from wandb_airflow_provider.devserver.ids import global_id


def artifact_node(row: sqlite3.Row) -> dict[str, Any]:
    """Return the object of a version."""
    return {
        "__typename": "Artifact",
        "id": row["id"],
        "versionIndex": row["version"],
        "state": row["state"],
        "digest": row["digest"],
        "digestAlgorithm": row["digest_algorithm"],
        "description": row["description"],
        "metadata": row["metadata"],
        "ttlIsInherited": bool(row["ttl_inherited"]),
        "historyStep": row["history_step"],
        "size": row["size"],
        "fileCount": row["file_count"],
        "commitHash": row["commit_hash"],
        "createdAt": api_time(row["created_at"]),
        "updatedAt": api_time(row["updated_at"]),
        "_collection_id": row["collection_id"],
        "_manifest_id": row["manifest_id"],
        "_row": row,
    }


def membership_node(row: sqlite3.Row) -> dict[str, Any]:
    """Return the object of a version's place in a collection."""
    return {
        "__typename": "ArtifactCollectionMembership",
        "id": row["id"],
        "versionIndex": row["version"],
        "createdAt": api_time(row["created_at"]),
        "_collection_id": row["collection_id"],
        "_artifact_id": row["artifact_id"],
    }


def collection_node(row: sqlite3.Row) -> dict[str, Any]:
    """Return the object of a sequence or portfolio."""
    return {
        "__typename": "ArtifactSequence" if row["kind"] == SEQUENCE else "ArtifactPortfolio",
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "state": row["state"],
        "createdAt": api_time(row["created_at"]),
        "updatedAt": api_time(row["updated_at"]),
        "_project_id": row["project_id"],
        "_type_name": row["type_name"],
    }


def type_node(project_id: int, name: str, created_at: str | None) -> dict[str, Any]:
    """Return the object of an artifact type of a project."""
    return {
        "__typename": "ArtifactType",
        "id": global_id("ArtifactType", project_id, name),
        "name": name,
        "description": None,
        "createdAt": api_time(created_at),
        "_project_id": project_id,
    }


def alias_node(row: sqlite3.Row) -> dict[str, Any]:
    """Return the object of an alias."""
    return {
        "__typename": "ArtifactAlias",
        "id": row["id"],
        "alias": row["alias"],
        "_collection_id": row["collection_id"],
    }


def tag_node(row: sqlite3.Row) -> dict[str, Any]:
    """Return the object of a tag."""
    return {"__typename": "Tag", "id": row["id"], "name": row["name"]}
