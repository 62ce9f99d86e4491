"""Organisations: which one an entity belongs to, and what all its registries hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import collections, documents, nodes, registries
from wandb_airflow_provider.devserver.graphql.registry import RequestContext, connection, field, query
from wandb_airflow_provider.devserver.ids import global_id
from wandb_airflow_provider.devserver.resolvers.accounts import entity_node, user_of
from wandb_airflow_provider.devserver.resolvers.projects import models, project_node, visible_project

Args = dict[str, Any]
Parent = Mapping[str, Any]

_ORGANIZATION = "organization"


def organization_node(name: str) -> dict[str, Any]:
    """Return the object of an organisation."""
    return {
        "__typename": "Organization",
        "id": global_id("Organization", name),
        "name": name,
        "coreWeaveOrganizationId": None,
        "featureFlags": [],
        "advancedRegistryFeatures": {"__typename": "AdvancedRegistryFeatures", "advancedSearch": False},
    }


@query("organization")
def organization(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return an organisation that the account belongs to, or null."""
    with ctx.store.read() as conn:
        row = conn.execute(
            "SELECT * FROM entities WHERE name = ? AND kind = ?", (args["name"], _ORGANIZATION)
        ).fetchone()
    return organization_node(row["name"]) if row is not None and ctx.user.may_read(row["name"]) else None


@field("Organization", "orgEntity")
def org_entity(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the entity that an organisation's registries belong to."""
    with ctx.store.read() as conn:
        row = conn.execute("SELECT * FROM entities WHERE name = ?", (parent["name"],)).fetchone()
    return None if row is None else entity_node(row)


@field("Entity", "organization")
def entity_organization(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the organisation of a team; a personal entity has none of its own."""
    with ctx.store.read() as conn:
        row = conn.execute("SELECT * FROM entities WHERE name = ?", (parent["name"],)).fetchone()
    return None if row is None or row["kind"] == "user" else organization_node(row["organization"])


@field("Entity", "user")
def entity_user(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the user whose personal entity this is, or null."""
    return user_of(ctx, parent["name"])


@field("User", "organizations")
def user_organizations(ctx: RequestContext, parent: Parent, args: Args) -> list[dict[str, Any]]:
    """List the organisations that a user belongs to."""
    with ctx.store.read() as conn:
        rows = [
            conn.execute("SELECT * FROM entities WHERE name = ?", (name,)).fetchone()
            for name in parent["_teams"]
        ]
    return [
        organization_node(row["name"]) for row in rows if row is not None and row["kind"] == _ORGANIZATION
    ]


@field("Entity", "project")
def entity_project(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return a project of an entity by name, or null."""
    row = visible_project(ctx, parent["name"], args.get("name"))
    return None if row is None else project_node(ctx, row)


@field("Entity", "projects")
def entity_projects(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the projects of an entity; of an organisation, its registries that pass a filter."""
    if parent.get("entityType") != _ORGANIZATION:
        listed: dict[str, Any] = models(ctx, parent, {**args, "entityName": parent["name"]})
        return listed
    with ctx.store.read() as conn:
        found = registries.select(ctx, conn, parent["name"], args.get("filters"))
    items = documents.sort(found, args.get("order"), documents.PROJECT_ORDERS)
    return connection([project_node(ctx, item["_row"]) for item in items], args, typename="ProjectConnection")


@field("Entity", "artifactCollections")
def entity_collections(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the collections of an organisation's registries that pass the filters."""
    kinds = tuple(args.get("collectionTypes") or (collections.PORTFOLIO,))
    found = registries.select_collections(ctx, parent["name"], args, kinds)
    items = documents.sort(found, args.get("order"), documents.COLLECTION_ORDERS)
    return connection(
        [nodes.collection_node(item["_row"]) for item in items], args, typename="ArtifactCollectionConnection"
    )


@field("Entity", "artifactMemberships")
def entity_memberships(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the versions in an organisation's registries that pass the filters."""
    found = registries.select_versions(ctx, parent["name"], args)
    items = documents.sort(found, args.get("order"), documents.VERSION_ORDERS)
    rows = [nodes.membership_node(item["_membership"]) for item in items]
    return connection(rows, args, typename="ArtifactCollectionMembershipConnection")
