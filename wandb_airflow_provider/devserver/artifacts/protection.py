"""
Protected aliases: names that only admins of a registry may give, move or take away.

W&B lets admins protect them in its application only; no SDK can. Here the server's own controls do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from wandb_airflow_provider.devserver.artifacts import names, roles
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.store import register_schema

_MOVES_BY_ITSELF = "latest"

register_schema("""
CREATE TABLE IF NOT EXISTS protected_aliases (
    project_id INTEGER NOT NULL,
    alias TEXT NOT NULL,
    PRIMARY KEY (project_id, alias)
) WITHOUT ROWID;
""")


def protect(conn: sqlite3.Connection, project: sqlite3.Row, alias: str) -> None:
    """
    Protect an alias in all collections of a registry, whether or not a version has it.

    :raises GraphQLError: 400 if it cannot be an alias, or is ``latest``, which moves by itself.
    """
    if names.check_alias(alias) == _MOVES_BY_ITSELF:
        raise GraphQLError(
            f"alias {alias!r} cannot be protected: it moves by itself to the version linked last."
        )
    conn.execute("INSERT OR IGNORE INTO protected_aliases VALUES (?, ?)", (project["internal_id"], alias))


def unprotect(conn: sqlite3.Connection, project: sqlite3.Row, alias: str) -> None:
    """Let every member of a registry use an alias again; does nothing if it is not protected."""
    conn.execute(
        "DELETE FROM protected_aliases WHERE project_id = ? AND alias = ?", (project["internal_id"], alias)
    )


def listed(conn: sqlite3.Connection, project_id: int) -> list[str]:
    """Return the protected aliases of a registry by name."""
    rows = conn.execute(
        "SELECT alias FROM protected_aliases WHERE project_id = ? ORDER BY alias", (project_id,)
    )
    return [alias for (alias,) in rows]


def require_allowed(
    ctx: RequestContext, conn: sqlite3.Connection, collection_id: str, touched: Iterable[str], action: str
) -> None:
    """
    Raise a 403 if one of the aliases is protected in a collection's registry and whoever asks is no admin there.

    :param action: What is tried, as in ``move it``, for the message.
    """
    wanted = list(touched)
    if not wanted:
        return
    project = conn.execute(
        "SELECT p.* FROM projects p JOIN artifact_collections c ON c.project_id = p.internal_id WHERE c.id = ?",
        (collection_id,),
    ).fetchone()
    if project is None or not names.is_registry(project["name"]):
        return
    protected = [alias for alias in listed(conn, project["internal_id"]) if alias in wanted]
    if protected and roles.role_in(ctx, conn, project) != roles.ADMIN:
        raise GraphQLError(
            f"permission denied: alias {protected[0]!r} is protected in registry {roles.registry_name(project)!r}; only"
            f" an admin of the registry may {action}, and user {ctx.user.username!r} is none.",
            403,
        )


def require_unprotected(conn: sqlite3.Connection, artifact_id: str) -> None:
    """Refuse to delete a version that has a protected alias in a registry, whoever asks: take the alias away first."""
    row = conn.execute(
        "SELECT a.alias, p.name FROM artifact_memberships m JOIN artifact_aliases a ON a.membership_id = m.id"
        " JOIN artifact_collections c ON c.id = m.collection_id JOIN projects p ON p.internal_id = c.project_id"
        " JOIN protected_aliases x ON x.project_id = c.project_id AND x.alias = a.alias WHERE m.artifact_id = ?"
        " LIMIT 1",
        (artifact_id,),
    ).fetchone()
    if row is not None:
        raise GraphQLError(
            f"permission denied: this artifact version has the protected alias {row['alias']!r} in registry"
            f" {roles.registry_name(row)!r}. An admin of the registry must take it away first.",
            403,
        )
