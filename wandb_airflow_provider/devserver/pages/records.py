"""What only the pages read: runs by path and by id, across projects, by group, and what a run has started."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.ids import decode_global_id
from wandb_airflow_provider.devserver.queries import RunRecord, get_run


@dataclass(frozen=True)
class GroupRecord:
    """A group of runs; ``started_at`` is when its first run was created."""

    entity: str
    project: str
    name: str
    run_count: int
    started_at: datetime


def find_run(backend: Backend, path: str) -> RunRecord | None:
    """Return the run at ``entity/project/run_id``, or None."""
    parts = path.split("/")
    return get_run(backend, parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def find_run_by_id(backend: Backend, run_id: str) -> RunRecord | None:
    """Return the run with a global id, as artifacts refer to it, or None if it was deleted."""
    match decode_global_id(run_id):
        case ["Run", _, name, project, entity]:
            return get_run(backend, entity, project, name)
        case _:
            return None


def latest_runs(backend: Backend, limit: int) -> list[RunRecord]:
    """Return the newest runs of all projects."""
    with backend.store.read() as conn:
        rows = conn.execute(
            "SELECT entity, project, name FROM runs WHERE deleted_at IS NULL ORDER BY created_at DESC LIMIT ?",
            (limit,),
        ).fetchall()
    found = (get_run(backend, row["entity"], row["project"], row["name"]) for row in rows)
    return [run for run in found if run is not None]


def latest_groups(
    backend: Backend, limit: int, entity: str | None = None, project: str | None = None
) -> list[GroupRecord]:
    """Return the newest groups, of one project if it is named."""
    with backend.store.read() as conn:
        rows = conn.execute(
            "SELECT entity, project, group_name, count(*) AS run_count, min(created_at) AS started_at FROM runs"
            " WHERE deleted_at IS NULL AND group_name <> '' AND (?1 IS NULL OR entity = ?1)"
            " AND (?2 IS NULL OR project = ?2)"
            " GROUP BY entity, project, group_name ORDER BY started_at DESC LIMIT ?3",
            (entity, project, limit),
        ).fetchall()
    return [
        GroupRecord(
            row["entity"],
            row["project"],
            row["group_name"],
            row["run_count"],
            datetime.fromisoformat(row["started_at"]),
        )
        for row in rows
    ]


def started_by(backend: Backend, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs outside the group of ``runs`` that name one of them as their parent or as their trigger."""
    paths = json.dumps([run.path for run in runs])
    with backend.store.read() as conn:
        rows = conn.execute(
            "SELECT entity, project, name, group_name FROM runs WHERE deleted_at IS NULL"
            " AND (json_extract(config, '$.airflow.value.parent_run') IN (SELECT value FROM json_each(?1))"
            " OR EXISTS (SELECT 1 FROM json_each(config, '$.airflow.value.triggered_by') AS source"
            " WHERE json_extract(source.value, '$.run') IN (SELECT value FROM json_each(?1)))) ORDER BY created_at",
            (paths,),
        ).fetchall()
    own = {(run.entity, run.project, run.group) for run in runs}
    found = [
        get_run(backend, row["entity"], row["project"], row["name"])
        for row in rows
        if (row["entity"], row["project"], row["group_name"]) not in own
    ]
    return [run for run in found if run is not None]
