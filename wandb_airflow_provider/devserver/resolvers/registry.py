"""Registries: linking and unlinking versions, settings, members."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.accounts import DEFAULT_ORGANIZATION, find_account
from wandb_airflow_provider.devserver.artifacts import (
    collections,
    memberships,
    names,
    nodes,
    registries,
    roles,
    versions,
)
from wandb_airflow_provider.devserver.artifacts.access import readable_artifact, require_download
from wandb_airflow_provider.devserver.clock import api_time
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext, field, mutation
from wandb_airflow_provider.devserver.resolvers.accounts import entity_node, user_node
from wandb_airflow_provider.devserver.resolvers.collections import internal_id
from wandb_airflow_provider.devserver.resolvers.projects import (
    ensure_project,
    get_project,
    insert_project,
    project_node,
)
from wandb_airflow_provider.devserver.store import register_seed

Args = dict[str, Any]
Parent = Mapping[str, Any]


@register_seed
def seed_registries(conn: sqlite3.Connection, now: str) -> None:
    """Create the registries that the default organisation starts with."""
    seed_organization(conn, DEFAULT_ORGANIZATION, now)


def seed_organization(conn: sqlite3.Connection, organization: str, now: str) -> None:
    """Create the registries that every organisation starts with, unless they exist."""
    for name in registries.INITIAL:
        project_name = f"{names.REGISTRY_PREFIX}{name}"
        if get_project(conn, organization, project_name) is None:
            insert_project(conn, organization, project_name, now=now)
            row = get_project(conn, organization, project_name)
            assert row is not None
            registries.seed(conn, row["internal_id"], name, now)


@mutation("linkArtifact")
def link_artifact(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Link a version to a collection and give it aliases there."""
    with ctx.store.write() as conn:
        row = _source(ctx, conn, args)
        project, name = _target(ctx, conn, args)
        added = [str(item["alias"]) for item in args.get("aliases") or ()]
        membership = memberships.link(ctx, conn, row, project, name, added)
    return {
        "__typename": "LinkArtifactPayload",
        "versionIndex": membership["version"],
        "artifactMembership": nodes.membership_node(membership),
    }


@mutation("unlinkArtifact")
def unlink_artifact(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Take a version out of a collection that it is linked to."""
    with ctx.store.write() as conn:
        collection = collections.get_ready(conn, args["artifactPortfolioID"])
        project = conn.execute(
            "SELECT * FROM projects WHERE internal_id = ?", (collection["project_id"],)
        ).fetchone()
        roles.require(ctx, conn, project)
        if collection["kind"] != collections.PORTFOLIO:
            raise GraphQLError(
                f"cannot unlink from {collection['name']!r}: versions are logged there, not linked."
            )
        membership = memberships.in_collection(conn, collection["id"], args["artifactID"])
        if membership is None:
            raise GraphQLError(f"the artifact version is not linked to {collection['name']!r}.", 404)
        memberships.remove(ctx, conn, membership, "unlinked")
    return {"__typename": "UnlinkArtifactPayload", "artifactID": args["artifactID"], "success": True}


@mutation("renameProject")
def rename_project(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Rename a registry."""
    ctx.user.require_write(args["entityName"])
    with ctx.store.write() as conn:
        row = get_project(conn, args["entityName"], args["oldProjectName"])
        if row is None or not roles.may_see(ctx, conn, row):
            raise GraphQLError(f"project '{args['entityName']}/{args['oldProjectName']}' not found.", 404)
        row = registries.rename(ctx, conn, row, args["newProjectName"])
    return {"__typename": "RenameProjectPayload", "inserted": False, "project": project_node(ctx, row)}


@mutation("deleteModel")
def delete_model(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Delete a registry."""
    with ctx.store.write() as conn:
        registries.delete(ctx, conn, _project(ctx, conn, args["id"]))
    return {"__typename": "DeleteModelPayload", "success": True}


@field("Project", "allowAllArtifactTypesInRegistry")
def allow_all_types(ctx: RequestContext, parent: Parent, args: Args) -> bool:
    """Tell whether a registry accepts artifacts of any type; other projects do."""
    project_id = internal_id(ctx, parent)
    with ctx.store.read() as conn:
        row = registries.find(conn, project_id)
    return row is None or bool(row["allow_all_types"])


@field("Project", "readOnly")
def read_only(ctx: RequestContext, parent: Parent, args: Args) -> bool:
    """Tell whether the account may not change a project."""
    with ctx.store.read() as conn:
        return not roles.may_write(ctx, conn, _project(ctx, conn, parent["id"]))


@field("Project", "updatedAt")
def updated_at(ctx: RequestContext, parent: Parent, args: Args) -> str | None:
    """Return when a registry's settings changed last; of another project, when it was created."""
    project_id = internal_id(ctx, parent)
    with ctx.store.read() as conn:
        row = registries.find(conn, project_id)
    return parent["createdAt"] if row is None else api_time(row["updated_at"])


@field("Project", "members")
def user_members(ctx: RequestContext, parent: Parent, args: Args) -> list[dict[str, Any]]:
    """List the users who are members of a registry."""
    project_id = internal_id(ctx, parent)
    found = []
    with ctx.store.read() as conn:
        for member in roles.members(conn, project_id, "user"):
            row = conn.execute(
                "SELECT username FROM accounts WHERE id = ?", (member["member_id"],)
            ).fetchone()
            account = None if row is None else find_account(conn, row["username"])
            if account is not None:
                found.append({**user_node(account), "__typename": "ProjectMember", "role": _role(member)})
    return found


@field("Project", "teamMembers")
def team_members(ctx: RequestContext, parent: Parent, args: Args) -> list[dict[str, Any]]:
    """List the teams that are members of a registry."""
    project_id = internal_id(ctx, parent)
    found = []
    with ctx.store.read() as conn:
        for member in roles.members(conn, project_id, "team"):
            row = conn.execute("SELECT * FROM entities WHERE id = ?", (member["member_id"],)).fetchone()
            if row is not None:
                node = {"__typename": "ProjectTeamMember", "team": entity_node(row), "role": _role(member)}
                found.append(node)
    return found


@mutation("createProjectMembers")
def create_members(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Add users and teams to a registry."""
    with ctx.store.write() as conn:
        project = _administered(ctx, conn, args["projectId"])
        for kind, ids in (("user", args.get("userIds")), ("team", args.get("teamIds"))):
            roles.add_members(conn, project, kind, ids or [])
    return {"__typename": "CreateProjectMembersPayload", "success": True}


@mutation("deleteProjectMembers")
def delete_members(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Remove users and teams from a registry."""
    with ctx.store.write() as conn:
        project = _administered(ctx, conn, args["projectId"])
        for kind, ids in (("user", args.get("userIds")), ("team", args.get("teamIds"))):
            roles.remove_members(conn, project["internal_id"], kind, ids or [])
    return {"__typename": "DeleteProjectMembersPayload", "success": True}


@mutation("updateProjectMember")
def update_user_role(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Change the role of a user in a registry."""
    with ctx.store.write() as conn:
        project = _administered(ctx, conn, args["projectId"])
        roles.set_role(conn, project["internal_id"], "user", args["userId"], args["userProjectRole"])
    return {"__typename": "UpdateProjectMemberPayload", "success": True}


@mutation("updateProjectTeamMember")
def update_team_role(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Change the role of a team in a registry."""
    with ctx.store.write() as conn:
        project = _administered(ctx, conn, args["projectId"])
        roles.set_role(conn, project["internal_id"], "team", args["teamId"], args["teamProjectRole"])
    return {"__typename": "UpdateProjectTeamMemberPayload", "success": True}


def _role(member: sqlite3.Row) -> dict[str, Any]:
    return {"__typename": "Role", "name": member["role"]}


def _project(ctx: RequestContext, conn: sqlite3.Connection, project_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = conn.execute("SELECT * FROM projects WHERE id = ?", (project_id,)).fetchone()
    if row is None or not roles.may_see(ctx, conn, row):
        raise GraphQLError(f"project with id {project_id!r} not found.", 404)
    return row


def _administered(ctx: RequestContext, conn: sqlite3.Connection, project_id: str) -> sqlite3.Row:
    row = _project(ctx, conn, project_id)
    if not names.is_registry(row["name"]):
        raise GraphQLError(f"project {row['name']!r} is not a registry: it has no members of its own.")
    roles.require(ctx, conn, row, roles.ADMIN)
    return row


def _source(ctx: RequestContext, conn: sqlite3.Connection, args: Args) -> sqlite3.Row:
    if args.get("artifactID"):
        row = readable_artifact(ctx, conn, args["artifactID"])
    elif args.get("clientID"):
        row = versions.of_client(conn, args["clientID"])
        row = None if row is None else readable_artifact(ctx, conn, row["id"])
    else:
        raise GraphQLError("to link an artifact, give its artifactID or its clientID.")
    if row is None:
        raise GraphQLError("the artifact to link was not found.", 404)
    versions.require_not_deleted(row)
    # A link in a project of one's own would open what one may only see.
    return require_download(ctx, conn, row["id"])


def _target(ctx: RequestContext, conn: sqlite3.Connection, args: Args) -> tuple[sqlite3.Row, str]:
    if args.get("artifactPortfolioID"):
        collection = collections.get_ready(conn, args["artifactPortfolioID"])
        project = conn.execute(
            "SELECT * FROM projects WHERE internal_id = ?", (collection["project_id"],)
        ).fetchone()
        roles.require(ctx, conn, project)
        return project, collection["name"]
    entity, project_name = args["entityName"], args["projectName"]
    ctx.user.require_write(entity)
    project = get_project(conn, entity, project_name)
    if project is not None:
        roles.require(ctx, conn, project)
    if project is None and names.is_registry(project_name):
        registry = project_name.removeprefix(names.REGISTRY_PREFIX)
        raise GraphQLError(
            f"registry {registry!r} not found in organization {entity!r}: create it first.", 404
        )
    return project or ensure_project(ctx, conn, entity, project_name), args["artifactPortfolioName"]
