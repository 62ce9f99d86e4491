"""What automations have done, as plain values: for tests, for controls over HTTP, for pages."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver.automations import definitions, integrations, webhooks
from wandb_airflow_provider.devserver.store import Store


@dataclass(frozen=True)
class WebhookAttempt:
    """
    One attempt to deliver a webhook.

    :param status: The HTTP status of the answer, or None without one.
    :param error: Why it did not succeed, or None.
    """

    number: int
    at: datetime
    status: int | None
    error: str | None
    seconds: float


@dataclass(frozen=True)
class WebhookDelivery:
    """
    A webhook that an automation has fired.

    :param subject: What it is about: ``entity/project/collection:version`` or ``entity/project/run_id``.
    :param state: ``PENDING``, ``FINISHED`` (delivered) or ``FAILED`` (given up).
    :param payload: What was sent, with secrets masked.
    :param next_attempt_at: When it is sent again by the server's clock; None if it is not.
    """

    id: int
    automation: str
    event_type: str
    subject: str
    url: str
    payload: Any
    state: str
    attempts: tuple[WebhookAttempt, ...]
    created_at: datetime
    next_attempt_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values; times are ISO texts."""
        return _plain(asdict(self))


@dataclass(frozen=True)
class SlackNotification:
    """A message that would have gone to Slack; ``workspace`` and ``channel`` say where to."""

    automation: str
    event_type: str
    subject: str
    workspace: str
    channel: str
    title: str
    message: str
    severity: str
    created_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values; times are ISO texts."""
        return _plain(asdict(self))


@dataclass(frozen=True)
class Execution:
    """One firing of an automation, whatever its action; ``subject`` is what it is about."""

    automation: str
    event_type: str
    action_type: str
    subject: str
    state: str
    created_at: datetime


def list_executions(store: Store, automation: str | None = None) -> list[Execution]:
    """Return every firing in order, of the automations of one name if it is given."""
    with store.read() as conn:
        rows = _rows(conn, None, automation)
    return [
        Execution(
            automation=row["automation_name"],
            event_type=row["event_type"],
            action_type=row["action_type"],
            subject=row["subject"],
            state=row["state"],
            created_at=datetime.fromisoformat(row["created_at"]),
        )
        for row in rows
    ]


def list_deliveries(store: Store, automation: str | None = None) -> list[WebhookDelivery]:
    """Return the webhooks that were fired, in order, by the automations of one name if it is given."""
    with store.read() as conn:
        return [_delivery(conn, row) for row in _rows(conn, definitions.WEBHOOK, automation)]


def list_notifications(store: Store, automation: str | None = None) -> list[SlackNotification]:
    """Return the messages for Slack, in order, by the automations of one name if it is given."""
    with store.read() as conn:
        return [_notification(conn, row) for row in _rows(conn, definitions.NOTIFICATION, automation)]


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(record, default=datetime.isoformat))
    return plain


def _rows(conn: sqlite3.Connection, action_type: str | None, automation: str | None) -> list[sqlite3.Row]:
    return conn.execute(
        "SELECT * FROM automation_executions WHERE (?1 IS NULL OR action_type = ?1)"
        " AND (?2 IS NULL OR automation_name = ?2) ORDER BY pk",
        (action_type, automation),
    ).fetchall()


def _delivery(conn: sqlite3.Connection, row: sqlite3.Row) -> WebhookDelivery:
    integration = integrations.find(conn, row["integration"])
    attempts = conn.execute(
        "SELECT * FROM webhook_attempts WHERE execution = ? ORDER BY number", (row["pk"],)
    )
    secrets = {} if integration is None else webhooks.secrets_of(integration, masked=True)
    due = row["next_attempt_at"]
    return WebhookDelivery(
        id=row["pk"],
        automation=row["automation_name"],
        event_type=row["event_type"],
        subject=row["subject"],
        url="" if integration is None else integration["url"],
        payload=json.loads(webhooks.payload(row, secrets)),
        state=row["state"],
        attempts=tuple(
            WebhookAttempt(
                item["number"],
                datetime.fromisoformat(item["at"]),
                item["status"],
                item["error"],
                item["seconds"],
            )
            for item in attempts
        ),
        created_at=datetime.fromisoformat(row["created_at"]),
        next_attempt_at=None if due is None else datetime.fromisoformat(due),
    )


def _notification(conn: sqlite3.Connection, row: sqlite3.Row) -> SlackNotification:
    integration, action = integrations.find(conn, row["integration"]), json.loads(row["action"])
    return SlackNotification(
        automation=row["automation_name"],
        event_type=row["event_type"],
        subject=row["subject"],
        workspace="" if integration is None else integration["name"],
        channel="" if integration is None else integration["channel"],
        title=action.get("title") or "",
        message=action.get("message") or "",
        severity=action.get("severity") or "INFO",
        created_at=datetime.fromisoformat(row["created_at"]),
    )
