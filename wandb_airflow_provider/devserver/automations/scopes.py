"""Where automations watch: a collection, a project or registry, a team or organisation."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from wandb_airflow_provider.devserver.artifacts import names, roles
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext

COLLECTION = "ARTIFACT_COLLECTION"
PROJECT = "PROJECT"
ENTITY = "ENTITY"


@dataclass(frozen=True)
class Scope:
    """
    A scope.

    :param key: What it is found by: a collection's id, a project's number (which survives a rename), an entity's name.
    :param entity: Whom it belongs to.
    :param project: The project that it is, or that the collection is in; None for an entity.
    """

    type: str
    key: str
    entity: str
    project: sqlite3.Row | None


def resolve(conn: sqlite3.Connection, scope_type: str, scope_id: str) -> Scope:
    """Return the scope that a client names by id. Raises a 404 if there is none."""
    if scope_type == COLLECTION:
        row = conn.execute(
            "SELECT p.* FROM artifact_collections c JOIN projects p ON p.internal_id = c.project_id"
            " WHERE c.id = ? AND c.state = 'READY'",
            (scope_id,),
        ).fetchone()
        if row is not None:
            return Scope(COLLECTION, scope_id, row["entity"], row)
    elif scope_type == PROJECT:
        row = conn.execute("SELECT * FROM projects WHERE id = ?", (scope_id,)).fetchone()
        if row is not None:
            return Scope(PROJECT, str(row["internal_id"]), row["entity"], row)
    elif scope_type == ENTITY:
        row = conn.execute("SELECT * FROM entities WHERE id = ?", (scope_id,)).fetchone()
        if row is not None:
            return Scope(ENTITY, row["name"], row["name"], None)
    else:
        raise GraphQLError(f"automations have no scope of the type {scope_type!r}.")
    raise GraphQLError(f"the scope of the automation, {scope_type} {scope_id!r}, was not found.", 404)


def require_write(ctx: RequestContext, conn: sqlite3.Connection, scope: Scope) -> None:
    """Refuse an account that may not manage automations of a scope: in a registry its admins may."""
    if scope.project is not None and names.is_registry(scope.project["name"]):
        roles.require(ctx, conn, scope.project, roles.ADMIN)
    else:
        ctx.user.require_write(scope.entity)


def node(conn: sqlite3.Connection, scope_type: str, key: str) -> dict[str, object] | None:
    """Return the object of a scope, or None if it is gone."""
    if scope_type == COLLECTION:
        row = conn.execute(
            "SELECT * FROM artifact_collections WHERE id = ? AND state = 'READY'", (key,)
        ).fetchone()
        kind = "ArtifactPortfolio" if row is not None and row["kind"] == "PORTFOLIO" else "ArtifactSequence"
    elif scope_type == PROJECT:
        row = conn.execute("SELECT * FROM projects WHERE internal_id = ?", (key,)).fetchone()
        kind = "Project"
    else:
        row = conn.execute("SELECT *, kind AS entity_type FROM entities WHERE name = ?", (key,)).fetchone()
        kind = "Entity"
    if row is None:
        return None
    node: dict[str, object] = {"__typename": kind, "id": row["id"], "name": row["name"]}
    return {**node, "entityType": row["entity_type"]} if kind == "Entity" else node


def around_collections(
    conn: sqlite3.Connection, collection_ids: Iterable[str]
) -> dict[tuple[str, str], sqlite3.Row]:
    """Return every scope that collections are in, with the collection that puts it there and its ``entity``."""
    found: dict[tuple[str, str], sqlite3.Row] = {}
    for collection_id in collection_ids:
        row = conn.execute(
            "SELECT c.*, p.entity, p.name AS project, e.organization FROM artifact_collections c"
            " JOIN projects p ON p.internal_id = c.project_id JOIN entities e ON e.name = p.entity WHERE c.id = ?",
            (collection_id,),
        ).fetchone()
        if row is not None:
            for key in (
                (COLLECTION, row["id"]),
                (PROJECT, str(row["project_id"])),
                (ENTITY, row["entity"]),
                (ENTITY, row["organization"]),
            ):
                found.setdefault(key, row)
    return found


def around_run(conn: sqlite3.Connection, run: int) -> list[tuple[str, str]]:
    """Return every scope that a run is in."""
    row = conn.execute(
        "SELECT p.internal_id, p.entity, e.organization FROM runs r"
        " JOIN projects p ON p.entity = r.entity AND p.name = r.project JOIN entities e ON e.name = p.entity"
        " WHERE r.pk = ?",
        (run,),
    ).fetchone()
    if row is None:
        return []
    return [(PROJECT, str(row["internal_id"])), (ENTITY, row["entity"]), (ENTITY, row["organization"])]
