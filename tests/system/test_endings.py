"""How runs end when Airflow itself ends the task."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from tests.system.conftest import WANDB_ENTITY, WANDB_PROJECT
from wandb_airflow_provider.demo.airflow_api import DagRun
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.devserver_process import DevServerProcess
from wandb_airflow_provider.demo.polling import wait_for

FINAL = {"finished", "failed", "crashed", "killed", "preempted"}


class Endings:
    """Start a DAG whose one task works, and read its runs back."""

    def __init__(self, cluster: AirflowCluster, server: DevServerProcess) -> None:
        self.cluster = cluster
        self._server = server

    def start(self, dag_id: str) -> DagRun:
        self.cluster.wait_for_dag(dag_id)
        self.cluster.api.unpause(dag_id)
        return self.cluster.api.trigger(dag_id)

    def wandb_run(self, run: DagRun, job_type: str) -> Any | None:
        import wandb

        api = wandb.Api(api_key=self._server.api_key, overrides={"base_url": self._server.url})
        if WANDB_PROJECT not in {project.name for project in api.projects(WANDB_ENTITY)}:
            return None
        filters = {"group": f"{run.dag_id}__{run.dag_run_id}", "jobType": job_type}
        found = list(api.runs(f"{WANDB_ENTITY}/{WANDB_PROJECT}", filters=filters, lazy=False))
        return found[0] if found else None

    def ended(self, run: DagRun, job_type: str) -> Any:
        def probe() -> Any | None:
            found = self.wandb_run(run, job_type)
            return found if found is not None and found.state in FINAL else None

        return wait_for(f"the W&B run of {job_type} to end", probe, timeout=30)


@pytest.fixture
def endings(airflow_cluster: AirflowCluster, wandb_server: DevServerProcess) -> Endings:
    return Endings(airflow_cluster, wandb_server)


def steps(run: Any) -> list[int]:
    return [row["step"] for row in run.scan_history(keys=["step"])]


def test_a_task_marked_failed_ends_its_run_as_killed_with_everything_that_was_logged(
    endings: Endings,
) -> None:
    run = endings.start("ending_marked_failed")

    def some_steps() -> bool | None:
        found = endings.wandb_run(run, "work_for_long")
        return True if found is not None and found.summary.get("step", 0) > 5 else None

    wait_for("some steps to be logged", some_steps, timeout=60)

    endings.cluster.api.set_task_state(run.dag_id, run.dag_run_id, "work_for_long", "failed")

    ended = endings.ended(run, "work_for_long")
    assert ended.state == "preempted"
    assert ended.summary["airflow/state"] == "killed"
    logged = steps(ended)
    assert logged == list(range(len(logged)))
    assert len(logged) > 5
    endings.cluster.wait_for_run(run.dag_id, run.dag_run_id)
    root = endings.ended(run, "pipeline")
    assert root.state == "failed"
    assert "work_for_long" in root.summary["airflow/reason"]


def test_a_task_over_its_time_ends_its_run_as_failed_with_everything_that_was_logged(
    endings: Endings,
) -> None:
    run = endings.start("ending_timeout")
    endings.cluster.wait_for_run(run.dag_id, run.dag_run_id)

    ended = endings.ended(run, "too_slow")

    assert ended.state == "failed"
    assert ended.summary["airflow/reason"].startswith("AirflowTaskTimeout")
    logged = steps(ended)
    assert logged == list(range(len(logged)))
    assert logged


def test_no_process_of_wandb_outlives_its_task(endings: Endings) -> None:
    run = endings.start("ending_well")
    endings.cluster.wait_for_run(run.dag_id, run.dag_run_id)

    assert steps(endings.ended(run, "log_much")) == list(range(500))

    def left() -> list[psutil.Process]:
        # The triggerer keeps a client of its own; only what a task started counts.
        home = str(endings.cluster.home)
        found = [
            p
            for p in psutil.process_iter()
            if _name(p) == "wandb-core" and _environment(p).get("AIRFLOW_HOME") == home
        ]
        return [p for p in found if "triggerer" not in " ".join(_command(parent) for parent in p.parents())]

    wait_for("wandb's processes to end with their tasks", lambda: None if left() else True, timeout=5)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}
