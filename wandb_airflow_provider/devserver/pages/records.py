"""What only the pages read: runs by path and by id, across projects, by group and state, and what belongs to a run."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.ids import decode_global_id
from wandb_airflow_provider.devserver.pages.not_found import PageNotFoundError
from wandb_airflow_provider.devserver.pages.tree import ROOT_JOB_TYPE, worst_state
from wandb_airflow_provider.devserver.queries import ProjectRecord, RunRecord, get_project, get_run
from wandb_airflow_provider.devserver.run_state import alive_since
from wandb_airflow_provider.devserver.store import loads
from wandb_airflow_provider.devserver.sweeps.queries import SweepRecord, get_sweep

# As origin.shown_state: what the run's task wrote about itself, else W&B's state. Materialised, for else the database
# reads each summary once per mention.
_COUNT_GROUP = f"""
WITH stored AS MATERIALIZED (
    SELECT job_type, created_at, coalesce(finished_at, heartbeat_at) AS ended_at,
        run_state(state, heartbeat_at, ?) AS state, summary -> '$."airflow/state"' AS told
    FROM runs WHERE entity = ? AND project = ? AND group_name = ? AND deleted_at IS NULL
),
states AS (
    SELECT *, CASE WHEN state <> 'running' AND told LIKE '"_%"' THEN told ->> '$' ELSE state END AS shown FROM stored
)
SELECT shown, job_type IS '{ROOT_JOB_TYPE}' AS is_root, count(*) AS runs, min(created_at) AS started_at,
    max(ended_at) AS ended_at FROM states GROUP BY shown, is_root ORDER BY runs DESC, shown
"""  # noqa: S608


@dataclass(frozen=True)
class GroupRecord:
    """
    A group of runs.

    :param counts: How many of its runs are in which state, the most frequent first; without the pipeline's own.
    """

    entity: str
    project: str
    name: str
    state: str
    counts: list[tuple[str, int]]
    started_at: datetime
    seconds: float


def require_project(backend: Backend, entity: str, name: str) -> ProjectRecord:
    """Return a project. Raises PageNotFoundError if there is none."""
    record = get_project(backend, entity, name)
    if record is None:
        raise PageNotFoundError(f"There is no project {entity}/{name}.")
    return record


def count_states(backend: Backend, entity: str, project: str) -> list[tuple[str, int]]:
    """Return how many runs of a project are in which of W&B's states, the most frequent first."""
    with backend.store.read() as conn:
        rows = conn.execute(
            "SELECT run_state(state, heartbeat_at, ?) AS state, count(*) AS runs FROM runs"
            " WHERE entity = ? AND project = ? AND deleted_at IS NULL GROUP BY 1 ORDER BY runs DESC, 1",
            (alive_since(backend.now()), entity, project),
        ).fetchall()
    return [(row["state"], row["runs"]) for row in rows]


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


def defined_metrics(backend: Backend, run: RunRecord) -> Any:
    """Return what the SDK has written into a run's config about its metrics, or None."""
    with backend.store.read() as conn:
        row = conn.execute(
            "SELECT config -> '$._wandb.value.m' AS metrics FROM runs WHERE pk = ?", (run.row_id,)
        ).fetchone()
    return loads(row["metrics"]) if row else None


def sweep_of(backend: Backend, run: RunRecord) -> SweepRecord | None:
    """Return the sweep that a run is a trial of, or None."""
    with backend.store.read() as conn:
        row = conn.execute("SELECT sweep FROM runs WHERE pk = ?", (run.row_id,)).fetchone()
    return get_sweep(backend, run.entity, run.project, row["sweep"]) if row and row["sweep"] else None


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
            "SELECT entity, project, group_name, min(created_at) AS started_at FROM runs"
            " WHERE deleted_at IS NULL AND group_name <> '' AND (?1 IS NULL OR entity = ?1)"
            " AND (?2 IS NULL OR project = ?2)"
            " GROUP BY entity, project, group_name ORDER BY started_at DESC LIMIT ?3",
            (entity, project, limit),
        ).fetchall()
        return [_group(backend, conn, row["entity"], row["project"], row["group_name"]) for row in rows]


def _group(backend: Backend, conn: sqlite3.Connection, entity: str, project: str, name: str) -> GroupRecord:
    # Counted in the database: the documents of a large group are more than a list can wait for.
    rows = conn.execute(
        _COUNT_GROUP,
        (alive_since(backend.now()), entity, project, name),
    ).fetchall()
    roots = [row for row in rows if row["is_root"]]
    root = roots[0]["shown"] if len(roots) == 1 and roots[0]["runs"] == 1 else None
    started_at = datetime.fromisoformat(min(row["started_at"] for row in rows))
    ended_at = datetime.fromisoformat(max(row["ended_at"] for row in rows))
    counts: Counter[str] = Counter()
    for row in rows:
        if root is None or not row["is_root"]:
            counts[row["shown"]] += row["runs"]
    return GroupRecord(
        entity=entity,
        project=project,
        name=name,
        state=root or worst_state([row["shown"] for row in rows]),
        counts=counts.most_common(),
        started_at=started_at,
        seconds=(ended_at - started_at).total_seconds(),
    )


def started_by(backend: Backend, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs outside the group of ``runs`` that name one of them as their parent or as their trigger."""
    paths = json.dumps([run.path for run in runs])
    with backend.store.read() as conn:
        rows = conn.execute(
            "SELECT entity, project, name, group_name FROM runs WHERE deleted_at IS NULL"
            " AND (json_extract(config, '$.airflow.value.parent_run') IN (SELECT value FROM json_each(?1))"
            " OR EXISTS (SELECT 1 FROM json_each(config, '$.airflow.value.triggered_by') AS source"
            # Users can write anything there, and what is no object has no keys to ask for.
            " WHERE CASE WHEN source.type = 'object' THEN json_extract(source.value, '$.run') END"
            " IN (SELECT value FROM json_each(?1)))) ORDER BY created_at",
            (paths,),
        ).fetchall()
    own = {(run.entity, run.project, run.group) for run in runs}
    found = [
        get_run(backend, row["entity"], row["project"], row["name"])
        for row in rows
        if (row["entity"], row["project"], row["group_name"]) not in own
    ]
    return [run for run in found if run is not None]
