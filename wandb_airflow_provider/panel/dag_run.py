"""
A DAG run as the panel shows it, read from Airflow's database alone.

W&B is not asked: the panel works while it is away, and the API server needs no key of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import select

from wandb_airflow_provider.hierarchy import CLOSE_TASK_ID, OPEN_TASK_ID
from wandb_airflow_provider.identity import METRICS_KEY, RUN_KEY, RUN_URL_KEY
from wandb_airflow_provider.links.run import stored_value, web_url
from wandb_airflow_provider.panel.tree import TaskEntry, task_tree

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["PanelDagRun", "read_dag_run"]

_FAILED = frozenset({"failed", "upstream_failed"})


class PanelDagRun(NamedTuple):
    """
    A DAG run and its task instances.

    :param root: What the pipeline's opening task pushed; None for a DAG without a pipeline.
    """

    row: DagRun
    entries: tuple[TaskEntry, ...]
    root: str | None
    now: datetime

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that the page reads."""
        start, end = self.row.start_date, self.row.end_date
        return {
            "dag_id": self.row.dag_id,
            "dag_run_id": self.row.run_id,
            "state": str(self.row.state),
            "seconds": (((end or self.now) - start).total_seconds()) if start else None,
            "url": self.root,
            "has_runs": self.root is not None or any(entry.url for entry in self.entries),
            "nodes": task_tree(self.entries),
        }


def read_dag_run(session: Session, dag_id: str, dag_run_id: str) -> PanelDagRun | None:
    """Return the DAG run in three queries, however many tasks it has; None if there is none."""
    row = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == dag_run_id))
    if row is None:
        return None
    now = datetime.now(UTC)
    pushed = _pushed(session, row)
    tasks = session.execute(
        select(
            TaskInstance.task_id,
            TaskInstance.map_index,
            TaskInstance.state,
            TaskInstance.start_date,
            TaskInstance.end_date,
            TaskInstance.try_number,
        ).where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == dag_run_id)
    )
    entries = []
    for task_id, map_index, state, start, end, try_number in tasks:
        if task_id in (OPEN_TASK_ID, CLOSE_TASK_ID) and state not in _FAILED:
            continue
        values = pushed.get((task_id, map_index), {})
        entries.append(
            TaskEntry(
                task_id,
                map_index,
                None if state is None else str(getattr(state, "value", state)),
                # A skipped task has a start and an end, and no try.
                start.timestamp() if start and try_number else None,
                (end or now).timestamp() if start and try_number else None,
                try_number,
                run_url(values),
                _metrics(values.get(METRICS_KEY)),
            )
        )
    root = run_url(pushed.get((OPEN_TASK_ID, -1), {}))
    return PanelDagRun(row, tuple(entries), root, now)


def run_url(values: Mapping[str, Any]) -> str | None:
    """Return the address of a run among what its task pushed."""
    found = web_url(values.get(RUN_URL_KEY))
    if found is None and isinstance(values.get(RUN_KEY), Mapping):
        return web_url(values[RUN_KEY].get("url"))
    return found


def _pushed(session: Session, row: DagRun) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what the tasks pushed, by task and map index; what another XCom backend keeps elsewhere is a reference."""
    query = select(XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value).where(
        XComModel.dag_run_id == row.id, XComModel.key.in_((RUN_KEY, RUN_URL_KEY, METRICS_KEY))
    )
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for task_id, map_index, key, value in session.execute(query):
        found.setdefault((task_id, map_index), {})[key] = stored_value(value)
    return found


def _metrics(value: Any) -> dict[str, float]:
    """Return the numbers among what a task pushed as its metrics, which anyone who writes XComs can forge."""
    if not isinstance(value, Mapping):
        return {}
    return {
        name: number
        for name, number in value.items()
        if isinstance(name, str)
        and isinstance(number, int | float)
        and not isinstance(number, bool)
        and math.isfinite(number)
    }
