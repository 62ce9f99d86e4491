"""What is stored about projects and runs, as plain values: for pages, and for tests that look behind HTTP."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.history import (
    EVENTS,
    HISTORY,
    OUTPUT,
    read_history,
    sampled_history,
    stored_lines,
    tail,
    walk_lines,
)
from wandb_airflow_provider.devserver.runs_table import count_runs as _count_runs
from wandb_airflow_provider.devserver.runs_table import current_state, find_runs, select_runs
from wandb_airflow_provider.devserver.runs_table import get_run as _get_run


@dataclass(frozen=True)
class ProjectRecord:
    """
    A project.

    :param last_activity: The latest heartbeat of a run, or when the project was created.
    """

    id: str
    entity: str
    name: str
    description: str | None
    created_at: datetime
    run_count: int
    last_activity: datetime


@dataclass(frozen=True)
class RunRecord:
    """
    A run.

    :param id: Global id, as artifacts refer to it.
    :param name: Short id, as in the run's URL.
    :param config: The user's keys with their plain values; the SDK's own are left out.
    :param summary: The last values logged; the SDK's own keys start with an underscore.
    """

    id: str
    entity: str
    project: str
    name: str
    display_name: str
    state: str
    group: str | None
    job_type: str | None
    config: dict[str, Any]
    summary: dict[str, Any]
    tags: list[str]
    notes: str | None
    user: str
    host: str | None
    commit: str | None
    program: str | None
    created_at: datetime
    heartbeat_at: datetime
    finished_at: datetime | None
    exit_code: int | None
    row_id: int

    @property
    def path(self) -> str:
        """``entity/project/run_id``."""
        return f"{self.entity}/{self.project}/{self.name}"

    @property
    def seconds(self) -> float:
        """How long it has run, in seconds."""
        return ((self.finished_at or self.heartbeat_at) - self.created_at).total_seconds()


@dataclass(frozen=True)
class FileRecord:
    """A file of a run; ``md5`` is the hex digest under which the blob store has it."""

    name: str
    size: int
    md5: str
    mimetype: str
    updated_at: datetime


@dataclass(frozen=True)
class AlertRecord:
    """An alert that a run has sent."""

    title: str
    text: str
    severity: str
    created_at: datetime


def list_projects(backend: Backend, entity: str | None = None) -> list[ProjectRecord]:
    """Return the projects of an entity, or of all, with the most recently active first."""
    with backend.store.read() as conn:
        rows = conn.execute(
            "SELECT projects.*, count(runs.pk) AS run_count,"
            " coalesce(max(runs.heartbeat_at), projects.created_at) AS last_activity FROM projects"
            " LEFT JOIN runs ON runs.entity = projects.entity AND runs.project = projects.name"
            " AND runs.deleted_at IS NULL WHERE ?1 IS NULL OR projects.entity = ?1"
            " GROUP BY projects.internal_id ORDER BY last_activity DESC",
            (entity,),
        ).fetchall()
    return [_project(row) for row in rows]


def get_project(backend: Backend, entity: str, name: str) -> ProjectRecord | None:
    """Return a project, or None."""
    return next((project for project in list_projects(backend, entity) if project.name == name), None)


def list_runs(
    backend: Backend,
    entity: str,
    project: str,
    filters: Mapping[str, Any] | None = None,
    order: str = "-created_at",
    offset: int = 0,
    limit: int = -1,
) -> list[RunRecord]:
    """
    Return runs of a project, newest first by default.

    :param filters: Mongo-style, as ``wandb.Api().runs`` takes them: ``{"group": "nightly"}``.
    :param order: As ``wandb.Api().runs`` takes it: ``-summary_metrics.loss``.
    :param limit: At most so many; -1 for all.
    """
    now = backend.now()
    with backend.store.read() as conn:
        rows = select_runs(conn, entity, project, filters, now, order, offset, limit)
    return [_run(row, now) for row in rows]


def find_page(
    backend: Backend,
    entity: str,
    project: str,
    filters: Mapping[str, Any],
    order: str,
    page: int,
    size: int,
) -> tuple[list[RunRecord], int, int]:
    """
    Return one page of the runs of a project that pass a filter, its number, and how many pass in all.

    :param page: Counted from 1; the last page stands for those after it.
    """
    now = backend.now()
    with backend.store.read() as conn:
        found = find_runs(conn, entity, project, filters, now)
        page = min(page, max(1, -(-len(found) // size)))
        rows = select_runs(conn, entity, project, filters, now, order, (page - 1) * size, size, among=found)
    return [_run(row, now) for row in rows], page, len(found)


def count_runs(backend: Backend, entity: str, project: str, filters: Mapping[str, Any] | None = None) -> int:
    """Return how many runs of a project pass a filter."""
    with backend.store.read() as conn:
        return _count_runs(conn, entity, project, filters, backend.now())


def get_run(backend: Backend, entity: str, project: str, name: str) -> RunRecord | None:
    """Return a run by its short id, or None."""
    with backend.store.read() as conn:
        row = _get_run(conn, entity, project, name)
    return None if row is None else _run(row, backend.now())


def get_history(
    backend: Backend, run: RunRecord, keys: Iterable[str] | None = None, samples: int | None = None
) -> list[dict[str, Any]]:
    """
    Return history rows in order.

    :param keys: If given, only rows that have all of these keys, and only these keys of them.
    :param samples: At most so many rows, spread evenly.
    """
    with backend.store.read() as conn:
        if keys is not None:
            return sampled_history(conn, run.row_id, keys, samples)
        return [json.loads(line) for line in read_history(conn, run.row_id, samples=samples)]


@contextmanager
def history_rows(backend: Backend, run: RunRecord) -> Iterator[Iterator[dict[str, Any]]]:
    """Yield an iterator over the history rows, which are read one after the other."""
    with backend.store.read() as conn:
        yield map(json.loads, walk_lines(conn, run.row_id, HISTORY))


@contextmanager
def event_rows(backend: Backend, run: RunRecord) -> Iterator[Iterator[dict[str, Any]]]:
    """Yield an iterator over the system events, which are read one after the other."""
    with backend.store.read() as conn:
        yield map(json.loads, walk_lines(conn, run.row_id, EVENTS))


def console_tail(backend: Backend, run: RunRecord, count: int) -> tuple[list[str], int]:
    """Return the last console lines of a run, and how many it has sent in all."""
    with backend.store.read() as conn:
        return tail(conn, run.row_id, OUTPUT, count), stored_lines(conn, run.row_id, OUTPUT)


def list_files(backend: Backend, run: RunRecord) -> list[FileRecord]:
    """Return the files of a run by name."""
    with backend.store.read() as conn:
        rows = conn.execute("SELECT * FROM run_files WHERE run = ? ORDER BY name", (run.row_id,)).fetchall()
    return [
        FileRecord(
            row["name"], row["size"], row["md5"], row["mimetype"], datetime.fromisoformat(row["updated_at"])
        )
        for row in rows
    ]


def list_alerts(backend: Backend, run: RunRecord) -> list[AlertRecord]:
    """Return the alerts of a run, oldest first."""
    with backend.store.read() as conn:
        rows = conn.execute("SELECT * FROM alerts WHERE run = ? ORDER BY id", (run.row_id,)).fetchall()
    return [
        AlertRecord(row["title"], row["text"], row["severity"], datetime.fromisoformat(row["created_at"]))
        for row in rows
    ]


def plain_config(text: str) -> dict[str, Any]:
    """Return the user's part of a config as stored, without the wrapping of each value."""
    config = json.loads(text)
    return {
        key: entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        for key, entry in config.items()
        if key not in ("_wandb", "wandb_version")
    }


def _project(row: sqlite3.Row) -> ProjectRecord:
    return ProjectRecord(
        id=row["id"],
        entity=row["entity"],
        name=row["name"],
        description=row["description"],
        created_at=datetime.fromisoformat(row["created_at"]),
        run_count=row["run_count"],
        last_activity=datetime.fromisoformat(row["last_activity"]),
    )


def _run(row: sqlite3.Row, now: datetime) -> RunRecord:
    finished = row["finished_at"]
    return RunRecord(
        id=row["id"],
        entity=row["entity"],
        project=row["project"],
        name=row["name"],
        display_name=row["display_name"],
        state=current_state(row, now),
        group=row["group_name"],
        job_type=row["job_type"],
        config=plain_config(row["config"]),
        summary=json.loads(row["summary"]),
        tags=json.loads(row["tags"]),
        notes=row["notes"],
        user=row["user"],
        host=row["host"],
        commit=row["commit_sha"],
        program=row["program"],
        created_at=datetime.fromisoformat(row["created_at"]),
        heartbeat_at=datetime.fromisoformat(row["heartbeat_at"]),
        finished_at=None if finished is None else datetime.fromisoformat(finished),
        exit_code=row["exit_code"],
        row_id=row["pk"],
    )
