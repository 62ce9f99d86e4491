"""
Time to live: how long a version is kept.

A version's own setting counts; one that inherits takes the default of its collection, else that of its entity. It
runs from the creation of the version.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

INHERIT = -1
DISABLED = -2

_DEFAULT = (
    "SELECT coalesce(c.ttl_seconds, d.seconds) FROM artifact_collections c"
    " JOIN projects p ON p.internal_id = c.project_id LEFT JOIN artifact_ttl_defaults d ON d.entity = p.entity"
    " WHERE c.id = ?"
)


def parse_seconds(seconds: int) -> tuple[int | None, bool]:
    """Return a time to live as clients write it (-1 inherits, -2 never ends) as seconds and whether it is inherited."""
    if seconds == INHERIT:
        return None, True
    if seconds == DISABLED:
        return None, False
    if seconds <= 0:
        raise GraphQLError(f"a time to live must be positive, not {seconds} seconds.")
    return seconds, False


def seconds_of(conn: sqlite3.Connection, artifact: sqlite3.Row) -> int | None:
    """Return how long a version lives from its creation on, in seconds; None for as long as nobody deletes it."""
    if not artifact["ttl_inherited"]:
        own: int | None = artifact["ttl_seconds"]
        return own
    row = conn.execute(_DEFAULT, (artifact["collection_id"],)).fetchone()
    default: int | None = row[0]
    return default


def schedule(conn: sqlite3.Connection, artifact: sqlite3.Row) -> None:
    """Note when a version ends; call it whenever its time to live changes."""
    seconds = seconds_of(conn, artifact)
    ends = None
    if seconds is not None:
        ends = stamp(datetime.fromisoformat(artifact["created_at"]) + timedelta(seconds=seconds))
    conn.execute("UPDATE artifacts SET expires_at = ? WHERE id = ?", (ends, artifact["id"]))


def set_collection_default(conn: sqlite3.Connection, collection_id: str, seconds: int) -> None:
    """Set what versions of a collection inherit, in seconds; -1 to inherit from the entity."""
    conn.execute(
        "UPDATE artifact_collections SET ttl_seconds = ? WHERE id = ?", (_default(seconds), collection_id)
    )
    _schedule_inheriting(conn, "a.collection_id = ?", collection_id)


def set_entity_default(conn: sqlite3.Connection, entity: str, seconds: int) -> None:
    """Set what versions in all projects of an entity inherit, in seconds; -1 for no end."""
    conn.execute("DELETE FROM artifact_ttl_defaults WHERE entity = ?", (entity,))
    if (value := _default(seconds)) is not None:
        conn.execute("INSERT INTO artifact_ttl_defaults VALUES (?, ?)", (entity, value))
    _schedule_inheriting(
        conn,
        "a.collection_id IN (SELECT c.id FROM artifact_collections c JOIN projects p ON p.internal_id = c.project_id"
        " WHERE p.entity = ?)",
        entity,
    )


def _default(seconds: int) -> int | None:
    value, inherited = parse_seconds(seconds)
    if value is None and not inherited:
        raise GraphQLError("a default time to live is a number of seconds, or -1 for none.")
    return value


def _schedule_inheriting(conn: sqlite3.Connection, condition: str, value: str) -> None:
    rows = conn.execute(
        f"SELECT a.* FROM artifacts a WHERE a.ttl_inherited AND a.state <> 'DELETED' AND {condition}",  # noqa: S608
        (value,),
    )
    for row in rows.fetchall():
        schedule(conn, row)
