"""Which automations an event fires, and what each firing is to send."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from wandb_airflow_provider.devserver.artifacts import memberships, versions
from wandb_airflow_provider.devserver.automations import conditions, definitions, scopes, windows
from wandb_airflow_provider.devserver.automations.schema import METRIC_EVENTS
from wandb_airflow_provider.devserver.clock import parse_time, stamp
from wandb_airflow_provider.devserver.run_state import ALIVE, HEARTBEAT_SECONDS, alive_since
from wandb_airflow_provider.devserver.runs_table import current_state
from wandb_airflow_provider.devserver.store import dumps

# As W&B does, an automation fires for a run at most once in this time.
RUN_PAUSE = timedelta(hours=24)
_LINK = "LINK_MODEL"
_TAG_EVENTS = ("ADD_ARTIFACT_TAG", "REMOVE_ARTIFACT_TAG", "ADD_COLLECTION_TAG", "REMOVE_COLLECTION_TAG")


def fire(conn: sqlite3.Connection, event: sqlite3.Row, now: datetime) -> None:
    """Note the executions that an event of the outbox causes, and take it out. Call it in a write transaction."""
    if event["type"] == conditions.RUN_STATE:
        _run_state(conn, event, now)
    else:
        _artifact(conn, event, now)
    conn.execute("DELETE FROM automation_events WHERE seq = ?", (event["seq"],))


@dataclass(frozen=True)
class Evaluation:
    """What an automation has found in the new lines of a run; ``positions`` says how far it has read each stream."""

    automation: sqlite3.Row
    held: bool
    positions: list[windows.Position]


def evaluate_run(conn: sqlite3.Connection, run: int) -> list[Evaluation]:
    """Evaluate the automations that watch metrics of a run, without writing anything."""
    read = windows.reader(conn, run)
    return [
        Evaluation(automation, *windows.evaluate(conn, automation, run, read))
        for automation in _waiting(conn, METRIC_EVENTS, scopes.around_run(conn, run))
    ]


def record_run(conn: sqlite3.Connection, evaluation: Evaluation, run: int, now: datetime) -> None:
    """Store what :func:`evaluate_run` has found, unless the automation was changed meanwhile."""
    automation = evaluation.automation
    same = conn.execute(
        "SELECT 1 FROM automations WHERE pk = ? AND updated_at = ?",
        (automation["pk"], automation["updated_at"]),
    ).fetchone()
    if same is None:
        return
    for stream, next_offset, recent in evaluation.positions:
        windows.save(conn, automation["pk"], run, stream, next_offset, recent)
    if evaluation.held:
        fire_for_run(conn, automation, run, now)


def fire_for_run(conn: sqlite3.Connection, automation: sqlite3.Row, run: int, now: datetime) -> None:
    """Note the execution of an automation for a run that it watches, unless it fired for it not long ago."""
    if not conditions.run_passes(conn, automation["event_filter"], run, now):
        return
    recent = conn.execute(
        "SELECT 1 FROM automation_executions WHERE automation = ? AND run = ? AND created_at > ?",
        (automation["id"], run, stamp(now - RUN_PAUSE)),
    ).fetchone()
    if recent is not None:
        return
    row = conn.execute("SELECT * FROM runs WHERE pk = ?", (run,)).fetchone()
    variables = {
        "project_name": row["project"],
        "entity_name": row["entity"],
        "event_type": automation["event_type"],
        "event_author": row["user"],
    }
    _execute(conn, automation, variables, f"{row['entity']}/{row['project']}/{row['name']}", now, run)


def find_crashed(conn: sqlite3.Connection, now: datetime) -> list[sqlite3.Row]:
    """Return runs whose heartbeats have ended: they crash without anybody telling the server. Each comes once."""
    if not _any_waiting(conn, conditions.RUN_STATE):
        return []
    marks = ", ".join("?" * len(ALIVE))
    return conn.execute(
        f"SELECT pk, heartbeat_at FROM runs r WHERE state IN ({marks}) AND heartbeat_at < ? AND deleted_at IS NULL"  # noqa: S608
        " AND NOT EXISTS (SELECT 1 FROM automation_crashes c WHERE c.run = r.pk AND c.heartbeat_at = r.heartbeat_at)",
        (*ALIVE, alive_since(now)),
    ).fetchall()


def fire_crash(conn: sqlite3.Connection, run: sqlite3.Row, now: datetime) -> None:
    """Note the executions that the crash of a run causes; automations that are younger than it do not fire."""
    conn.execute("INSERT OR IGNORE INTO automation_crashes VALUES (?, ?)", (run["pk"], run["heartbeat_at"]))
    row = conn.execute("SELECT * FROM runs WHERE pk = ?", (run["pk"],)).fetchone()
    crashed_at = stamp(parse_time(run["heartbeat_at"]) + timedelta(seconds=HEARTBEAT_SECONDS))
    _fire_state(
        conn,
        run["pk"],
        current_state(row, now),
        now,
        lambda automation: automation["updated_at"] <= crashed_at,
    )


def _run_state(conn: sqlite3.Connection, event: sqlite3.Row, now: datetime) -> None:
    _fire_state(
        conn, event["run"], event["detail"], now, lambda automation: automation["since"] < event["seq"]
    )


def _fire_state(
    conn: sqlite3.Connection, run: int, state: str, now: datetime, is_new: Callable[[sqlite3.Row], bool]
) -> None:
    reported = conditions.REPORTED_STATES.get(state)
    for automation in _waiting(conn, (conditions.RUN_STATE,), scopes.around_run(conn, run)):
        if reported in conditions.states(automation["event_filter"]) and is_new(automation):
            fire_for_run(conn, automation, run, now)


def _artifact(conn: sqlite3.Connection, event: sqlite3.Row, now: datetime) -> None:
    places = [event["collection"]]
    if event["collection"] is None:
        # A tag belongs to a version, wherever that is linked to.
        places = [row["collection_id"] for row in memberships.of_artifact(conn, event["artifact"])]
    found = scopes.around_collections(conn, places)
    aliases, tags = _aliases(conn, event), [event["detail"]] if event["type"] in _TAG_EVENTS else []
    for automation in _waiting(conn, (event["type"],), found):
        if automation["since"] < event["seq"] and conditions.passes(
            automation["event_filter"], aliases, tags
        ):
            collection = found[automation["scope_type"], automation["scope_key"]]
            variables = _variables(conn, event, collection)
            subject = variables["artifact_version_string"] or "/".join(
                (collection["entity"], collection["project"], collection["name"])
            )
            _execute(conn, automation, variables, subject, now)


def _waiting(
    conn: sqlite3.Connection, event_types: Iterable[str], around: Iterable[tuple[str, str]]
) -> list[sqlite3.Row]:
    wanted = set(around)
    types = tuple(event_types)
    rows = conn.execute(
        f"SELECT * FROM automations WHERE enabled = 1 AND event_type IN ({', '.join('?' * len(types))}) ORDER BY pk",  # noqa: S608
        types,
    )
    return [row for row in rows if (row["scope_type"], row["scope_key"]) in wanted]


def _any_waiting(conn: sqlite3.Connection, event_type: str) -> bool:
    query = "SELECT 1 FROM automations WHERE enabled = 1 AND event_type = ? LIMIT 1"
    return conn.execute(query, (event_type,)).fetchone() is not None


def _aliases(conn: sqlite3.Connection, event: sqlite3.Row) -> list[str]:
    """Return the alias that an event is about, or those that a version was logged or linked with."""
    if event["type"] == "ADD_ARTIFACT_ALIAS":
        return [event["detail"]]
    rows = conn.execute(
        "SELECT DISTINCT alias FROM artifact_alias_events WHERE collection_id = ? AND artifact_id = ?"
        " AND action <> 'removed' AND reason IN ('logged', 'linked') ORDER BY alias",
        (event["collection"], event["artifact"]),
    )
    return [row["alias"] for row in rows]


def _variables(conn: sqlite3.Connection, event: sqlite3.Row, collection: sqlite3.Row) -> dict[str, Any]:
    alias = event["detail"] if event["type"] == "ADD_ARTIFACT_ALIAS" else ""
    variables = {
        "project_name": collection["project"],
        "entity_name": collection["entity"],
        "event_type": "LINK_ARTIFACT" if event["type"] == _LINK else event["type"],
        "event_author": event["user"],
        "alias": alias,
        "tag": event["detail"] if event["type"] in _TAG_EVENTS else "",
        "artifact_collection_name": collection["name"],
        "artifact_version": "",
        "artifact_version_string": "",
    }
    if event["artifact"] is not None:
        row = versions.get(conn, event["artifact"])
        membership = memberships.in_collection(conn, collection["id"], row["id"])
        number = event["version"] if membership is None else membership["version"]
        path = f"{collection['entity']}/{collection['project']}/{collection['name']}"
        variables["artifact_version"] = f"wandb-artifact://_id/{row['id']}"
        variables["artifact_version_string"] = f"{path}:{alias or f'v{number}'}"
        metadata = json.loads(row["metadata"] or "{}")
        variables |= {f"artifact_metadata.{key}": value for key, value in metadata.items()}
    return variables


def _execute(
    conn: sqlite3.Connection,
    automation: sqlite3.Row,
    variables: Mapping[str, Any],
    subject: str,
    now: datetime,
    run: int | None = None,
) -> None:
    is_webhook = automation["action_type"] == definitions.WEBHOOK
    conn.execute(
        "INSERT INTO automation_executions (automation, automation_name, event_type, subject, run, action_type, action,"
        " integration, variables, state, next_attempt_at, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            automation["id"],
            automation["name"],
            automation["event_type"],
            subject,
            run,
            automation["action_type"],
            automation["action"],
            automation["integration"],
            dumps(variables),
            "PENDING" if is_webhook else "FINISHED",
            stamp(now) if is_webhook else None,
            stamp(now),
        ),
    )
