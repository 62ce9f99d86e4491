"""Automations: creating, changing, deleting and listing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import roles
from wandb_airflow_provider.devserver.automations import definitions
from wandb_airflow_provider.devserver.graphql.registry import RequestContext, connection, field, mutation
from wandb_airflow_provider.devserver.resolvers.collections import internal_id
from wandb_airflow_provider.devserver.resolvers.projects import project_node

Args = dict[str, Any]
Parent = Mapping[str, Any]


@mutation("createFilterTrigger")
def create_automation(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Create an automation."""
    with ctx.store.write() as conn:
        node = definitions.node(conn, definitions.create(ctx, conn, args))
    return {"__typename": "CreateFilterTriggerPayload", "trigger": node}


@mutation("updateFilterTrigger")
def update_automation(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Change an automation."""
    with ctx.store.write() as conn:
        node = definitions.node(conn, definitions.update(ctx, conn, args))
    return {"__typename": "UpdateFilterTriggerPayload", "trigger": node}


@mutation("deleteTrigger")
def delete_automation(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Delete an automation."""
    with ctx.store.write() as conn:
        definitions.delete(ctx, conn, str(args.get("triggerID")))
    return {"__typename": "DeleteTriggerPayload", "success": True}


@field("Entity", "triggers")
@field("Organization", "triggers")
def entity_automations(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the automations of a team or organisation that pass a filter, oldest first."""
    with ctx.store.read() as conn:
        found = definitions.select(ctx, conn, parent["name"], args.get("filters"))
    return connection(found, args, typename="TriggerConnection")


@field("Project", "triggers")
def project_automations(ctx: RequestContext, parent: Parent, args: Args) -> list[dict[str, Any]]:
    """List the automations of a project and of its collections."""
    project_id = internal_id(ctx, parent)
    with ctx.store.read() as conn:
        return definitions.of_project(conn, project_id)


@field("User", "projects")
def user_projects(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """
    List the projects that whoever asks may see; those with automations come first.

    Clients without a listing of automations walk these, and stop at the first page that has none.
    """
    with ctx.store.read() as conn:
        rows = conn.execute(
            "SELECT p.*, EXISTS (SELECT 1 FROM automations a LEFT JOIN artifact_collections c ON c.id = a.scope_key"
            " WHERE (a.scope_type = 'PROJECT' AND a.scope_key = CAST(p.internal_id AS TEXT))"
            " OR c.project_id = p.internal_id) AS watched FROM projects p ORDER BY watched DESC, p.internal_id DESC"
        ).fetchall()
        found = [project_node(ctx, row) for row in rows if roles.may_see(ctx, conn, row)]
    return connection(found, args, typename="ProjectConnection")
