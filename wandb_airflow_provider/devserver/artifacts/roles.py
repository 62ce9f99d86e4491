"""
Roles in a registry, and what each allows.

An account's role in a registry is the highest of: its own there, those of its teams there, ``admin`` if it administers
the organisation, and ``viewer`` if the registry is visible to the organisation that it belongs to. A key that may only
read counts as a viewer at most.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from wandb_airflow_provider.devserver.artifacts import names
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.ids import numbered_id
from wandb_airflow_provider.devserver.store import register_schema

RESTRICTED_VIEWER, VIEWER, MEMBER, ADMIN = ROLES = ("restricted_viewer", "viewer", "member", "admin")
"""From the lowest to the highest: sees but reads no files; reads; links and edits; decides who may what."""

RESTRICTED = "RESTRICTED"

register_schema("""
CREATE TABLE IF NOT EXISTS registry_members (
    project_id INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('user', 'team')),
    member_id TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('restricted_viewer', 'viewer', 'member', 'admin')),
    PRIMARY KEY (project_id, kind, member_id)
);
""")


def role_in(ctx: RequestContext, conn: sqlite3.Connection, project: sqlite3.Row) -> str | None:
    """Return the role of whoever asks in a registry, or None if it is hidden from them."""
    user, organization = ctx.user, project["entity"]
    if not user.may_read(organization):
        return None
    may_write = user.may_write(organization)
    if may_write and (user.administers or user.roles.get(organization) == ADMIN):
        return ADMIN
    found = set() if project["access"] == RESTRICTED else {VIEWER}
    teams = {numbered_id("Entity", team) for team in user.teams}
    rows = conn.execute("SELECT * FROM registry_members WHERE project_id = ?", (project["internal_id"],))
    found |= {
        row["role"]
        for row in rows
        if (row["member_id"] == user.id if row["kind"] == "user" else row["member_id"] in teams)
    }
    if user.admin and not found:
        found = {VIEWER}
    role = max(found, key=ROLES.index, default=None)
    return VIEWER if role in (MEMBER, ADMIN) and not may_write else role


def may_see(ctx: RequestContext, conn: sqlite3.Connection, project: sqlite3.Row) -> bool:
    """Tell whether whoever asks may know of a project, which may be a registry."""
    if not ctx.user.may_read(project["entity"]):
        return False
    return not names.is_registry(project["name"]) or role_in(ctx, conn, project) is not None


def may_download(ctx: RequestContext, conn: sqlite3.Connection, project: sqlite3.Row) -> bool:
    """Tell whether whoever asks may read the files of versions through a project, which may be a registry."""
    if not names.is_registry(project["name"]):
        return ctx.user.may_read(project["entity"])
    return _reaches(role_in(ctx, conn, project), VIEWER)


def may_write(ctx: RequestContext, conn: sqlite3.Connection, project: sqlite3.Row) -> bool:
    """Tell whether whoever asks may change a project, which may be a registry."""
    if not names.is_registry(project["name"]):
        return ctx.user.may_write(project["entity"])
    return _reaches(role_in(ctx, conn, project), MEMBER)


def require(
    ctx: RequestContext, conn: sqlite3.Connection, project: sqlite3.Row, needed: str = MEMBER
) -> None:
    """
    Raise a 403 if whoever asks may not change a project.

    :param needed: The role that it takes in a registry.
    """
    ctx.user.require_write(project["entity"])
    if not names.is_registry(project["name"]):
        return
    role = role_in(ctx, conn, project)
    if not _reaches(role, needed):
        raise GraphQLError(
            f"permission denied: user {ctx.user.username!r} {_has(role)} in registry {registry_name(project)!r}; this"
            f" takes {needed!r}. Ask an admin of the registry.",
            403,
        )


def registry_name(project: sqlite3.Row) -> str:
    """Return the name of a registry as people know it."""
    return str(project["name"]).removeprefix(names.REGISTRY_PREFIX)


def members(conn: sqlite3.Connection, project_id: int, kind: str) -> list[sqlite3.Row]:
    """Return the members of a registry; ``kind`` is ``user`` or ``team``."""
    return conn.execute(
        "SELECT * FROM registry_members WHERE project_id = ? AND kind = ? ORDER BY rowid", (project_id, kind)
    ).fetchall()


def add_members(conn: sqlite3.Connection, project: sqlite3.Row, kind: str, member_ids: Iterable[str]) -> None:
    """
    Add members with the role that goes with what they are; those who are members keep their role.

    :raises GraphQLError: 404 if one is not of the registry's organisation.
    """
    for member_id in member_ids:
        role = _first_role(conn, project, kind, member_id)
        conn.execute(
            "INSERT OR IGNORE INTO registry_members VALUES (?, ?, ?, ?)",
            (project["internal_id"], kind, member_id, role),
        )


def remove_members(conn: sqlite3.Connection, project_id: int, kind: str, member_ids: Iterable[str]) -> None:
    """Remove members; others are ignored."""
    conn.executemany(
        "DELETE FROM registry_members WHERE project_id = ? AND kind = ? AND member_id = ?",
        [(project_id, kind, member_id) for member_id in member_ids],
    )


def set_role(conn: sqlite3.Connection, project_id: int, kind: str, member_id: str, role: str) -> None:
    """
    Change the role of a member.

    :raises GraphQLError: 404 if there is no such member, 400 if there is no such role or it is not for the member.
    """
    if role not in ROLES:
        raise GraphQLError(f"there is no registry role {role!r}; there are {', '.join(map(repr, ROLES))}.")
    if kind == "user" and role in (RESTRICTED_VIEWER, VIEWER):
        row = conn.execute("SELECT * FROM accounts WHERE id = ?", (member_id,)).fetchone()
        if row is not None and row["kind"] == "service":
            raise GraphQLError(
                f"service account {row['username']!r} cannot have the role {role!r}: service accounts are 'member' or"
                " 'admin'."
            )
    changed = conn.execute(
        "UPDATE registry_members SET role = ? WHERE project_id = ? AND kind = ? AND member_id = ?",
        (role, project_id, kind, member_id),
    )
    if not changed.rowcount:
        raise GraphQLError(f"{kind} {member_id!r} is not a member of this registry.", 404)


def _first_role(conn: sqlite3.Connection, project: sqlite3.Row, kind: str, member_id: str) -> str:
    organization = project["entity"]
    if kind == "team":
        found = conn.execute(
            "SELECT 1 FROM entities WHERE id = ? AND kind = 'team' AND organization = ?",
            (member_id, organization),
        ).fetchone()
        role = RESTRICTED_VIEWER
    else:
        found = conn.execute(
            "SELECT a.kind, a.role, m.role AS organization_role FROM accounts a JOIN memberships m"
            " ON m.username = a.username WHERE a.id = ? AND m.entity = ?",
            (member_id, organization),
        ).fetchone()
        role = RESTRICTED_VIEWER
        if found is not None and "admin" in (found["role"], found["organization_role"]):
            role = ADMIN
        elif found is not None and found["kind"] == "service":
            role = MEMBER
    if found is None:
        raise GraphQLError(f"there is no {kind} {member_id!r} in organization {organization!r}.", 404)
    return role


def _reaches(role: str | None, needed: str) -> bool:
    return role is not None and ROLES.index(role) >= ROLES.index(needed)


def _has(role: str | None) -> str:
    return "has no role" if role is None else f"has the role {role!r}"
