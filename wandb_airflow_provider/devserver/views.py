"""
Views: saved reports and workspaces, whose content is a JSON specification that only clients understand.

A view's type says what it is: ``runs`` is a report, ``runs/draft`` an unpublished one, ``project-view`` a workspace.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.ids import global_id
from wandb_airflow_provider.devserver.resolvers.projects import get_project
from wandb_airflow_provider.devserver.store import register_schema

REPORT = "runs"
DRAFT = "runs/draft"
# With seven digits an id is whole base64: clients cut the padding off in some addresses and not in others.
_FIRST_NUMBER = 1_000_000

register_schema("""
CREATE TABLE IF NOT EXISTS views (
    pk INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT UNIQUE,
    project_id INTEGER NOT NULL,
    type TEXT NOT NULL,
    name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    spec TEXT NOT NULL,
    user TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS views_by_project ON views (project_id, type);
CREATE TABLE IF NOT EXISTS view_tokens (
    token TEXT PRIMARY KEY,
    view TEXT NOT NULL,
    projects TEXT NOT NULL,
    created_at TEXT NOT NULL,
    revoked_at TEXT
);
""")

_SELECT = (
    "SELECT v.*, p.entity, p.name AS project FROM views v JOIN projects p ON p.internal_id = v.project_id"
)


@dataclass(frozen=True)
class ReportRecord:
    """
    A report.

    :param id: Global id, the last part of its address.
    :param spec: Its content, as the client that saved it wrote it.
    """

    id: str
    entity: str
    project: str
    title: str
    description: str
    draft: bool
    user: str
    created_at: datetime
    updated_at: datetime
    spec: dict[str, Any]


def list_reports(backend: Backend, entity: str, project: str) -> list[ReportRecord]:
    """Return the reports of a project, drafts included, with the latest change first."""
    with backend.store.read() as conn:
        rows = conn.execute(
            f"{_SELECT} WHERE p.entity = ? AND p.name = ? AND v.type IN (?, ?) ORDER BY v.updated_at DESC, v.pk DESC",
            (entity, project, REPORT, DRAFT),
        ).fetchall()
    return [_record(row) for row in rows]


def get_report(backend: Backend, entity: str, project: str, report_id: str) -> ReportRecord | None:
    """Return a report of a project by its id, with or without padding, or None."""
    with backend.store.read() as conn:
        row = find(conn, report_id + "=" * (-len(report_id) % 4))
    if row is None or (row["entity"], row["project"]) != (entity, project):
        return None
    return _record(row) if row["type"] in (REPORT, DRAFT) else None


def find(conn: sqlite3.Connection, view_id: str) -> sqlite3.Row | None:
    """Return a view with its ``entity`` and ``project``, or None."""
    row: sqlite3.Row | None = conn.execute(f"{_SELECT} WHERE v.id = ?", (view_id,)).fetchone()
    return row


def select(
    conn: sqlite3.Connection, project_id: int, view_type: str, name: str | None, user: str | None
) -> list[sqlite3.Row]:
    """Return the views of a project of one type, latest change first; ``name`` is its name or its title."""
    return conn.execute(
        f"{_SELECT} WHERE v.project_id = ?1 AND v.type = ?2 AND (?3 IS NULL OR ?3 IN (v.name, v.display_name))"
        " AND (?4 IS NULL OR v.user = ?4) ORDER BY v.updated_at DESC, v.pk DESC",
        (project_id, view_type, name, user),
    ).fetchall()


def upsert(
    ctx: RequestContext, conn: sqlite3.Connection, args: Mapping[str, Any]
) -> tuple[sqlite3.Row, bool]:
    """
    Save a view and tell whether it is new: the one with the given id, else the project's one of that name.

    :param args: The fields of ``UpsertViewInput``.
    :raises GraphQLError: 400 if the specification is no JSON object; 404 if the project or the id does not exist.
    """
    spec = _checked_spec(args.get("spec"))
    row = _to_update(ctx, conn, args)
    now = stamp(ctx.now())
    if row is not None:
        ctx.user.require_write(row["entity"])
        conn.execute(
            "UPDATE views SET type = coalesce(?, type), name = coalesce(?, name),"
            " display_name = coalesce(?, display_name), description = coalesce(?, description),"
            " spec = coalesce(?, spec), updated_at = ? WHERE pk = ?",
            (
                args.get("type"),
                args.get("name"),
                args.get("displayName"),
                args.get("description"),
                spec,
                now,
                row["pk"],
            ),
        )
        return _get(conn, row["pk"]), False
    project = _project(ctx, conn, args)
    created = conn.execute(
        "INSERT INTO views (project_id, type, name, display_name, description, spec, user, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            project["internal_id"],
            args.get("type") or REPORT,
            args.get("name") or ctx.ids.token(12),
            args.get("displayName") or "Untitled Report",
            args.get("description") or "",
            spec or "{}",
            ctx.user.username,
            now,
            now,
        ),
    )
    pk = created.lastrowid
    assert pk is not None
    conn.execute("UPDATE views SET id = ? WHERE pk = ?", (global_id("View", _FIRST_NUMBER + pk), pk))
    return _get(conn, pk), True


def delete(ctx: RequestContext, conn: sqlite3.Connection, view_id: str) -> None:
    """Delete a view and the links that share it. Raises a 404 if there is none."""
    row = require(ctx, conn, view_id)
    conn.execute("DELETE FROM view_tokens WHERE view = ?", (row["id"],))
    conn.execute("DELETE FROM views WHERE pk = ?", (row["pk"],))


def require(ctx: RequestContext, conn: sqlite3.Connection, view_id: str) -> sqlite3.Row:
    """Return a view that the account may change. Raises a 404 if it cannot see one, a 403 if it may only read it."""
    row = find(conn, view_id)
    if row is None or not ctx.user.may_read(row["entity"]):
        raise GraphQLError(f"there is no report or workspace with the id {view_id!r}.", 404)
    ctx.user.require_write(row["entity"])
    return row


def _to_update(ctx: RequestContext, conn: sqlite3.Connection, args: Mapping[str, Any]) -> sqlite3.Row | None:
    if args.get("id"):
        return require(ctx, conn, args["id"])
    if not args.get("name"):
        return None
    project = _project(ctx, conn, args)
    row: sqlite3.Row | None = conn.execute(
        f"{_SELECT} WHERE v.project_id = ? AND v.type = ? AND v.name = ?",
        (project["internal_id"], args.get("type") or REPORT, args["name"]),
    ).fetchone()
    return row


def _project(ctx: RequestContext, conn: sqlite3.Connection, args: Mapping[str, Any]) -> sqlite3.Row:
    entity, name = args.get("entityName") or ctx.user.entity, args.get("projectName") or ""
    ctx.user.require_write(entity)
    project = get_project(conn, entity, name)
    if project is None:
        raise GraphQLError(f"project '{entity}/{name}' not found: create it before saving a view in it.", 404)
    return project


def _checked_spec(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise GraphQLError(f"the specification of a view must be JSON: {error}.") from error
    if not isinstance(value, dict):
        raise GraphQLError(f"the specification of a view must be a JSON object, not {type(value).__name__}.")
    return text


def _get(conn: sqlite3.Connection, pk: int) -> sqlite3.Row:
    row: sqlite3.Row = conn.execute(f"{_SELECT} WHERE v.pk = ?", (pk,)).fetchone()
    return row


def _record(row: sqlite3.Row) -> ReportRecord:
    return ReportRecord(
        id=row["id"],
        entity=row["entity"],
        project=row["project"],
        title=row["display_name"],
        description=row["description"],
        draft=row["type"] == DRAFT,
        user=row["user"],
        created_at=datetime.fromisoformat(row["created_at"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
        spec=json.loads(row["spec"]),
    )
