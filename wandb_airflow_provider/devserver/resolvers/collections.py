"""Collections and artifact types of a project."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import (
    aliases,
    collections,
    documents,
    memberships,
    nodes,
    paging,
    roles,
    versions,
)
from wandb_airflow_provider.devserver.graphql.registry import (
    GraphQLError,
    RequestContext,
    connection,
    field,
    implements,
    query,
)
from wandb_airflow_provider.devserver.resolvers.projects import project_node

Args = dict[str, Any]
Parent = Mapping[str, Any]

implements("ArtifactSequence", "ArtifactCollection")
implements("ArtifactPortfolio", "ArtifactCollection")


def internal_id(ctx: RequestContext, parent: Parent) -> int:
    """Return the number of the project that an object stands for."""
    with ctx.store.read() as conn:
        row = conn.execute("SELECT internal_id FROM projects WHERE id = ?", (parent["id"],)).fetchone()
    if row is None:
        raise GraphQLError(f"project {parent['name']!r} was deleted.", 404)
    return int(row["internal_id"])


@query("artifactCollection")
def collection_by_id(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return a collection by id, or null."""
    with ctx.store.read() as conn:
        row = conn.execute(
            "SELECT * FROM artifact_collections WHERE id = ? AND state = 'READY'", (args["id"],)
        ).fetchone()
        project = None if row is None else _project(conn, row["project_id"])
        visible = project is not None and roles.may_see(ctx, conn, project)
    return nodes.collection_node(row) if visible else None


@field("Project", "artifact")
def project_artifact(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the version that ``name:alias`` names, or null."""
    project_id = internal_id(ctx, parent)
    with ctx.store.read() as conn:
        membership = memberships.find_by_name(conn, project_id, args["name"])
        return (
            None if membership is None else nodes.artifact_node(versions.get(conn, membership["artifact_id"]))
        )


@field("Project", "artifactCollectionMembership")
def project_membership(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the version that ``name:alias`` names, as its collection shows it, or null."""
    project_id = internal_id(ctx, parent)
    with ctx.store.read() as conn:
        membership = memberships.find_by_name(conn, project_id, args["name"])
    return None if membership is None else nodes.membership_node(membership)


@field("Project", "artifactCollection")
def project_collection(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return a collection by name, or null."""
    project_id = internal_id(ctx, parent)
    with ctx.store.read() as conn:
        row = collections.find(conn, project_id, args["name"])
    return None if row is None else nodes.collection_node(row)


@field("Project", "artifactCollections")
def project_collections(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the collections of a project that pass a filter."""
    return _collections(ctx, internal_id(ctx, parent), None, args)


@field("Project", "artifactType")
def project_type(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return an artifact type by name, or null."""
    found = project_types(ctx, parent, {})["edges"]
    return next((edge["node"] for edge in found if edge["node"]["name"] == args["name"]), None)


@field("Project", "artifactTypes")
def project_types(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the artifact types of a project."""
    project_id = internal_id(ctx, parent)
    with ctx.store.read() as conn:
        rows = collections.types(conn, project_id)
    found = [nodes.type_node(project_id, row["name"], row["created_at"]) for row in rows]
    return connection(found, args, typename="ArtifactTypeConnection")


@field("ArtifactType", "artifactCollection")
def type_collection(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return a collection of a type by name, or null."""
    with ctx.store.read() as conn:
        row = collections.find(conn, parent["_project_id"], args["name"])
    return nodes.collection_node(row) if row is not None and row["type_name"] == parent["name"] else None


@field("ArtifactType", "artifactCollections")
def type_collections(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the collections of a type that pass a filter."""
    return _collections(ctx, parent["_project_id"], parent["name"], args)


@field("ArtifactCollection", "project")
def collection_project(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the project of a collection, or null if the account may not see it."""
    key = ("artifact project", parent["_project_id"])
    if key not in ctx.memo:
        with ctx.store.read() as conn:
            row = _project(conn, parent["_project_id"])
            visible = row is not None and roles.may_see(ctx, conn, row)
        ctx.memo[key] = project_node(ctx, row) if row is not None and visible else None
    found: dict[str, Any] | None = ctx.memo[key]
    return found


@field("ArtifactCollection", "defaultArtifactType")
def collection_type(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Return the type of the versions of a collection."""
    return nodes.type_node(parent["_project_id"], parent["_type_name"], None)


@field("ArtifactCollection", "tags")
def collection_tags(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the tags of a collection."""
    with ctx.store.read() as conn:
        found = [nodes.tag_node(row) for row in collections.tags(conn, parent["id"])]
    return connection(found, args, typename="TagConnection")


@field("ArtifactCollection", "aliases")
def collection_aliases(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the aliases of a collection."""
    with ctx.store.read() as conn:
        found = [nodes.alias_node(row) for row in aliases.of_collection(conn, parent["id"])]
    return connection(found, args, typename="ArtifactAliasConnection")


@field("ArtifactCollection", "artifactMembership")
def collection_membership(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the version that an alias or ``vN`` names, or null."""
    with ctx.store.read() as conn:
        row = memberships.find(conn, parent["id"], args["aliasName"])
    return None if row is None else nodes.membership_node(row)


@field("ArtifactCollection", "artifacts")
def collection_artifacts(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the versions of a collection, newest first unless told otherwise; edges tell ``vN`` in it."""
    with ctx.store.read() as conn:
        found = documents.select(documents.version_documents(conn, parent["id"]), args.get("filters"))
    return paging.page(
        found,
        args,
        lambda item: nodes.artifact_node(item["_artifact"]),
        default="-version_index",
        known=documents.VERSION_ORDERS,
        typename="ArtifactConnection",
        edge=lambda item: {"version": f"v{item['version_index']}"},
    )


@field("ArtifactSequence", "latestArtifact")
def latest_artifact(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the newest committed version of a sequence, or null."""
    with ctx.store.read() as conn:
        row = versions.latest(conn, parent["id"])
    return None if row is None else nodes.artifact_node(row)


@field("ArtifactAlias", "artifactCollection")
@field("ArtifactCollectionMembership", "artifactCollection")
def owning_collection(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Return the collection of an alias or membership."""
    with ctx.store.read() as conn:
        return nodes.collection_node(collections.get(conn, parent["_collection_id"]))


@field("ArtifactCollectionMembership", "artifact")
def membership_artifact(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Return the version that a membership puts into a collection."""
    with ctx.store.read() as conn:
        return nodes.artifact_node(versions.get(conn, parent["_artifact_id"]))


@field("ArtifactCollectionMembership", "aliases")
def membership_aliases(ctx: RequestContext, parent: Parent, args: Args) -> list[dict[str, Any]]:
    """List the aliases of a version in one collection."""
    with ctx.store.read() as conn:
        return [nodes.alias_node(row) for row in aliases.of_membership(conn, parent["id"])]


def _project(conn: sqlite3.Connection, project_id: int) -> sqlite3.Row | None:
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM projects WHERE internal_id = ?", (project_id,)
    ).fetchone()
    return row


def _collections(ctx: RequestContext, project_id: int, type_name: str | None, args: Args) -> dict[str, Any]:
    kinds = (collections.SEQUENCE, collections.PORTFOLIO)
    found = documents.select_collections(ctx, project_id, kinds=kinds, filters=args.get("filters"))
    return paging.page(
        [item for item in found if type_name is None or item["type"] == type_name],
        args,
        lambda item: nodes.collection_node(item["_row"]),
        default="name",
        known=documents.COLLECTION_ORDERS,
        typename="ArtifactCollectionConnection",
    )
