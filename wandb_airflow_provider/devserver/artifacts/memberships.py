"""Which versions are in which collection: the version's own sequence, and portfolios that it is linked to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from wandb_airflow_provider.devserver.artifacts import aliases, collections, names
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext

_BY_VERSION = "SELECT * FROM artifact_memberships WHERE collection_id = ? AND version = ?"
_BY_ALIAS = (
    "SELECT m.* FROM artifact_memberships m JOIN artifact_aliases a ON a.membership_id = m.id"
    " WHERE a.collection_id = ? AND a.alias = ?"
)


def find(conn: sqlite3.Connection, collection_id: str, alias: str) -> sqlite3.Row | None:
    """Return the version of a collection that an alias or ``vN`` names."""
    version = names.version_number(alias)
    query = _BY_ALIAS if version is None else _BY_VERSION
    row: sqlite3.Row | None = conn.execute(
        query, (collection_id, alias if version is None else version)
    ).fetchone()
    return row


def find_by_name(conn: sqlite3.Connection, project_id: int, name: str) -> sqlite3.Row | None:
    """Return the version that ``collection:alias`` names in a project."""
    collection_name, alias = names.split_name(name)
    collection = collections.find(conn, project_id, collection_name)
    return None if collection is None else find(conn, collection["id"], alias)


def of_artifact(conn: sqlite3.Connection, artifact_id: str) -> list[sqlite3.Row]:
    """Return the collections that a version is in, its own sequence first."""
    return conn.execute(
        "SELECT * FROM artifact_memberships WHERE artifact_id = ? ORDER BY rowid", (artifact_id,)
    ).fetchall()


def of_collection(conn: sqlite3.Connection, collection_id: str) -> list[sqlite3.Row]:
    """Return the versions of a collection, newest first."""
    return conn.execute(
        "SELECT * FROM artifact_memberships WHERE collection_id = ? ORDER BY version DESC", (collection_id,)
    ).fetchall()


def in_collection(conn: sqlite3.Connection, collection_id: str, artifact_id: str) -> sqlite3.Row | None:
    """Return the membership of a version in one collection."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM artifact_memberships WHERE collection_id = ? AND artifact_id = ?",
        (collection_id, artifact_id),
    ).fetchone()
    return row


def add(ctx: RequestContext, conn: sqlite3.Connection, collection_id: str, artifact_id: str) -> sqlite3.Row:
    """Put a version into a collection under the next number."""
    membership_id = ctx.ids.new("ArtifactCollectionMembership")
    conn.execute(
        "INSERT INTO artifact_memberships VALUES (?, ?, ?, ?, ?, ?)",
        (
            membership_id,
            collection_id,
            artifact_id,
            collections.take_version(conn, collection_id),
            ctx.user.username,
            stamp(ctx.now()),
        ),
    )
    collections.touch(ctx, conn, collection_id)
    row: sqlite3.Row = conn.execute(
        "SELECT * FROM artifact_memberships WHERE id = ?", (membership_id,)
    ).fetchone()
    return row


def remove(ctx: RequestContext, conn: sqlite3.Connection, membership: sqlite3.Row, reason: str) -> None:
    """Take a version out of a collection, with its aliases there."""
    held = [row["alias"] for row in aliases.of_membership(conn, membership["id"])]
    aliases.remove(ctx, conn, membership, held, reason)
    conn.execute("DELETE FROM artifact_memberships WHERE id = ?", (membership["id"],))
    collections.touch(ctx, conn, membership["collection_id"])


def link(
    ctx: RequestContext,
    conn: sqlite3.Connection,
    artifact: sqlite3.Row,
    project: sqlite3.Row,
    name: str,
    added: Iterable[str],
) -> sqlite3.Row:
    """
    Link a committed version to a portfolio and give it aliases there, in one step.

    A version that is linked already keeps its number. A new one becomes ``latest``.
    """
    checked = [names.check_alias(alias) for alias in added]
    source = collections.get(conn, artifact["collection_id"])
    if artifact["state"] != "COMMITTED":
        raise GraphQLError(
            f"cannot link artifact {source['name']!r}: it is {artifact['state'].lower()}; only committed versions"
            " can be linked."
        )
    require_allowed_type(conn, project, source["type_name"])
    collection = collections.ensure_portfolio(ctx, conn, project, name, source["type_name"])
    membership = in_collection(conn, collection["id"], artifact["id"])
    if membership is None:
        membership = add(ctx, conn, collection["id"], artifact["id"])
        checked.append(aliases.LATEST)
    aliases.assign(ctx, conn, membership, checked, "linked")
    return membership


def require_allowed_type(conn: sqlite3.Connection, project: sqlite3.Row, type_name: str) -> None:
    """Refuse a type that a registry does not accept; projects that are no registries accept all."""
    registry = conn.execute(
        "SELECT * FROM registries WHERE project_id = ?", (project["internal_id"],)
    ).fetchone()
    if registry is None or registry["allow_all_types"]:
        return
    allowed = [row["name"] for row in collections.types(conn, project["internal_id"])]
    if type_name not in allowed:
        raise GraphQLError(
            f"registry {project['name'].removeprefix(names.REGISTRY_PREFIX)!r} does not accept artifacts of type"
            f" {type_name!r}; it accepts {', '.join(map(repr, allowed)) or 'none'}."
        )
