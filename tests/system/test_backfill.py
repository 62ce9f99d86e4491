"""A backfill on a real Airflow: each day has a tree of its own, also the day that had one before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.system.conftest import WANDB_ENTITY, WANDB_PROJECT
from wandb_airflow_provider.demo.airflow_api import AirflowApiError, AirflowClient, DagRun
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.devserver_process import DevServerProcess
from wandb_airflow_provider.demo.polling import wait_for

pytestmark = pytest.mark.slow

DAG_ID = "backfilled"
DAYS = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]


@dataclass
class Backfilled:
    """The DAG runs by day, and their runs in W&B by DAG run and name."""

    first: DagRun
    dag_runs: dict[datetime, DagRun]
    runs: dict[str, dict[str, Any]]

    def of(self, day: datetime) -> dict[str, Any]:
        return self.runs[self.dag_runs[day].dag_run_id]


@pytest.fixture(scope="module")
def backfilled(airflow_cluster: AirflowCluster, wandb_server: DevServerProcess) -> Iterator[Backfilled]:
    """Run the first day by hand, backfill it with two more, and clear the task of the last."""
    import wandb

    api = airflow_cluster.api
    airflow_cluster.wait_for_dag(DAG_ID)
    api.unpause(DAG_ID)
    first = api.trigger(DAG_ID, logical_date=DAYS[0])
    first = airflow_cluster.wait_for_run(DAG_ID, first.dag_run_id)
    wait_for("the backfill to be accepted", lambda: create_backfill(api), timeout=60)

    def ended() -> dict[datetime, DagRun] | None:
        found = {run.logical_date: run for run in api.dag_runs(DAG_ID) if run.logical_date in DAYS}
        whole = len(found) == len(DAYS) and all(
            run.finished and run.run_type == "backfill" for run in found.values()
        )
        return {day: run for day, run in found.items() if day is not None} if whole else None

    dag_runs = wait_for("the backfill to end", ended, timeout=120)
    last = dag_runs[DAYS[-1]].dag_run_id
    api.clear(DAG_ID, last, ["count"], downstream=True)
    airflow_cluster.wait_for_run(DAG_ID, last)
    client = wandb.Api(api_key=wandb_server.api_key, overrides={"base_url": wandb_server.url})
    runs = {}
    for run in dag_runs.values():
        group = f"{DAG_ID}__{run.dag_run_id}"
        found = client.runs(f"{WANDB_ENTITY}/{WANDB_PROJECT}", filters={"group": group}, lazy=False)
        runs[run.dag_run_id] = {
            "root" if child.job_type == "pipeline" else child.name: child for child in found
        }
    yield Backfilled(first, dag_runs, runs)
    wandb.teardown()


def create_backfill(api: AirflowClient) -> Any | None:
    """Ask for the backfill; on SQLite Airflow refuses it, and undoes what it began, while its scheduler writes."""
    dates = {"from_date": DAYS[0].isoformat(), "to_date": DAYS[-1].isoformat()}
    try:
        return api.request(
            "POST", "/backfills", json={"dag_id": DAG_ID, **dates, "reprocess_behavior": "completed"}
        )
    except AirflowApiError as error:
        if "HTTP 503" not in str(error):
            raise
        return None


def path(run: Any) -> str:
    return "/".join(run.path)


def days_logged(run: Any) -> list[int]:
    return [row["day"] for row in run.scan_history(keys=["day"])]


def test_each_backfilled_day_has_a_root_and_a_child_of_its_own(backfilled: Backfilled) -> None:
    every = [run for runs in backfilled.runs.values() for run in runs.values()]
    assert len({run.id for run in every}) == len(every) == 3 * 2 + 2, "two days have a second try"
    for day, number in zip(DAYS, (20260101, 20260102, 20260103), strict=True):
        runs = backfilled.of(day)
        children = [run for name, run in runs.items() if name != "root"]
        assert {run.config["airflow"]["parent_run"] for run in children} == {path(runs["root"])}
        assert [days_logged(run) for run in children] == [[number]] * len(children)
        assert {run.state for run in runs.values()} == {"finished"}
        assert runs["root"].summary["airflow/state"] == "success"


def test_a_run_of_a_backfill_says_so(backfilled: Backfilled) -> None:
    for day in DAYS[1:]:
        for run in backfilled.of(day).values():
            assert run.config["airflow"]["run_type"] == "backfill"
            assert run.config["airflow"]["logical_date"] == day.isoformat()


def test_a_day_that_is_run_again_by_a_backfill_goes_on_in_its_own_tree(backfilled: Backfilled) -> None:
    again = backfilled.dag_runs[DAYS[0]]
    assert again.dag_run_id == backfilled.first.dag_run_id
    runs = backfilled.of(DAYS[0])
    before, after = runs["count"], runs["count · try 2"]
    assert before.config["airflow"]["run_type"] == "manual"
    assert after.config["airflow"]["run_type"] == "backfill"
    assert after.config["airflow"]["retry_of"] == path(before)


def test_clearing_a_task_of_a_backfilled_run_continues_its_chain(backfilled: Backfilled) -> None:
    runs = backfilled.of(DAYS[-1])
    assert set(runs) == {"root", "count", "count · try 2"}
    assert runs["count"].config["airflow"]["retry_of"] is None
    assert runs["count · try 2"].config["airflow"]["retry_of"] == path(runs["count"])
