"""Changes of collections: name, description, type, tags, deletion."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import collections, names, nodes, roles, versions
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext, mutation
from wandb_airflow_provider.devserver.resolvers.projects import get_project

Args = dict[str, Any]
Parent = Mapping[str, Any]


@mutation("updateArtifactSequence")
def update_sequence(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Change the name or description of a sequence."""
    return _update(
        ctx, args["artifactSequenceID"], name=args.get("name"), description=args.get("description")
    )


@mutation("updateArtifactPortfolio")
def update_portfolio(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Change the name or description of a portfolio."""
    return _update(
        ctx, args["artifactPortfolioID"], name=args.get("name"), description=args.get("description")
    )


@mutation("moveArtifactSequence")
def move_sequence(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Change the type of a sequence."""
    return _update(ctx, args["artifactSequenceID"], type_name=args["destinationArtifactTypeName"])


@mutation("deleteArtifactSequence")
def delete_sequence(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Delete a sequence and its versions."""
    return _delete(ctx, args["artifactSequenceID"])


@mutation("deleteArtifactPortfolio")
def delete_portfolio(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Delete a portfolio; the versions stay where they were logged."""
    return _delete(ctx, args["artifactPortfolioID"])


@mutation("createArtifactCollectionTagAssignments")
def add_collection_tags(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Add tags to a collection."""
    with ctx.store.write() as conn:
        row = _named(ctx, conn, args)
        collections.add_tags(ctx, conn, row["id"], names.check_tags(args["tags"]))
        tags = [nodes.tag_node(tag) for tag in collections.tags(conn, row["id"])]
    return {"__typename": "CreateArtifactCollectionTagAssignmentsPayload", "tags": tags}


@mutation("deleteArtifactCollectionTagAssignments")
def remove_collection_tags(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Remove tags from a collection."""
    with ctx.store.write() as conn:
        row = _named(ctx, conn, args)
        collections.remove_tags(ctx, conn, row["id"], names.check_tags(args["tags"]))
    return {"__typename": "DeleteArtifactCollectionTagAssignmentsPayload", "success": True}


def _update(ctx: RequestContext, collection_id: str, **changes: str | None) -> dict[str, Any]:
    with ctx.store.write() as conn:
        row = collections.update(ctx, conn, _writable(ctx, conn, collection_id), **changes)
    return _payload(row)


def _delete(ctx: RequestContext, collection_id: str) -> dict[str, Any]:
    with ctx.store.write() as conn:
        row = versions.delete_collection(ctx, conn, _writable(ctx, conn, collection_id))
    return _payload(row)


def _payload(row: sqlite3.Row) -> dict[str, Any]:
    return {"__typename": "ArtifactCollectionPayload", "artifactCollection": nodes.collection_node(row)}


def _writable(ctx: RequestContext, conn: sqlite3.Connection, collection_id: str) -> sqlite3.Row:
    row = collections.get_ready(conn, collection_id)
    project = conn.execute("SELECT * FROM projects WHERE internal_id = ?", (row["project_id"],)).fetchone()
    roles.require(ctx, conn, project)
    return row


def _named(ctx: RequestContext, conn: sqlite3.Connection, args: Args) -> sqlite3.Row:
    entity, project_name, name = args["entityName"], args["projectName"], args["artifactCollectionName"]
    ctx.user.require_write(entity)
    project = get_project(conn, entity, project_name)
    row = None if project is None else collections.find(conn, project["internal_id"], name)
    if row is None:
        raise GraphQLError(f"artifact collection '{entity}/{project_name}/{name}' not found.", 404)
    assert project is not None
    roles.require(ctx, conn, project)
    return row
