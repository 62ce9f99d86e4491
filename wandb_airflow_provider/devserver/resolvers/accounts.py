"""Users, teams and who is asking."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.auth import Account, find_account
from wandb_airflow_provider.devserver.graphql.registry import RequestContext, connection, field, query


def user_node(account: Account) -> dict[str, Any]:
    """Return the object of an account."""
    return {
        "__typename": "User",
        "id": account.id,
        "name": account.username,
        "username": account.username,
        "email": account.email,
        "entity": account.entity,
        "admin": account.admin,
        "flags": "{}",
        "accountType": "SERVICE" if account.role == "read-only" else "USER",
        "deletedAt": None,
        "_teams": account.teams,
    }


def user_of(ctx: RequestContext, username: str | None) -> dict[str, Any] | None:
    """Return the object of a user by name, or None."""
    if username is None:
        return None
    key = ("user", username)
    if key not in ctx.memo:
        with ctx.store.read() as conn:
            account = find_account(conn, username)
        ctx.memo[key] = None if account is None else user_node(account)
    found: dict[str, Any] | None = ctx.memo[key]
    return found


def entity_node(row: sqlite3.Row) -> dict[str, Any]:
    """Return the object of an entity's row; its type is told in lower case."""
    return {
        "__typename": "Entity",
        "id": row["id"],
        "name": row["name"],
        "entityType": row["kind"],
        "isTeam": row["kind"] == "team",
        "available": False,
        "photoUrl": None,
        "readOnly": False,
        "readOnlyAdmin": False,
        "privateOnly": False,
        "storageBytes": 0,
        "codeSavingEnabled": True,
        "defaultAccess": "PRIVATE",
        "isPaid": True,
        "limits": None,
        "xxhashDigestsEnabled": False,
        "_organization": row["organization"],
    }


@query("viewer")
def viewer(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Return whoever the API key belongs to."""
    return user_node(ctx.user)


@query("entity")
def entity(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any] | None:
    """Return an entity that the account belongs to, or null."""
    name = args.get("name") or ctx.user.entity
    if not ctx.user.may_read(name):
        return None
    with ctx.store.read() as conn:
        row = conn.execute("SELECT * FROM entities WHERE name = ?", (name,)).fetchone()
    return None if row is None else entity_node(row)


@query("users")
def users(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Find users by name or e-mail address."""
    wanted = str(args.get("query") or "")
    with ctx.store.read() as conn:
        names = conn.execute(
            "SELECT username FROM accounts WHERE instr(username, ?) OR instr(email, ?) ORDER BY username",
            (wanted, wanted),
        ).fetchall()
    return connection([user_of(ctx, name) for (name,) in names], args, typename="UserConnection")


@query("user")
def user(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any] | None:
    """Return a user by name, or null."""
    return user_of(ctx, args.get("userName"))


@field("User", "teams")
def teams(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """List the teams of a user."""
    with ctx.store.read() as conn:
        rows = [
            conn.execute("SELECT * FROM entities WHERE name = ?", (name,)).fetchone()
            for name in parent["_teams"]
        ]
    nodes = [entity_node(row) for row in rows if row["kind"] == "team"]
    return connection(nodes, args, typename="EntityConnection")


@field("User", "apiKeys")
def api_keys(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Answer with no keys: they are kept only as digests."""
    return connection([], args, typename="ApiKeyConnection")


@field("Entity", "members")
def members(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> list[dict[str, Any]]:
    """List the members of a team."""
    with ctx.store.read() as conn:
        names = conn.execute(
            "SELECT username FROM memberships WHERE entity = ? ORDER BY rowid", (parent["name"],)
        ).fetchall()
    found = [user_of(ctx, name) for (name,) in names]
    return [
        {**node, "__typename": "Member", "pending": False, "photoUrl": None, "apiKey": None}
        for node in found
        if node
    ]


@field("Project", "user")
@field("Run", "user")
def owner(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any] | None:
    """Return who created a project or run."""
    return user_of(ctx, parent["_user"])
