"""Users, teams and who is asking."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver import api_keys as keys
from wandb_airflow_provider.devserver.accounts import TEAM, Account, find_account, find_entity
from wandb_airflow_provider.devserver.graphql.registry import RequestContext, connection, field, query


def user_node(account: Account) -> dict[str, Any]:
    """Return the object of an account."""
    return {
        "__typename": "User",
        "id": account.id,
        "name": account.name or account.username,
        "username": account.username,
        "email": account.email,
        "entity": account.entity,
        "admin": account.admin,
        "flags": "{}",
        "accountType": "SERVICE" if account.kind == "service" else "USER",
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
    """Return an entity that the account belongs to, or any for who administers the server, or null."""
    name = args.get("name") or ctx.user.entity
    if not (ctx.user.may_read(name) or ctx.user.administers):
        return None
    with ctx.store.read() as conn:
        row = find_entity(conn, name)
    return None if row is None else entity_node(row)


@query("users")
def users(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Find users by name or e-mail address: all for who administers the server, else those of a shared entity."""
    wanted = str(args.get("query") or "")
    with ctx.store.read() as conn:
        rows = conn.execute(
            "SELECT username, email FROM accounts WHERE instr(username, ?) OR instr(email, ?) ORDER BY username",
            (wanted, wanted),
        ).fetchall()
        found = [find_account(conn, row["username"]) for row in rows]
    visible = [
        account
        for account in found
        if account is not None and (ctx.user.admin or not set(ctx.user.teams).isdisjoint(account.teams))
    ]
    # Whoever is asked for by the whole name comes first.
    visible.sort(key=lambda account: wanted not in (account.username, account.email))
    return connection([user_node(account) for account in visible], args, typename="UserConnection")


@query("user")
def user(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any] | None:
    """Return a user by name, or null."""
    return user_of(ctx, args.get("userName"))


@field("User", "teams")
def teams(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """List the teams of a user."""
    with ctx.store.read() as conn:
        rows = [find_entity(conn, name) for name in parent["_teams"]]
    nodes = [entity_node(row) for row in rows if row is not None and row["kind"] == TEAM]
    return connection(nodes, args, typename="EntityConnection")


@field("User", "apiKeys")
def api_keys(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """List the keys of a user by name, to that user and to who administers the server; secrets are not told."""
    found = []
    if parent["username"] == ctx.user.username or ctx.user.administers:
        with ctx.store.read() as conn:
            found = [key_node(row) for row in keys.of_account(conn, parent["username"])]
    return connection(found, args, typename="ApiKeyConnection")


def key_node(row: sqlite3.Row, secret: str | None = None) -> dict[str, Any]:
    """Return the object of a key; its name is the key itself if that is given, as when it has just been made."""
    return {
        "__typename": "ApiKey",
        "id": keys.key_id(row),
        "name": secret or row["name"],
        "description": row["description"],
    }


@field("Entity", "members")
def members(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> list[dict[str, Any]]:
    """List the members of a team, those who joined last at the end; admins see the keys of service accounts."""
    team = parent["name"]
    found = []
    with ctx.store.read() as conn:
        rows = conn.execute(
            "SELECT username, role FROM memberships WHERE entity = ? ORDER BY rowid", (team,)
        ).fetchall()
        for row in rows:
            account = find_account(conn, row["username"])
            if account is not None:
                key = _shown_key(conn, account) if ctx.user.administers_entity(team) else None
                found.append(_member_node(account, row["role"], key))
    return found


def _member_node(account: Account, role: str, key: str | None) -> dict[str, Any]:
    return {
        **user_node(account),
        "__typename": "Member",
        "admin": account.admin or role == "admin",
        "role": role,
        "pending": False,
        "photoUrl": None,
        "apiKey": key,
    }


def _shown_key(conn: sqlite3.Connection, account: Account) -> str | None:
    shown = [row["shown_secret"] for row in keys.of_account(conn, account.username) if row["shown_secret"]]
    return str(shown[-1]) if shown else None


@field("Project", "user")
@field("Run", "user")
def owner(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any] | None:
    """Return who created a project or run."""
    return user_of(ctx, parent["_user"])
