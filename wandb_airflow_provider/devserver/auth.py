"""Accounts, teams and API keys: who asks, and what that account may write."""

from __future__ import annotations

import base64
import binascii
import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.ids import numbered_id
from wandb_airflow_provider.devserver.store import Store, register_schema, register_seed

DEFAULT_API_KEY = "devserver00000000000000000000000000local"  # the SDK accepts exactly 40 characters
DEFAULT_ORGANIZATION = "local-org"
DEFAULT_TEAM = "local"
DEFAULT_USER = "dev"

register_schema("""
CREATE TABLE IF NOT EXISTS entities (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('team', 'user', 'organization')),
    organization TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS accounts (
    username TEXT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL,
    entity TEXT NOT NULL REFERENCES entities (name),
    role TEXT NOT NULL CHECK (role IN ('admin', 'member', 'read-only'))
);
CREATE TABLE IF NOT EXISTS memberships (
    username TEXT NOT NULL REFERENCES accounts (username),
    entity TEXT NOT NULL REFERENCES entities (name),
    PRIMARY KEY (username, entity)
);
CREATE TABLE IF NOT EXISTS api_keys (
    digest TEXT PRIMARY KEY,
    username TEXT NOT NULL REFERENCES accounts (username),
    expires_at TEXT
);
""")


@dataclass(frozen=True)
class Account:
    """
    Whoever a key belongs to.

    :param entity: The entity used when a request names none.
    :param teams: Every entity that the account belongs to: its own, its teams, their organisations.
    """

    id: str
    username: str
    email: str
    entity: str
    role: str
    teams: tuple[str, ...]

    @property
    def admin(self) -> bool:
        """Tell whether the account administers the server."""
        return self.role == "admin"

    def may_read(self, entity: str) -> bool:
        """Tell whether the account sees what belongs to an entity."""
        return entity in self.teams

    def may_write(self, entity: str) -> bool:
        """Tell whether the account may change what belongs to an entity."""
        return self.role != "read-only" and self.may_read(entity)

    def require_write(self, entity: str) -> None:
        """Raise a 403 that says what this key lacks, if the account may not write to an entity."""
        if self.role == "read-only":
            raise GraphQLError(
                f"permission denied: the API key of user {self.username!r} is read-only; it cannot write to"
                f" entity {entity!r}. Use a key with write access.",
                403,
            )
        if entity not in self.teams:
            raise GraphQLError(
                f"permission denied: user {self.username!r} is not a member of entity {entity!r}; its entities are"
                f" {', '.join(map(repr, self.teams))}.",
                403,
            )


@register_seed
def seed_accounts(conn: sqlite3.Connection, now: str) -> None:
    """Create the default organisation, team and user."""
    add_entity(conn, DEFAULT_ORGANIZATION, "organization", now)
    add_entity(conn, DEFAULT_TEAM, "team", now)
    add_account(conn, DEFAULT_USER, role="admin", teams=(DEFAULT_TEAM,), now=now)


def add_entity(conn: sqlite3.Connection, name: str, kind: str, now: str) -> None:
    """Create a team, user or organisation entity of the default organisation, unless it exists."""
    conn.execute(
        "INSERT OR IGNORE INTO entities VALUES (?, ?, ?, ?, ?)",
        (numbered_id("Entity", name), name, kind, DEFAULT_ORGANIZATION, now),
    )


def add_account(
    conn: sqlite3.Connection, username: str, *, role: str, teams: Iterable[str], now: str
) -> None:
    """
    Create an account unless it exists; its default entity is its first team, else its own entity.

    :param role: ``admin``, ``member`` or ``read-only``.
    """
    teams = tuple(teams)
    add_entity(conn, username, "user", now)
    for team in teams[:1]:
        add_entity(conn, team, "team", now)
    conn.execute(
        "INSERT OR IGNORE INTO accounts VALUES (?, ?, ?, ?, ?)",
        (username, numbered_id("User", username), f"{username}@example.com", (*teams, username)[0], role),
    )
    for team in teams:
        add_member(conn, username, team, now)
    conn.execute("INSERT OR IGNORE INTO memberships VALUES (?, ?)", (username, username))


def add_member(conn: sqlite3.Connection, username: str, team: str, now: str) -> None:
    """Put an account into a team, which is created if needed, and so into the team's organisation."""
    add_entity(conn, team, "team", now)
    conn.executemany(
        "INSERT OR IGNORE INTO memberships VALUES (?, ?)",
        [(username, team), (username, DEFAULT_ORGANIZATION)],
    )


def set_key(conn: sqlite3.Connection, username: str, key: str, expires_at: str | None = None) -> None:
    """Make a key valid for an account, until an ISO time if one is given."""
    conn.execute("INSERT OR REPLACE INTO api_keys VALUES (?, ?, ?)", (_digest(key), username, expires_at))


def remove_keys(conn: sqlite3.Connection, username: str) -> None:
    """Make every key of an account invalid."""
    conn.execute("DELETE FROM api_keys WHERE username = ?", (username,))


def find_account(conn: sqlite3.Connection, username: str) -> Account | None:
    """Return an account by its user name."""
    row = conn.execute("SELECT * FROM accounts WHERE username = ?", (username,)).fetchone()
    if row is None:
        return None
    teams = conn.execute("SELECT entity FROM memberships WHERE username = ? ORDER BY rowid", (username,))
    return Account(
        row["id"], row["username"], row["email"], row["entity"], row["role"], tuple(team for (team,) in teams)
    )


def authenticate(store: Store, header: str | None, now: datetime) -> Account:
    """
    Return the account that an ``Authorization`` header (Basic ``api:<key>``, or Bearer) belongs to.

    :raises GraphQLError: 401, with the reason: no key, unknown key or expired key.
    """
    key = _key_in(header)
    if key is None:
        raise GraphQLError(
            "no API key was sent: use Basic authentication as user 'api', or a Bearer token.", 401
        )
    with store.read() as conn:
        row = conn.execute("SELECT * FROM api_keys WHERE digest = ?", (_digest(key),)).fetchone()
        if row is None:
            raise GraphQLError(
                f"invalid API key (ending in {key[-4:]!r}, {len(key)} characters): this server does not know it.",
                401,
            )
        if row["expires_at"] is not None and datetime.fromisoformat(row["expires_at"]) <= now:
            raise GraphQLError(
                f"the API key of user {row['username']!r} expired at {row['expires_at']}.", 401
            )
        account = find_account(conn, row["username"])
    if account is None:
        raise GraphQLError(f"the API key belongs to user {row['username']!r}, who no longer exists.", 401)
    return account


def _key_in(header: str | None) -> str | None:
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
