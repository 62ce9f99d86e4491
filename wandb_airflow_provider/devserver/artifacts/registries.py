"""
Registries: projects of the organisation whose collections hold links.

``model`` and ``dataset`` exist from the start, each for artifacts of that type.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import collections, documents, memberships, names, versions
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.ids import global_id

INITIAL = ("model", "dataset")
VISIBILITIES = ("PRIVATE", "RESTRICTED")


def seed(conn: sqlite3.Connection, project_id: int, type_name: str, now: str) -> None:
    """Make a project a registry that accepts one type of artifact, unless it is one already."""
    conn.execute("INSERT OR IGNORE INTO registries VALUES (?, 0, ?)", (project_id, now))
    conn.execute(
        "INSERT OR IGNORE INTO artifact_types VALUES (?, ?, ?, ?)",
        (global_id("ArtifactType", project_id, type_name), project_id, type_name, now),
    )


def configure(
    ctx: RequestContext, conn: sqlite3.Connection, project: sqlite3.Row, args: Mapping[str, Any]
) -> None:
    """
    Apply what a request says about a registry's accepted types and visibility; other projects are left alone.

    Types can be added but never removed.

    :param args: The fields of ``UpsertModelInput``.
    """
    if not names.is_registry(project["name"]):
        return
    if args.get("access") not in (None, *VISIBILITIES):
        raise GraphQLError(
            f"a registry cannot have access {args['access']!r}, only {' or '.join(VISIBILITIES)}."
        )
    now = stamp(ctx.now())
    conn.execute("INSERT OR IGNORE INTO registries VALUES (?, 1, ?)", (project["internal_id"], now))
    allow_all = args.get("allowAllArtifactTypesInRegistry")
    conn.execute(
        "UPDATE registries SET allow_all_types = coalesce(?, allow_all_types), updated_at = ? WHERE project_id = ?",
        (allow_all, now, project["internal_id"]),
    )
    for item in args.get("artifactTypes") or ():
        collections.ensure_type(ctx, conn, project["internal_id"], names.check_type(item["name"]))


def find(conn: sqlite3.Connection, project_id: int) -> sqlite3.Row | None:
    """Return the settings of a registry, or None if the project is none."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM registries WHERE project_id = ?", (project_id,)
    ).fetchone()
    return row


def rename(ctx: RequestContext, conn: sqlite3.Connection, project: sqlite3.Row, name: str) -> sqlite3.Row:
    """Give a registry's project another name, and the id that goes with it."""
    if not names.is_registry(project["name"]) or not names.is_registry(names.check_project_name(name)):
        raise GraphQLError(
            f"cannot rename project {project['name']!r} to {name!r}: only registries can be renamed."
        )
    taken = conn.execute(
        "SELECT 1 FROM projects WHERE entity = ? AND name = ?", (project["entity"], name)
    ).fetchone()
    if taken is not None:
        raise GraphQLError(f"cannot rename registry {project['name']!r}: {name!r} exists already.")
    conn.execute(
        "UPDATE projects SET name = ?, id = ? WHERE internal_id = ?",
        (name, global_id("Project", "v1", name, project["entity"]), project["internal_id"]),
    )
    conn.execute(
        "UPDATE registries SET updated_at = ? WHERE project_id = ?",
        (stamp(ctx.now()), project["internal_id"]),
    )
    row: sqlite3.Row = conn.execute(
        "SELECT * FROM projects WHERE internal_id = ?", (project["internal_id"],)
    ).fetchone()
    return row


def delete(ctx: RequestContext, conn: sqlite3.Connection, project: sqlite3.Row) -> None:
    """Delete a registry with its collections; the linked versions stay where they were logged."""
    if not names.is_registry(project["name"]):
        raise GraphQLError(
            f"project {project['name']!r} is not a registry: the dev server deletes only registries."
        )
    project_id = project["internal_id"]
    rows = conn.execute(
        "SELECT * FROM artifact_collections WHERE project_id = ? AND state = 'READY'", (project_id,)
    ).fetchall()
    for row in rows:
        versions.delete_collection(ctx, conn, row)
    for table in ("artifact_types", "registry_members", "registries"):
        conn.execute(f"DELETE FROM {table} WHERE project_id = ?", (project_id,))  # noqa: S608 - fixed names
    conn.execute("DELETE FROM projects WHERE internal_id = ?", (project_id,))


def select(conn: sqlite3.Connection, entity: str, filters: str | None) -> list[documents.Document]:
    """Return the registries of an organisation's entity that pass a filter, by name."""
    rows = conn.execute(
        "SELECT p.*, r.updated_at FROM projects p JOIN registries r ON r.project_id = p.internal_id"
        " WHERE p.entity = ? ORDER BY p.name",
        (entity,),
    ).fetchall()
    return documents.select([documents.project_document(row) for row in rows], filters)


def select_collections(
    ctx: RequestContext, entity: str, args: Mapping[str, Any], kinds: tuple[str, ...]
) -> list[documents.Document]:
    """
    Return the collections of an organisation's registries that pass the filters; by registry, then name.

    :param args: May have ``projectFilters`` for the registry and ``filters`` for the collection.
    """
    with ctx.store.read() as conn:
        found = select(conn, entity, args.get("projectFilters"))
    return [
        item
        for registry in found
        for item in documents.select_collections(
            ctx, registry["id"], kinds=kinds, filters=args.get("filters")
        )
    ]


def select_versions(ctx: RequestContext, entity: str, args: Mapping[str, Any]) -> list[documents.Document]:
    """
    Return the versions in an organisation's registries that pass the filters; newest first in each collection.

    :param args: May have ``projectFilters``, ``collectionFilters`` and ``filters`` for the version.
    """
    wanted = {"projectFilters": args.get("projectFilters"), "filters": args.get("collectionFilters")}
    found = select_collections(ctx, entity, wanted, (collections.PORTFOLIO,))
    with ctx.store.read() as conn:
        rows = [row for item in found for row in memberships.of_collection(conn, item["id"])]
        return documents.select([documents.version_document(conn, row) for row in rows], args.get("filters"))


def members(conn: sqlite3.Connection, project_id: int, kind: str) -> list[sqlite3.Row]:
    """Return the members of a registry; ``kind`` is ``user`` or ``team``."""
    return conn.execute(
        "SELECT * FROM registry_members WHERE project_id = ? AND kind = ? ORDER BY rowid", (project_id, kind)
    ).fetchall()


def add_members(conn: sqlite3.Connection, project_id: int, kind: str, member_ids: list[str]) -> None:
    """Add members with the role ``member``; those who are members keep their role."""
    conn.executemany(
        "INSERT OR IGNORE INTO registry_members VALUES (?, ?, ?, 'member')",
        [(project_id, kind, member_id) for member_id in member_ids],
    )


def remove_members(conn: sqlite3.Connection, project_id: int, kind: str, member_ids: list[str]) -> None:
    """Remove members; others are ignored."""
    conn.executemany(
        "DELETE FROM registry_members WHERE project_id = ? AND kind = ? AND member_id = ?",
        [(project_id, kind, member_id) for member_id in member_ids],
    )


def set_role(conn: sqlite3.Connection, project_id: int, kind: str, member_id: str, role: str) -> None:
    """Change the role of a member. Raises a 404 if there is none."""
    changed = conn.execute(
        "UPDATE registry_members SET role = ? WHERE project_id = ? AND kind = ? AND member_id = ?",
        (role, project_id, kind, member_id),
    )
    if not changed.rowcount:
        raise GraphQLError(f"{kind} {member_id!r} is not a member of this registry.", 404)
