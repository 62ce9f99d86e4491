"""Accounts, teams and organisations, who belongs to which, and what that allows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.ids import numbered_id
from wandb_airflow_provider.devserver.store import register_schema, register_seed

DEFAULT_ORGANIZATION = "local-org"
DEFAULT_TEAM = "local"
DEFAULT_USER = "dev"

TEAM, USER, ORGANIZATION = "team", "user", "organization"
ROLES = ("admin", "member", "viewer")
"""Roles in a team or organisation."""

_FORBIDDEN = "/\\#?%:<>\"'"
_LONGEST_NAME = 128
# As a name they would lead elsewhere: clients take them out of an address.
FOLDERS = (".", "..")

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
    role TEXT NOT NULL CHECK (role IN ('admin', 'member', 'read-only')),
    kind TEXT NOT NULL DEFAULT 'user' CHECK (kind IN ('user', 'service')),
    display_name TEXT
);
CREATE TABLE IF NOT EXISTS memberships (
    username TEXT NOT NULL REFERENCES accounts (username),
    entity TEXT NOT NULL REFERENCES entities (name),
    role TEXT NOT NULL DEFAULT 'member' CHECK (role IN ('admin', 'member', 'viewer')),
    PRIMARY KEY (username, entity)
);
""")


@dataclass(frozen=True)
class Account:
    """
    Whoever a key belongs to, with what that key allows.

    :param entity: The entity used when a request names none.
    :param role: On the whole server: ``admin``, ``member`` or ``read-only``.
    :param teams: Every entity that it sees: its own, its teams, their organisations.
    :param kind: ``user`` or ``service``.
    :param roles: Its role in each entity that it belongs to: ``admin``, ``member`` or ``viewer``.
    :param read_only_key: Whether the key that it came with may only read.
    :param limits: What that key may do in the only entities that it is for (``read`` or ``write``); None if it is
        for all.
    :param key_expires_at: When that key ends; None if it does not.
    """

    id: str
    username: str
    email: str
    entity: str
    role: str
    teams: tuple[str, ...]
    kind: str = USER
    roles: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    read_only_key: bool = False
    limits: Mapping[str, str] | None = None
    key_expires_at: datetime | None = None

    @property
    def admin(self) -> bool:
        """Tell whether the account administers the server."""
        return self.role == "admin"

    @property
    def administers(self) -> bool:
        """Tell whether the account administers the server, and came with a key that is good for it."""
        return self.admin and not self.read_only_key and self.limits is None

    def may_read(self, entity: str) -> bool:
        """Tell whether the account sees what belongs to an entity."""
        return entity in self.teams

    def may_write(self, entity: str) -> bool:
        """Tell whether the account may change what belongs to an entity."""
        return self._refusal(entity) is None

    def administers_entity(self, entity: str) -> bool:
        """Tell whether the account may change who belongs to a team or organisation."""
        return self.administers or (self.roles.get(entity) == "admin" and self.may_write(entity))

    def require_write(self, entity: str) -> None:
        """Raise a 403 that says what this key lacks, if the account may not write to an entity."""
        refusal = self._refusal(entity)
        if refusal is not None:
            raise GraphQLError(f"permission denied: {refusal}", 403)

    def narrowed(
        self, *, read_only: bool, limits: Mapping[str, str] | None, expires_at: datetime | None
    ) -> Account:
        """Return the account as a key shows it that may only read, is for some entities only, or ends some day."""
        keyed = replace(self, read_only_key=read_only, key_expires_at=expires_at)
        if limits is None:
            return keyed
        teams = tuple(entity for entity in limits if entity in self.teams)
        entity = self.entity if self.entity in teams else (*teams, self.entity)[0]
        return replace(keyed, limits=dict(limits), teams=teams, entity=entity)

    def _refusal(self, entity: str) -> str | None:
        if self.role == "read-only" or self.read_only_key:
            return (
                f"the API key of user {self.username!r} is read-only; it cannot write to entity {entity!r}. Use a key"
                " with write access."
            )
        if entity not in self.teams:
            limited = "the API key of user" if self.limits is not None else "user"
            lack = "is not for" if self.limits is not None else "is not a member of"
            return (
                f"{limited} {self.username!r} {lack} entity {entity!r}; its entities are"
                f" {', '.join(map(repr, self.teams)) or 'none'}."
            )
        if self.limits is not None and self.limits[entity] != "write":
            return f"the API key of user {self.username!r} may only read entity {entity!r}."
        if self.roles.get(entity) == "viewer" and not self.admin:
            return f"user {self.username!r} is only a viewer in entity {entity!r}."
        return None


@register_seed
def seed_accounts(conn: sqlite3.Connection, now: str) -> None:
    """Create the default organisation, team and user."""
    add_entity(conn, DEFAULT_ORGANIZATION, ORGANIZATION, now)
    add_entity(conn, DEFAULT_TEAM, TEAM, now)
    add_account(conn, DEFAULT_USER, role="admin", teams=(DEFAULT_TEAM,), now=now)


def check_name(what: str, name: object) -> str:
    """Return the name of a team, user or organisation, or refuse it with a 400."""
    if not isinstance(name, str) or not name.strip():
        raise GraphQLError(f"the name of {what} is empty.")
    unfit = name in FOLDERS or any(char in _FORBIDDEN or not char.isprintable() for char in name)
    if len(name) > _LONGEST_NAME or unfit:
        raise GraphQLError(
            f"invalid name of {what} {name[:_LONGEST_NAME]!r}: at most {_LONGEST_NAME} printable characters, none of"
            f" {' '.join(_FORBIDDEN)}, and not only one or two dots."
        )
    return name


def add_entity(
    conn: sqlite3.Connection, name: str, kind: str, now: str, organization: str = DEFAULT_ORGANIZATION
) -> None:
    """Create a team, user or organisation entity, unless it exists; an organisation belongs to itself."""
    conn.execute(
        "INSERT OR IGNORE INTO entities VALUES (?, ?, ?, ?, ?)",
        (numbered_id("Entity", name), name, kind, name if kind == ORGANIZATION else organization, now),
    )


def find_entity(conn: sqlite3.Connection, name: str) -> sqlite3.Row | None:
    """Return the row of an entity, or None."""
    row: sqlite3.Row | None = conn.execute("SELECT * FROM entities WHERE name = ?", (name,)).fetchone()
    return row


def add_account(
    conn: sqlite3.Connection,
    username: str,
    *,
    role: str,
    teams: Iterable[str],
    now: str,
    kind: str = USER,
    email: str | None = None,
    display_name: str | None = None,
) -> None:
    """
    Create an account unless it exists; its default entity is its first team, else its own entity.

    :param role: ``admin``, ``member`` or ``read-only``.
    :param kind: ``user``, or ``service`` for one that is no person.
    """
    teams = tuple(teams)
    add_entity(conn, username, USER, now)
    for team in teams[:1]:
        add_entity(conn, team, TEAM, now)
    conn.execute(
        "INSERT OR IGNORE INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            username,
            numbered_id("User", username),
            email or f"{username}@example.com",
            (*teams, username)[0],
            role,
            kind,
            display_name,
        ),
    )
    for team in teams:
        add_member(conn, username, team, now)
    # Its own entity is its home, in which nobody else decides.
    conn.execute("INSERT OR IGNORE INTO memberships VALUES (?, ?, 'admin')", (username, username))


def add_member(conn: sqlite3.Connection, username: str, team: str, now: str, role: str | None = None) -> None:
    """
    Put an account into a team, which is created if needed, and so into the team's organisation.

    :param role: ``admin``, ``member`` or ``viewer``; None leaves the role of one who is a member, and makes others
        ``member``.
    """
    add_entity(conn, team, TEAM, now)
    conn.executemany(
        "INSERT OR IGNORE INTO memberships VALUES (?, ?, 'member')",
        [(username, team), (username, organization_of(conn, team))],
    )
    if role is not None:
        conn.execute(
            "UPDATE memberships SET role = ? WHERE username = ? AND entity = ?", (role, username, team)
        )


def remove_member(conn: sqlite3.Connection, username: str, team: str) -> bool:
    """Take an account out of a team, and out of the organisation if that was its last team there; tell if it was in."""
    removed = conn.execute(
        "DELETE FROM memberships WHERE username = ? AND entity = ?", (username, team)
    ).rowcount
    organization = organization_of(conn, team)
    left = conn.execute(
        "SELECT 1 FROM memberships m JOIN entities e ON e.name = m.entity WHERE m.username = ? AND e.kind = 'team'"
        " AND e.organization = ? LIMIT 1",
        (username, organization),
    ).fetchone()
    if left is None:
        conn.execute(
            "DELETE FROM memberships WHERE username = ? AND entity = ? AND role <> 'admin'",
            (username, organization),
        )
    # Whoever is no longer in the default team starts at home.
    conn.execute("UPDATE accounts SET entity = username WHERE username = ? AND entity = ?", (username, team))
    return bool(removed)


def teams_of(conn: sqlite3.Connection, username: str) -> list[str]:
    """Return the teams that an account is in, without its own entity and organisations."""
    rows = conn.execute(
        "SELECT e.name FROM memberships m JOIN entities e ON e.name = m.entity"
        " WHERE m.username = ? AND e.kind = 'team' ORDER BY m.rowid",
        (username,),
    )
    return [row["name"] for row in rows]


def organization_of(conn: sqlite3.Connection, entity: str) -> str:
    """Return the organisation of an entity."""
    row = find_entity(conn, entity)
    return DEFAULT_ORGANIZATION if row is None else str(row["organization"])


def find_account(conn: sqlite3.Connection, username: str) -> Account | None:
    """Return an account by its user name, with all that it may do."""
    row = conn.execute("SELECT * FROM accounts WHERE username = ?", (username,)).fetchone()
    if row is None:
        return None
    rows = conn.execute(
        "SELECT entity, role FROM memberships WHERE username = ? ORDER BY rowid", (username,)
    ).fetchall()
    roles = {member["entity"]: member["role"] for member in rows}
    return Account(
        row["id"],
        row["username"],
        row["email"],
        row["entity"],
        row["role"],
        tuple(roles),
        row["kind"],
        roles,
        row["display_name"] or row["username"],
    )
