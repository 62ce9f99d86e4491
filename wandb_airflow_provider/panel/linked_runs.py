"""The DAG runs that started a DAG run, and those that it started, with the addresses of their pipeline runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.models.asset import AssetEvent, TaskOutletAssetReference
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy import select

from wandb_airflow_provider.hierarchy import OPEN_TASK_ID
from wandb_airflow_provider.identity import RUN_URL_KEY
from wandb_airflow_provider.links.run import stored_value, web_url
from wandb_airflow_provider.provenance import TRIGGERED_BY

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["LinkedRuns"]

_MOST = 50
# What TriggerDagRunOperator pushes: the id of the DAG run, and an address that names its DAG.
_TRIGGERED_RUN = "trigger_run_id"
_TRIGGERED_LINK = "_link_TriggerDagRunLink"
_DAG_OF_LINK = re.compile(r"/dags/([\w.-]+)/runs/")


class _Link(NamedTuple):
    dag_id: str
    dag_run_id: str
    kind: str


class LinkedRuns:
    """
    Look for a DAG run's neighbours.

    :param may_read: Whether the user may read a DAG; the runs of others are left out.
    """

    def __init__(self, session: Session, may_read: Callable[[str], bool]) -> None:
        self._session = session
        self._may_read = may_read
        self._readable: dict[str, bool] = {}

    def of(self, row: DagRun) -> dict[str, list[dict[str, Any]]]:
        """Return ``triggered_by`` and ``triggered``, at most 50 of each."""
        return {
            "triggered_by": self._described(self._sources(row)),
            "triggered": self._described(self._started(row)),
        }

    def _sources(self, row: DagRun) -> Iterator[_Link]:
        source = (row.conf or {}).get(TRIGGERED_BY)
        if isinstance(source, Mapping):
            yield _Link(str(source.get("dag_id")), str(source.get("dag_run_id")), "dag_run")
        for event in row.consumed_asset_events:
            if event.source_dag_id and event.source_run_id:
                yield _Link(event.source_dag_id, event.source_run_id, "asset")

    def _started(self, row: DagRun) -> Iterator[_Link]:
        pushed: dict[tuple[str, int], dict[str, Any]] = {}
        query = select(XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value).where(
            XComModel.dag_run_id == row.id, XComModel.key.in_((_TRIGGERED_RUN, _TRIGGERED_LINK))
        )
        for task_id, map_index, key, value in self._session.execute(query):
            pushed.setdefault((task_id, map_index), {})[key] = stored_value(value)
        for values in pushed.values():
            dag = _DAG_OF_LINK.search(str(values.get(_TRIGGERED_LINK)))
            if dag is not None and isinstance(values.get(_TRIGGERED_RUN), str):
                yield _Link(dag[1], values[_TRIGGERED_RUN], "dag_run")
        if row.start_date is None:
            return
        # By asset, for which there is an index: the events of all DAGs are in one table.
        assets = select(TaskOutletAssetReference.asset_id).where(
            TaskOutletAssetReference.dag_id == row.dag_id
        )
        events = select(AssetEvent).where(
            AssetEvent.asset_id.in_(assets),
            AssetEvent.timestamp >= row.start_date,
            AssetEvent.source_dag_id == row.dag_id,
            AssetEvent.source_run_id == row.run_id,
        )
        for event in self._session.scalars(events.limit(_MOST)):
            for started in event.created_dagruns:
                yield _Link(started.dag_id, started.run_id, "asset")

    def _described(self, links: Iterator[_Link]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for link in dict.fromkeys(links):
            if len(found) == _MOST:
                break
            if not self._is_readable(link.dag_id):
                continue
            row = self._session.scalar(
                select(DagRun).where(DagRun.dag_id == link.dag_id, DagRun.run_id == link.dag_run_id)
            )
            if row is not None:
                found.append({**link._asdict(), "state": str(row.state), "url": self._root_url(row)})
        return found

    def _is_readable(self, dag_id: str) -> bool:
        if dag_id not in self._readable:
            self._readable[dag_id] = self._may_read(dag_id)
        return self._readable[dag_id]

    def _root_url(self, row: DagRun) -> str | None:
        query = select(XComModel.value).where(
            XComModel.dag_run_id == row.id,
            XComModel.task_id == OPEN_TASK_ID,
            XComModel.key == RUN_URL_KEY,
        )
        return web_url(stored_value(self._session.scalar(query)))
