"""
API keys and access tokens: stored as digests, each with its own rights, end and name.

A key belongs to an account and may do less than it: read only, or only in some entities. An access token is a key
that was got for an identity token and is not listed.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Mapping
from datetime import datetime

from wandb_airflow_provider.devserver.accounts import Account, find_account, find_entity, organization_of
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.ids import global_id
from wandb_airflow_provider.devserver.store import dumps, loads, register_schema

KEY, TOKEN = "key", "token"
_ACCESS = ("read", "write")
_START_DESCRIPTION = "the key that the server was started with"

register_schema("""
CREATE TABLE IF NOT EXISTS api_keys (
    key_id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('key', 'token')),
    username TEXT NOT NULL REFERENCES accounts (username),
    description TEXT,
    read_only INTEGER NOT NULL DEFAULT 0,
    limits TEXT,
    shown_secret TEXT,
    expires_at TEXT
);
CREATE INDEX IF NOT EXISTS api_keys_by_username ON api_keys (username);
""")


def new_secret() -> str:
    """Return a new key: 40 characters, from the system's source of randomness even where ids are seeded."""
    return secrets.token_hex(20)


def add(
    conn: sqlite3.Connection,
    username: str,
    key: str,
    *,
    kind: str = KEY,
    description: str | None = None,
    read_only: bool = False,
    limits: Mapping[str, str] | None = None,
    expires_at: datetime | None = None,
    shown: bool = False,
) -> sqlite3.Row:
    """
    Make a key valid for an account, and return its row.

    :param limits: The only entities that it is for, each with ``read`` or ``write``; their organisations come along.
    :param shown: Whether the key itself is kept too, for those who administer the account's team to read.
    :raises GraphQLError: 400 if the limits name no such entity or access.
    """
    conn.execute("DELETE FROM api_keys WHERE digest = ?", (digest(key),))
    conn.execute(
        "INSERT INTO api_keys (digest, name, kind, username, description, read_only, limits, shown_secret,"
        " expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            digest(key),
            f"{key[:4]}...{key[-4:]}",
            kind,
            username,
            description,
            int(read_only),
            None if limits is None else dumps(_with_organizations(conn, limits)),
            key if shown else None,
            None if expires_at is None else stamp(expires_at),
        ),
    )
    row: sqlite3.Row = conn.execute("SELECT * FROM api_keys WHERE digest = ?", (digest(key),)).fetchone()
    return row


def replace_start_key(conn: sqlite3.Connection, username: str, key: str) -> None:
    """Make the key that the server starts with valid for an account, instead of the one of its last start."""
    conn.execute(
        "DELETE FROM api_keys WHERE username = ? AND description = ?", (username, _START_DESCRIPTION)
    )
    add(conn, username, key, description=_START_DESCRIPTION)


def of_account(conn: sqlite3.Connection, username: str) -> list[sqlite3.Row]:
    """Return the keys of an account, oldest first, without its access tokens."""
    return conn.execute(
        "SELECT * FROM api_keys WHERE username = ? AND kind = 'key' ORDER BY key_id", (username,)
    ).fetchall()


def find(conn: sqlite3.Connection, node_id: object) -> sqlite3.Row | None:
    """Return a key by the id that the API gives it."""
    rows = conn.execute("SELECT * FROM api_keys WHERE kind = 'key'").fetchall()
    return next((row for row in rows if key_id(row) == node_id), None)


def key_id(row: sqlite3.Row) -> str:
    """Return the id under which the API knows a key."""
    return global_id("ApiKey", row["key_id"])


def revoke(conn: sqlite3.Connection, key: str) -> bool:
    """Make one key or access token invalid, by the secret itself; tell whether it was valid."""
    return bool(conn.execute("DELETE FROM api_keys WHERE digest = ?", (digest(key),)).rowcount)


def revoke_all(conn: sqlite3.Connection, username: str | None = None, kind: str | None = None) -> int:
    """Make the keys and access tokens invalid, of one account or one kind if named; return how many there were."""
    return conn.execute(
        "DELETE FROM api_keys WHERE username = coalesce(?, username) AND kind = coalesce(?, kind)",
        (username, kind),
    ).rowcount


def expire(conn: sqlite3.Connection, key: str, at: datetime) -> bool:
    """Let one key or access token end at a time, which may be past; tell whether it is known."""
    changed = conn.execute("UPDATE api_keys SET expires_at = ? WHERE digest = ?", (stamp(at), digest(key)))
    return bool(changed.rowcount)


def expire_all(
    conn: sqlite3.Connection, at: datetime, username: str | None = None, kind: str | None = None
) -> int:
    """Let the keys and access tokens end at a time, of one account or one kind if named; return how many."""
    return conn.execute(
        "UPDATE api_keys SET expires_at = ? WHERE username = coalesce(?, username) AND kind = coalesce(?, kind)",
        (stamp(at), username, kind),
    ).rowcount


def account_of(conn: sqlite3.Connection, key: str, now: datetime) -> Account:
    """
    Return the account that a key or access token belongs to, with what the key allows.

    :raises GraphQLError: 401 if the key is unknown or has expired.
    """
    row = conn.execute("SELECT * FROM api_keys WHERE digest = ?", (digest(key),)).fetchone()
    if row is None:
        raise GraphQLError(
            f"invalid API key (ending in {key[-4:]!r}, {len(key)} characters): this server does not know it.",
            401,
        )
    username, what = row["username"], "API key" if row["kind"] == KEY else "access token"
    end = None if row["expires_at"] is None else datetime.fromisoformat(row["expires_at"])
    if end is not None and end <= now:
        raise GraphQLError(f"the {what} of user {username!r} expired at {row['expires_at']}.", 401)
    account = find_account(conn, username)
    if account is None:
        raise GraphQLError(f"the {what} belongs to user {username!r}, who no longer exists.", 401)
    return account.narrowed(read_only=bool(row["read_only"]), limits=loads(row["limits"]), expires_at=end)


def is_within(row: sqlite3.Row, user: Account) -> bool:
    """Tell whether a key reaches no entity, to read or to write, that the key which somebody came with does not."""
    if user.limits is None:
        return True
    theirs = loads(row["limits"])
    return theirs is not None and all(
        user.limits.get(entity) in ((access,) if access == "write" else _ACCESS)
        for entity, access in theirs.items()
    )


def digests(conn: sqlite3.Connection) -> set[str]:
    """Return what is stored of every key and access token."""
    return {row["digest"] for row in conn.execute("SELECT digest FROM api_keys")}


def digest(key: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _with_organizations(conn: sqlite3.Connection, limits: Mapping[str, str]) -> dict[str, str]:
    whole: dict[str, str] = {}
    for entity, access in limits.items():
        if access not in _ACCESS or find_entity(conn, entity) is None:
            raise GraphQLError(
                f"a key cannot be limited to {access!r} in {entity!r}: name an entity that exists, with"
                f" {' or '.join(map(repr, _ACCESS))}."
            )
        whole[entity] = access
    for entity, access in limits.items():
        organization = organization_of(conn, entity)
        if organization not in limits and whole.get(organization) != "write":
            whole[organization] = access
    return whole
