"""Reports and workspaces: saving, listing, deleting, and links that share them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver import views
from wandb_airflow_provider.devserver.clock import api_time, stamp
from wandb_airflow_provider.devserver.graphql.registry import (
    GraphQLError,
    RequestContext,
    connection,
    field,
    mutation,
    query,
)
from wandb_airflow_provider.devserver.resolvers.accounts import user_of
from wandb_airflow_provider.devserver.resolvers.collections import internal_id
from wandb_airflow_provider.devserver.resolvers.projects import get_project, project_node
from wandb_airflow_provider.devserver.store import dumps

Args = dict[str, Any]
Parent = Mapping[str, Any]


@query("view")
def view(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return a report or workspace by id, or null."""
    with ctx.store.read() as conn:
        row = views.find(conn, args["id"])
    return None if row is None or not ctx.user.may_read(row["entity"]) else _node(row)


@field("Project", "allViews")
def all_views(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the views of a project of one type, latest change first; reports unless told otherwise."""
    project_id = internal_id(ctx, parent)
    with ctx.store.read() as conn:
        rows = views.select(
            conn, project_id, args.get("viewType") or views.REPORT, args.get("viewName"), args.get("userName")
        )
    return connection([_node(row) for row in rows], args, typename="ViewConnection")


@field("View", "user")
def view_user(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return who saved a view first."""
    user = user_of(ctx, parent["_user"])
    return None if user is None else {**user, "photoUrl": None}


@field("View", "project")
def view_project(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the project of a view."""
    with ctx.store.read() as conn:
        row = get_project(conn, parent["_entity"], parent["_project"])
    return None if row is None else project_node(ctx, row)


@field("View", "accessTokens")
def access_tokens(ctx: RequestContext, parent: Parent, args: Args) -> list[dict[str, Any]]:
    """List the tokens of the links that share a view, revoked ones included."""
    with ctx.store.read() as conn:
        rows = conn.execute(
            "SELECT * FROM view_tokens WHERE view = ? ORDER BY rowid", (parent["id"],)
        ).fetchall()
    return [_token_node(row) for row in rows]


@mutation("upsertView")
def upsert_view(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Save a report or workspace."""
    with ctx.store.write() as conn:
        row, inserted = views.upsert(ctx, conn, args)
    return {"__typename": "UpsertViewPayload", "view": _node(row), "inserted": inserted}


@mutation("deleteView")
def delete_view(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Delete a report or workspace."""
    with ctx.store.write() as conn:
        views.delete(ctx, conn, args["id"])
    return {"__typename": "DeleteViewPayload", "success": True, "pendingDrafts": []}


@mutation("createAccessToken")
def create_access_token(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Make a token that shares a view with anyone who has it."""
    token = ctx.ids.token(64)
    with ctx.store.write() as conn:
        row = views.require(ctx, conn, args["viewId"])
        projects = _projects(ctx, args)
        conn.execute(
            "INSERT INTO view_tokens VALUES (?, ?, ?, ?, NULL)",
            (token, row["id"], projects, stamp(ctx.now())),
        )
        made = _find_token(ctx, conn, token)
    return {"__typename": "CreateAccessTokenPayload", "accessToken": _token_node(made)}


@mutation("updateAccessTokenProjects")
def update_access_token(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Change the projects that a token gives a view of."""
    with ctx.store.write() as conn:
        row = _find_token(ctx, conn, args["token"])
        conn.execute(
            "UPDATE view_tokens SET projects = ? WHERE token = ?", (_projects(ctx, args), row["token"])
        )
    return {"__typename": "UpdateAccessTokenProjectsPayload", "success": True}


@mutation("revokeAccessToken")
def revoke_access_token(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """End a token."""
    with ctx.store.write() as conn:
        row = _find_token(ctx, conn, args["token"])
        conn.execute(
            "UPDATE view_tokens SET revoked_at = coalesce(revoked_at, ?) WHERE token = ?",
            (stamp(ctx.now()), row["token"]),
        )
    return {"__typename": "RevokeAccessTokenPayload", "success": True}


def _find_token(ctx: RequestContext, conn: sqlite3.Connection, token: str) -> sqlite3.Row:
    row: sqlite3.Row | None = conn.execute("SELECT * FROM view_tokens WHERE token = ?", (token,)).fetchone()
    if row is None:
        raise GraphQLError("there is no such access token.", 404)
    views.require(ctx, conn, row["view"])
    return row


def _projects(ctx: RequestContext, args: Args) -> str:
    named = [(str(item["entityName"]), str(item["projectName"])) for item in args.get("projects") or ()]
    for entity, _ in named:
        ctx.user.require_write(entity)
    return dumps(named)


def _token_node(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "__typename": "AccessToken",
        "token": row["token"],
        "type": "PUBLIC",
        "revokedAt": api_time(row["revoked_at"]),
        "projects": [
            {"__typename": "Project", "entityName": entity, "name": name}
            for entity, name in json.loads(row["projects"])
        ],
    }


def _node(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "__typename": "View",
        "id": row["id"],
        "type": row["type"],
        "name": row["name"],
        "displayName": row["display_name"],
        "description": row["description"],
        "spec": row["spec"],
        "createdAt": api_time(row["created_at"]),
        "updatedAt": api_time(row["updated_at"]),
        "createdUsing": "WANDB_SDK",
        "_user": row["user"],
        "_entity": row["entity"],
        "_project": row["project"],
    }
