"""Where automations send to: webhooks, and Slack channels, to which nothing is really sent."""

from __future__ import annotations

import re
import sqlite3

from wandb_airflow_provider.devserver.clock import api_time
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.ids import global_id

WEBHOOK = "webhook"
SLACK = "slack"
_NAME = re.compile(r"[-\w]+( +[-\w]+)*")
_LONGEST_NAME = 64
_TYPES = {WEBHOOK: "GenericWebhookIntegration", SLACK: "SlackIntegration"}


def add_webhook(
    conn: sqlite3.Connection,
    entity: str,
    name: str,
    url: str,
    *,
    now: str,
    secret: str | None = None,
    secret_name: str = "SECRET",  # noqa: S107 - a name
    access_token: str | None = None,
) -> sqlite3.Row:
    """
    Register a webhook of an entity, and return it.

    :param url: Any ``http`` or ``https`` address: the owner of the server decides where it sends.
    :param secret: Signs what is sent; payloads can name it by ``secret_name``.
    :param access_token: Sent as a Bearer token; payloads can name it ``ACCESS_TOKEN``.
    :raises GraphQLError: 400 if the name or the URL is not valid; 404 if there is no such entity.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise GraphQLError(
            f"invalid webhook name {name!r}: letters, digits, dashes, underscores and inner spaces, at most"
            f" {_LONGEST_NAME} characters."
        )
    if not url.startswith(("http://", "https://")) or any(map(str.isspace, url)):
        raise GraphQLError(f"invalid webhook URL {url!r}: it must start with http:// or https://.")
    values = {"url": url, "access_token": access_token, "secret": secret, "secret_name": secret_name}
    return _insert(conn, WEBHOOK, entity, name, values, now)


def add_slack(
    conn: sqlite3.Connection, entity: str, workspace: str, channel: str, *, now: str
) -> sqlite3.Row:
    """Register a channel of a Slack workspace for an entity, and return it."""
    return _insert(conn, SLACK, entity, workspace, {"channel": channel}, now)


def add_secret(conn: sqlite3.Connection, entity: str, name: str, value: str) -> None:
    """Store a secret of a team, which webhooks created over the API refer to by name."""
    conn.execute("INSERT OR REPLACE INTO team_secrets VALUES (?, ?, ?)", (entity, name, value))


def get_secret(conn: sqlite3.Connection, entity: str, name: str | None) -> str | None:
    """Return the value of a team's secret; None for no name. Raises a 404 for an unknown one."""
    if not name:
        return None
    row = conn.execute(
        "SELECT value FROM team_secrets WHERE entity = ? AND name = ?", (entity, name)
    ).fetchone()
    if row is None:
        raise GraphQLError(f"team {entity!r} has no secret {name!r}.", 404)
    return str(row["value"])


def find(conn: sqlite3.Connection, integration_id: str | None) -> sqlite3.Row | None:
    """Return an integration by id, or None."""
    row: sqlite3.Row | None = conn.execute(
        "SELECT * FROM integrations WHERE id = ?", (integration_id,)
    ).fetchone()
    return row


def of_entity(conn: sqlite3.Connection, entity: str) -> list[sqlite3.Row]:
    """Return the integrations of an entity, oldest first."""
    return conn.execute("SELECT * FROM integrations WHERE entity = ? ORDER BY pk", (entity,)).fetchall()


def node(row: sqlite3.Row) -> dict[str, object]:
    """Return the object of an integration; its secrets are never told."""
    return {
        "__typename": _TYPES[row["kind"]],
        "id": row["id"],
        "name": row["name"],
        "urlEndpoint": row["url"],
        "teamName": row["name"],
        "channelName": row["channel"],
        "createdAt": api_time(row["created_at"]),
    }


def _insert(
    conn: sqlite3.Connection, kind: str, entity: str, name: str, values: dict[str, str | None], now: str
) -> sqlite3.Row:
    if conn.execute("SELECT 1 FROM entities WHERE name = ?", (entity,)).fetchone() is None:
        raise GraphQLError(f"there is no entity {entity!r}.", 404)
    columns = {"kind": kind, "entity": entity, "name": name, "created_at": now, **values}
    marks = ", ".join("?" * len(columns))
    pk = conn.execute(
        f"INSERT INTO integrations ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608 - fixed names
        tuple(columns.values()),
    ).lastrowid
    conn.execute("UPDATE integrations SET id = ? WHERE pk = ?", (global_id("Integration", pk), pk))
    row: sqlite3.Row = conn.execute("SELECT * FROM integrations WHERE pk = ?", (pk,)).fetchone()
    return row
