"""
Registries: projects of the organisation whose collections hold links.

``model`` and ``dataset`` exist from the start, each for artifacts of that type.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver import accounts
from wandb_airflow_provider.devserver.artifacts import (
    collections,
    documents,
    memberships,
    names,
    roles,
    versions,
)
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

    Types can be added but never removed. Whoever creates a registry is its first admin.

    :param project: As it was before the request, or as it was created for it.
    :param args: The fields of ``UpsertModelInput``.
    :raises GraphQLError: 403 if whoever asks may not change the registry, or its visibility.
    """
    if not names.is_registry(project["name"]):
        return
    access = args.get("access")
    if access not in (None, *VISIBILITIES):
        raise GraphQLError(f"a registry cannot have access {access!r}, only {' or '.join(VISIBILITIES)}.")
    now = stamp(ctx.now())
    if find(conn, project["internal_id"]) is None:
        _require_organization(conn, project)
        conn.execute("INSERT INTO registries VALUES (?, 1, ?)", (project["internal_id"], now))
        conn.execute(
            "INSERT INTO registry_members VALUES (?, 'user', ?, 'admin')",
            (project["internal_id"], ctx.user.id),
        )
    else:
        roles.require(
            ctx, conn, project, roles.MEMBER if access in (None, project["access"]) else roles.ADMIN
        )
    allow_all = args.get("allowAllArtifactTypesInRegistry")
    conn.execute(
        "UPDATE registries SET allow_all_types = coalesce(?, allow_all_types), updated_at = ? WHERE project_id = ?",
        (allow_all, now, project["internal_id"]),
    )
    for item in args.get("artifactTypes") or ():
        collections.ensure_type(ctx, conn, project["internal_id"], names.check_type(item["name"]))


def _require_organization(conn: sqlite3.Connection, project: sqlite3.Row) -> None:
    entity = accounts.find_entity(conn, project["entity"])
    if entity is None or entity["kind"] != accounts.ORGANIZATION:
        raise GraphQLError(
            f"cannot create {project['name']!r} in {project['entity']!r}: that is a name for registries, which belong"
            " to an organization."
        )


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
    roles.require(ctx, conn, project)
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
    """
    Delete a registry with its collections; the linked versions stay where they were logged.

    :raises GraphQLError: 403 unless an admin of the registry asks.
    """
    if not names.is_registry(project["name"]):
        raise GraphQLError(
            f"project {project['name']!r} is not a registry: the dev server deletes only registries."
        )
    roles.require(ctx, conn, project, roles.ADMIN)
    project_id = project["internal_id"]
    rows = conn.execute(
        "SELECT * FROM artifact_collections WHERE project_id = ? AND state = 'READY'", (project_id,)
    ).fetchall()
    for row in rows:
        versions.delete_collection(ctx, conn, row)
    for table in ("artifact_types", "registry_members", "protected_aliases", "registries"):
        conn.execute(f"DELETE FROM {table} WHERE project_id = ?", (project_id,))  # noqa: S608 - fixed names
    conn.execute("DELETE FROM projects WHERE internal_id = ?", (project_id,))


def select(
    ctx: RequestContext, conn: sqlite3.Connection, entity: str, filters: str | None
) -> list[documents.Document]:
    """Return the registries of an organisation's entity that whoever asks may see and that pass a filter, by name."""
    rows = conn.execute(
        "SELECT p.*, r.updated_at FROM projects p JOIN registries r ON r.project_id = p.internal_id"
        " WHERE p.entity = ? ORDER BY p.name",
        (entity,),
    ).fetchall()
    return documents.select(
        [documents.project_document(row) for row in rows if roles.may_see(ctx, conn, row)], filters
    )


def visible(ctx: RequestContext, conn: sqlite3.Connection, entity: str) -> tuple[str, list[Any]]:
    """Return a condition on ``projects``, with its parameters, for those of an entity that whoever asks may see."""
    rows = conn.execute(
        "SELECT * FROM projects WHERE entity = ? AND name LIKE ?", (entity, f"{names.REGISTRY_PREFIX}%")
    ).fetchall()
    hidden = [row["internal_id"] for row in rows if not roles.may_see(ctx, conn, row)]
    return f"entity = ? AND internal_id NOT IN ({', '.join('?' * len(hidden))})", [entity, *hidden]


def select_collections(
    ctx: RequestContext, entity: str, args: Mapping[str, Any], kinds: tuple[str, ...]
) -> list[documents.Document]:
    """
    Return the collections of an organisation's registries that pass the filters; by registry, then name.

    :param args: May have ``projectFilters`` for the registry and ``filters`` for the collection.
    """
    with ctx.store.read() as conn:
        found = select(ctx, conn, entity, args.get("projectFilters"))
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
