"""The automations themselves: creating, changing, deleting, listing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import roles, search
from wandb_airflow_provider.devserver.automations import conditions, integrations, scopes, windows
from wandb_airflow_provider.devserver.clock import api_time, stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.ids import global_id
from wandb_airflow_provider.devserver.store import dumps

NOTIFICATION = "NOTIFICATION"
WEBHOOK = "GENERIC_WEBHOOK"
NO_OP = "NO_OP"
_INPUTS = {
    NOTIFICATION: "notificationActionInput",
    WEBHOOK: "genericWebhookActionInput",
    NO_OP: "noOpActionInput",
}
_KINDS = {NOTIFICATION: integrations.SLACK, WEBHOOK: integrations.WEBHOOK}
_LONGEST_NAME = 255


def create(ctx: RequestContext, conn: sqlite3.Connection, args: Mapping[str, Any]) -> sqlite3.Row:
    """
    Create an automation.

    :param args: The fields of ``CreateFilterTriggerInput``.
    :raises GraphQLError: 409 if the owner of its scope has one of that name; 404 if the scope or the integration does
        not exist; 400 if the event or the action is not one that the server knows.
    """
    scope = scopes.resolve(conn, str(args.get("scopeType")), str(args.get("scopeID")))
    scopes.require_write(ctx, conn, scope)
    values = _values(ctx, conn, scope.entity, args)
    now = stamp(ctx.now())
    columns = {
        **values,
        "enabled": args.get("enabled") is not False,
        "entity": scope.entity,
        "scope_type": scope.type,
        "scope_key": scope.key,
        "user": ctx.user.username,
        "since": _last_event(conn),
        "created_at": now,
        "updated_at": now,
    }
    pk = conn.execute(
        f"INSERT INTO automations ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
        tuple(columns.values()),
    ).lastrowid
    assert pk is not None
    conn.execute("UPDATE automations SET id = ? WHERE pk = ?", (global_id("Trigger", pk), pk))
    row = _get(conn, pk)
    windows.start(conn, row)
    return row


def update(ctx: RequestContext, conn: sqlite3.Connection, args: Mapping[str, Any]) -> sqlite3.Row:
    """
    Change what is given of an automation; from then on it waits for events anew.

    :param args: The fields of ``UpdateFilterTriggerInput``.
    """
    row = _writable(ctx, conn, str(args.get("id")))
    columns: dict[str, Any] = {"updated_at": stamp(ctx.now()), "since": _last_event(conn)}
    entity = row["entity"]
    if args.get("scopeID"):
        scope = scopes.resolve(conn, str(args.get("scopeType") or row["scope_type"]), str(args["scopeID"]))
        scopes.require_write(ctx, conn, scope)
        entity = scope.entity
        columns |= {"scope_type": scope.type, "scope_key": scope.key, "entity": entity}
    given = {
        "name": row["name"],
        "description": row["description"],
        "triggeringEventType": row["event_type"],
        "eventFilter": row["event_filter"],
        "triggeredActionType": row["action_type"],
        "triggeredActionConfig": {_INPUTS[row["action_type"]]: json.loads(row["action"])},
        "id": row["id"],
    }
    columns |= _values(
        ctx, conn, entity, given | {key: value for key, value in args.items() if value is not None}
    )
    if args.get("enabled") is not None:
        columns["enabled"] = bool(args["enabled"])
    assignments = ", ".join(f"{column} = ?" for column in columns)
    conn.execute(f"UPDATE automations SET {assignments} WHERE pk = ?", (*columns.values(), row["pk"]))  # noqa: S608
    row = _get(conn, row["pk"])
    windows.start(conn, row)
    return row


def delete(ctx: RequestContext, conn: sqlite3.Connection, automation_id: str) -> None:
    """Delete an automation; what it has fired is still delivered. Raises a 404 if there is none."""
    row = _writable(ctx, conn, automation_id)
    conn.execute("DELETE FROM automation_windows WHERE automation = ?", (row["pk"],))
    conn.execute("DELETE FROM automations WHERE pk = ?", (row["pk"],))


def select(
    ctx: RequestContext, conn: sqlite3.Connection, entity: str, filters: str | None = None
) -> list[dict[str, Any]]:
    """Return the automations of an entity that whoever asks may see and that pass a filter, oldest first."""
    rows = conn.execute("SELECT * FROM automations WHERE entity = ? ORDER BY pk", (entity,)).fetchall()
    condition = search.parse(filters)
    found = [node(conn, row) for row in rows if _may_see(ctx, conn, row)]
    return [item for item in found if item is not None and search.matches(item["_document"], condition)]


def of_project(conn: sqlite3.Connection, project_id: int) -> list[dict[str, Any]]:
    """Return the automations of a project and of its collections, oldest first."""
    rows = conn.execute(
        "SELECT a.* FROM automations a LEFT JOIN artifact_collections c ON c.id = a.scope_key"
        " WHERE (a.scope_type = 'PROJECT' AND a.scope_key = ?) OR (a.scope_type = 'ARTIFACT_COLLECTION'"
        " AND c.project_id = ?) ORDER BY a.pk",
        (str(project_id), project_id),
    ).fetchall()
    return [item for item in (node(conn, row) for row in rows) if item is not None]


def node(conn: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any] | None:
    """Return the object of an automation, or None if its scope is gone."""
    scope = scopes.node(conn, row["scope_type"], row["scope_key"])
    if scope is None:
        return None
    last = conn.execute(
        "SELECT max(created_at) FROM automation_executions WHERE automation = ?", (row["id"],)
    ).fetchone()[0]
    return {
        "__typename": "Trigger",
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "enabled": bool(row["enabled"]),
        "createdAt": api_time(row["created_at"]),
        "updatedAt": api_time(row["updated_at"]),
        "lastExecutedAt": api_time(last),
        "scope": scope,
        "triggeringCondition": {
            "__typename": "FilterEventTriggeringCondition",
            "eventType": row["event_type"],
            "filter": conditions.saved_form(row["event_type"], row["event_filter"]),
        },
        "triggeredAction": _action_node(conn, row),
        "_document": {"name": row["name"], "enabled": bool(row["enabled"]), "created_at": row["created_at"]},
    }


def _action_node(conn: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    action = json.loads(row["action"])
    if row["action_type"] == NO_OP:
        return {"__typename": "NoOpTriggeredAction", "noOp": action.get("noOp", True)}
    integration = integrations.find(conn, row["integration"])
    shown = None if integration is None else integrations.node(integration)
    if row["action_type"] == WEBHOOK:
        payload = action.get("requestPayload")
        return {
            "__typename": "GenericWebhookTriggeredAction",
            "integration": shown,
            "requestPayload": payload,
        }
    return {
        "__typename": "NotificationTriggeredAction",
        "integration": shown,
        "title": action.get("title"),
        "message": action.get("message"),
        "severity": action.get("severity"),
    }


def _values(
    ctx: RequestContext, conn: sqlite3.Connection, entity: str, args: Mapping[str, Any]
) -> dict[str, Any]:
    name = str(args.get("name") or "")
    if not name.strip() or len(name) > _LONGEST_NAME:
        raise GraphQLError(
            f"an automation needs a name of at most {_LONGEST_NAME} characters, not {name[:40]!r}."
        )
    taken = conn.execute(
        "SELECT id FROM automations WHERE entity = ? AND name = ?", (entity, name)
    ).fetchone()
    if taken is not None and taken["id"] != args.get("id"):
        # The SDK tells this conflict from other errors by its status.
        raise GraphQLError(f"entity {entity!r} already has an automation named {name!r}.", 409)
    event_type, event_filter = str(args.get("triggeringEventType")), str(args.get("eventFilter") or "{}")
    conditions.check(event_type, event_filter, ctx.now())
    action_type = str(args.get("triggeredActionType"))
    if action_type not in _INPUTS:
        raise GraphQLError(
            f"the dev server does not know actions of the type {action_type!r}. Known: {', '.join(_INPUTS)}."
        )
    action = (args.get("triggeredActionConfig") or {}).get(_INPUTS[action_type]) or {}
    integration = action.get("integrationID")
    if action_type in _KINDS:
        found = integrations.find(conn, integration)
        if found is None or found["kind"] != _KINDS[action_type] or not ctx.user.may_read(found["entity"]):
            raise GraphQLError(
                f"there is no {_KINDS[action_type]} integration with the id {integration!r}.", 404
            )
    _check_payload(action.get("requestPayload"))
    return {
        "name": name,
        "description": args.get("description"),
        "event_type": event_type,
        "event_filter": event_filter,
        "action_type": action_type,
        "action": dumps(action),
        "integration": integration,
    }


def _check_payload(payload: str | None) -> None:
    if payload is None:
        return
    try:
        json.loads(payload)
    except ValueError as error:
        raise GraphQLError(f"the payload of the webhook must be JSON: {error}.") from error


def _writable(ctx: RequestContext, conn: sqlite3.Connection, automation_id: str) -> sqlite3.Row:
    row = conn.execute("SELECT * FROM automations WHERE id = ?", (automation_id,)).fetchone()
    if row is None or not _may_see(ctx, conn, row):
        raise GraphQLError(f"there is no automation with the id {automation_id!r}.", 404)
    scopes.require_write(ctx, conn, scopes.Scope("", "", row["entity"], _project(conn, row)))
    found: sqlite3.Row = row
    return found


def _may_see(ctx: RequestContext, conn: sqlite3.Connection, row: sqlite3.Row) -> bool:
    project = _project(conn, row)
    return ctx.user.may_read(row["entity"]) and (project is None or roles.may_see(ctx, conn, project))


def _project(conn: sqlite3.Connection, row: sqlite3.Row) -> sqlite3.Row | None:
    found: sqlite3.Row | None = conn.execute(
        "SELECT p.* FROM projects p WHERE p.internal_id = CASE ?1 WHEN 'PROJECT' THEN CAST(?2 AS INTEGER)"
        " WHEN 'ARTIFACT_COLLECTION' THEN (SELECT project_id FROM artifact_collections WHERE id = ?2) END",
        (row["scope_type"], row["scope_key"]),
    ).fetchone()
    return found


def _last_event(conn: sqlite3.Connection) -> int:
    row = conn.execute("SELECT seq FROM sqlite_sequence WHERE name = 'automation_events'").fetchone()
    return 0 if row is None else int(row["seq"])


def _get(conn: sqlite3.Connection, pk: int) -> sqlite3.Row:
    row: sqlite3.Row = conn.execute("SELECT * FROM automations WHERE pk = ?", (pk,)).fetchone()
    return row
