"""Changes of accounts: teams, members, service accounts, users and API keys."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver import accounts, api_keys
from wandb_airflow_provider.devserver.clock import api_time, stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext, mutation
from wandb_airflow_provider.devserver.ids import global_id
from wandb_airflow_provider.devserver.resolvers.accounts import entity_node, key_node, user_node

Args = dict[str, Any]
Parent = Mapping[str, Any]


@mutation("createTeam")
def create_team(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Create a team of the default organisation, with one admin: whoever asks, unless another is named."""
    _require_server_admin(ctx, "create teams")
    name = accounts.check_name("a team", args["teamName"])
    username = args.get("teamAdminUserName") or ctx.user.username
    now = stamp(ctx.now())
    with ctx.store.write() as conn:
        if accounts.find_entity(conn, name) is not None:
            raise GraphQLError(f"cannot create team {name!r}: that name is taken.")
        _account(conn, username)
        accounts.add_member(conn, username, name, now, role="admin")
        row = accounts.find_entity(conn, name)
        assert row is not None
    return {"__typename": "CreateTeamPayload", "entity": entity_node(row)}


@mutation("createInvite")
def create_invite(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """
    Put a user into a team at once: nobody here reads e-mail.

    Admins of a team see the keys of its service accounts, so only those who see one already may put it into another.
    """
    team, now = args["entityName"], stamp(ctx.now())
    with ctx.store.write() as conn:
        _require_team_admin(ctx, conn, team)
        row = conn.execute(
            "SELECT username FROM accounts WHERE username = ? OR email = ?",
            (args.get("username"), args.get("email")),
        ).fetchone()
        if row is None:
            wanted = args.get("email") or args.get("username")
            raise GraphQLError(f"cannot invite {wanted!r}: this server has no such user.", 404)
        account = _account(conn, row["username"])
        if account.kind == "service" and not _administers_team_of(ctx, conn, account):
            raise GraphQLError(
                f"permission denied: service account {account.username!r} is not of a team that user"
                f" {ctx.user.username!r} is an admin of; create one in team {team!r} instead.",
                403,
            )
        if account.may_read(team):
            raise GraphQLError(f"user {account.username!r} is a member of team {team!r} already.")
        accounts.add_member(
            conn, account.username, team, now, role="admin" if args.get("admin") else "member"
        )
    invite = {
        "__typename": "Invite",
        "id": global_id("Invite", team, account.username),
        "name": account.name,
        "email": account.email,
        "createdAt": api_time(now),
        "toUser": user_node(account),
    }
    return {"__typename": "CreateInvitePayload", "invite": invite}


@mutation("deleteInvite")
def delete_invite(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Take a member out of a team; a service account loses its keys with its only team."""
    team = args["entityName"]
    with ctx.store.write() as conn:
        _require_team_admin(ctx, conn, team)
        row = conn.execute("SELECT username FROM accounts WHERE id = ?", (args["id"],)).fetchone()
        if row is None or not accounts.remove_member(conn, row["username"], team):
            raise GraphQLError(f"team {team!r} has no member with the id {args['id']!r}.", 404)
        account = _account(conn, row["username"])
        if account.kind == "service" and not accounts.teams_of(conn, account.username):
            api_keys.revoke_all(conn, account.username)
    return {"__typename": "DeleteInvitePayload", "success": True}


@mutation("createServiceAccount")
def create_service_account(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Create an account that is no person, in one team, with a key that the team's admins see."""
    team = args["entityName"]
    with ctx.store.write() as conn:
        _require_team_admin(ctx, conn, team)
        username = add_service_account(conn, team, args.get("description") or "", stamp(ctx.now()))[0]
        account = _account(conn, username)
    return {"__typename": "CreateServiceAccountPayload", "user": user_node(account)}


def add_service_account(
    conn: sqlite3.Connection, team: str, description: str, now: str, role: str = "member"
) -> tuple[str, str]:
    """
    Create a service account of a team, and return its user name and its key.

    :param description: What it is for, and its name for people.
    :param role: On the server: ``member``, ``admin`` or ``read-only``.
    """
    username = _free_username(conn, f"service-{_slug(description) or team}")
    accounts.add_account(
        conn,
        username,
        role=role,
        teams=(team,),
        now=now,
        kind="service",
        display_name=description or username,
    )
    key = api_keys.new_secret()
    api_keys.add(conn, username, key, description=description or None, shown=True)
    return username, key


@mutation("createUser")
def create_user(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Create a user, who has no key yet and is in no team."""
    _require_server_admin(ctx, "create users")
    email = args["email"]
    if not isinstance(email, str) or not re.fullmatch(r"[^@\s<>\"]{1,64}@[^@\s<>\"]{1,255}", email):
        raise GraphQLError(f"cannot create a user: {email!r} is not an e-mail address.")
    with ctx.store.write() as conn:
        if conn.execute("SELECT 1 FROM accounts WHERE email = ?", (email,)).fetchone() is not None:
            raise GraphQLError(f"cannot create a user: {email!r} has an account already.")
        username = _free_username(conn, _slug(email.partition("@")[0]) or "user")
        role = "admin" if args.get("admin") else "member"
        accounts.add_account(conn, username, role=role, teams=(), now=stamp(ctx.now()), email=email)
        account = _account(conn, username)
    return {"__typename": "CreateUserPayload", "user": user_node(account)}


@mutation("generateApiKey")
def generate_api_key(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Make a further key for whoever asks; it may do what the key that asks may, and ends with it."""
    _require_own_write(ctx)
    secret = api_keys.new_secret()
    with ctx.store.write() as conn:
        row = api_keys.add(
            conn,
            ctx.user.username,
            secret,
            description=args.get("description"),
            limits=ctx.user.limits,
            expires_at=ctx.user.key_expires_at,
        )
    return {"__typename": "GenerateApiKeyPayload", "apiKey": key_node(row, secret)}


@mutation("deleteApiKey")
def delete_api_key(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Make a key invalid: one's own, or any for who administers the server; none that may do more than the one used."""
    _require_own_write(ctx)
    with ctx.store.write() as conn:
        row = api_keys.find(conn, args["id"])
        if row is None or not (row["username"] == ctx.user.username or ctx.user.administers):
            raise GraphQLError(f"there is no API key with the id {args['id']!r}.", 404)
        if not api_keys.is_within(row, ctx.user):
            raise GraphQLError(
                f"permission denied: the API key of user {ctx.user.username!r} is limited to some entities; it cannot"
                " delete a key that is for others, too.",
                403,
            )
        conn.execute("DELETE FROM api_keys WHERE key_id = ?", (row["key_id"],))
    return {"__typename": "DeleteApiKeyPayload", "success": True}


def _require_server_admin(ctx: RequestContext, action: str) -> None:
    if not ctx.user.administers:
        raise GraphQLError(
            f"permission denied: user {ctx.user.username!r} cannot {action}; this takes a key of an admin of the"
            " server that is not limited.",
            403,
        )


def _require_team_admin(ctx: RequestContext, conn: sqlite3.Connection, team: str) -> None:
    row = accounts.find_entity(conn, team)
    if row is None or row["kind"] != accounts.TEAM or not (ctx.user.may_read(team) or ctx.user.administers):
        raise GraphQLError(f"team {team!r} not found.", 404)
    if not ctx.user.administers_entity(team):
        raise GraphQLError(
            f"permission denied: user {ctx.user.username!r} is no admin of team {team!r}, or uses a key that is"
            " read-only.",
            403,
        )


def _administers_team_of(ctx: RequestContext, conn: sqlite3.Connection, account: accounts.Account) -> bool:
    teams = accounts.teams_of(conn, account.username)
    return ctx.user.administers or any(ctx.user.administers_entity(team) for team in teams)


def _require_own_write(ctx: RequestContext) -> None:
    if ctx.user.role == "read-only" or ctx.user.read_only_key:
        raise GraphQLError(
            f"permission denied: the API key of user {ctx.user.username!r} is read-only; it cannot change API keys.",
            403,
        )


def _account(conn: sqlite3.Connection, username: str) -> accounts.Account:
    account = accounts.find_account(conn, username)
    if account is None:
        raise GraphQLError(f"this server has no user {username!r}.", 404)
    return account


def _free_username(conn: sqlite3.Connection, wanted: str) -> str:
    number, name = 1, wanted
    while accounts.find_entity(conn, name) is not None:
        number += 1
        name = f"{wanted}-{number}"
    return name


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
