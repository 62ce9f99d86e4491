"""How runs end when Airflow itself ends the task, and what the UI shows of them meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

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

    def __init__(self, cluster: AirflowCluster, client: Any) -> None:
        self.cluster = cluster
        self._client = client

    def start(self, dag_id: str) -> DagRun:
        self.cluster.wait_for_dag(dag_id)
        self.cluster.api.unpause(dag_id)
        return self.cluster.api.trigger(dag_id)

    def wandb_run(self, run: DagRun, job_type: str) -> Any | None:
        self._client.flush()
        filters = {"group": f"{run.dag_id}__{run.dag_run_id}", "jobType": job_type}
        found = list(self._client.runs(f"{WANDB_ENTITY}/{WANDB_PROJECT}", filters=filters, lazy=False))
        return found[0] if found else None

    def ended(self, run: DagRun, job_type: str) -> Any:
        def probe() -> Any | None:
            found = self.wandb_run(run, job_type)
            return found if found is not None and found.state in FINAL else None

        return wait_for(f"the W&B run of {job_type} to end", probe, timeout=60)

    def link(self, run: DagRun, task_id: str) -> str | None:
        """The URL of the button to the task's W&B run, as Airflow's API hands it to the UI."""
        task = f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id, safe='')}/taskInstances/{task_id}"
        found: str | None = self.cluster.api.request("GET", f"{task}/links")["extra_links"].get("W&B run")
        return found


@dataclass
class Stopped:
    """A run whose task was marked as failed while it worked, and what was seen while it did."""

    dag_run: DagRun
    link: str
    helpers: list[str]


@pytest.fixture(scope="module")
def endings(airflow_cluster: AirflowCluster, wandb_server: DevServerProcess) -> Iterator[Endings]:
    import wandb

    client = wandb.Api(api_key=wandb_server.api_key, overrides={"base_url": wandb_server.url})
    # Reading the runs of a project that no task has made yet would be an error.
    client.create_project(WANDB_PROJECT, WANDB_ENTITY)
    yield Endings(airflow_cluster, client)
    wandb.teardown()


@pytest.fixture(scope="module")
def timed_out(endings: Endings) -> DagRun:
    """A run whose task takes longer than it may; started before the others, it passes its time beside them."""
    return endings.start("ending_timeout")


@pytest.fixture(scope="module")
def left_open(endings: Endings, timed_out: DagRun) -> dict[str, DagRun]:
    """Runs of which nothing closes a run of W&B; they pass their time beside the others."""
    return {dag_id: endings.start(dag_id) for dag_id in ("ending_run_timeout", "ending_sigkill")}


@pytest.fixture(scope="module")
def marked(endings: Endings, left_open: dict[str, DagRun]) -> DagRun:
    return endings.start("ending_run_marked_failed")


@pytest.fixture(scope="module")
def stopped(endings: Endings, marked: DagRun) -> Stopped:
    run = endings.start("ending_marked_failed")

    def some_steps() -> bool | None:
        found = endings.wandb_run(run, "work_for_long")
        return True if found is not None and found.summary.get("step", 0) > 5 else None

    wait_for("some steps to be logged", some_steps, timeout=120)
    link = wait_for("the link of the running task", lambda: endings.link(run, "work_for_long"), timeout=60)
    helpers = helpers_of(run)
    endings.cluster.api.set_task_state(run.dag_id, run.dag_run_id, "work_for_long", "failed")
    return Stopped(endings.cluster.wait_for_run(run.dag_id, run.dag_run_id), link, helpers)


def steps(run: Any) -> list[int]:
    return [row["step"] for row in run.scan_history(keys=["step"])]


def helpers_of(run: DagRun) -> list[str]:
    """wandb's helper processes that tasks of a DAG run have started and that still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "wandb-core":
                environment = process.environ()
                if environment.get("AIRFLOW_CTX_DAG_RUN_ID") == run.dag_run_id:
                    found.append(environment["AIRFLOW_CTX_TASK_ID"])
        except psutil.Error:
            continue
    return found


def wait_until_no_helper_is_left(run: DagRun) -> None:
    wait_for(
        "wandb's processes to end with their tasks", lambda: None if helpers_of(run) else True, timeout=30
    )


def test_a_task_marked_failed_ends_its_run_as_killed_with_everything_that_was_logged(
    endings: Endings, stopped: Stopped
) -> None:
    ended = endings.ended(stopped.dag_run, "work_for_long")
    assert ended.state == "preempted"
    assert ended.summary["airflow/state"] == "killed"
    logged = steps(ended)
    assert logged == list(range(len(logged)))
    assert len(logged) > 5
    root = endings.ended(stopped.dag_run, "pipeline")
    assert root.state == "failed"
    assert "work_for_long" in root.summary["airflow/reason"]
    assert stopped.helpers == ["work_for_long"]
    wait_until_no_helper_is_left(stopped.dag_run)


def test_a_task_offers_the_link_to_its_run_while_it_works_and_afterwards(
    endings: Endings, stopped: Stopped
) -> None:
    run = stopped.dag_run
    pushed = endings.cluster.api.xcom(run.dag_id, run.dag_run_id, "work_for_long", key="wandb_run_url")
    assert stopped.link == pushed
    assert endings.link(run, "work_for_long") == pushed


def test_a_task_over_its_time_ends_its_run_as_failed_with_everything_that_was_logged(
    endings: Endings, timed_out: DagRun
) -> None:
    endings.cluster.wait_for_run(timed_out.dag_id, timed_out.dag_run_id)

    ended = endings.ended(timed_out, "too_slow")

    assert ended.state == "failed"
    assert ended.summary["airflow/reason"].startswith("AirflowTaskTimeout")
    logged = steps(ended)
    assert logged == list(range(len(logged)))
    assert logged
    wait_until_no_helper_is_left(timed_out)


def test_a_dag_run_marked_failed_has_its_pipeline_run_closed_with_what_never_ran(
    endings: Endings, marked: DagRun
) -> None:
    def at_work() -> bool | None:
        found = endings.wandb_run(marked, "at_work")
        return True if found is not None and found.summary.get("step", 0) > 5 else None

    wait_for("the task to work", at_work, timeout=120)
    path = f"/dags/{marked.dag_id}/dagRuns/{quote(marked.dag_run_id, safe='')}"
    endings.cluster.api.request("PATCH", path, json={"state": "failed"})
    ended = endings.cluster.wait_for_run(marked.dag_id, marked.dag_run_id)

    assert endings.ended(marked, "at_work").summary["airflow/state"] == "killed"
    root = endings.ended(marked, "pipeline")
    assert root.summary["airflow/state"] == ended.state
    assert root.summary["airflow/reason"].startswith("at_work: ")
    assert (root.summary["airflow/tasks/failed"], root.summary["airflow/tasks/skipped"]) == (1, 1)
    assert root.summary["timeline"]["nrows"] == 2


def test_runs_that_nobody_closed_are_closed_by_the_reconciler_which_says_how_it_knew(
    endings: Endings, left_open: dict[str, DagRun]
) -> None:
    for run in left_open.values():
        endings.cluster.wait_for_run(run.dag_id, run.dag_run_id)
    over_time, killed = left_open["ending_run_timeout"], left_open["ending_sigkill"]
    root = endings.wandb_run(over_time, "pipeline")
    assert root is not None
    assert root.summary["airflow/state"] == "running"
    # Of a task that Airflow skipped while it worked, the run ends as killed.
    assert endings.ended(over_time, "out_of_time").summary["airflow/state"] == "killed"

    maintenance = endings.start("ending_reconcile")
    endings.cluster.wait_for_run(maintenance.dag_id, maintenance.dag_run_id)

    root = endings.ended(over_time, "pipeline")
    assert (root.state, root.summary["airflow/state"]) == ("failed", "failed")
    assert "its closing task is 'skipped'" in root.summary["airflow/reconciled"]["source"]
    assert root.summary["timeline"]["nrows"] == 2
    assert root.summary["airflow/tasks/skipped"] == 2
    assert root.config["airflow"]["dag_version"]
    assert root.config["airflow"]["bundle"]["name"]
    child = endings.ended(killed, "out_of_memory")
    assert (child.state, child.summary["airflow/state"]) == ("failed", "failed")
    assert child.summary["airflow/reconciled"]["source"] == "Airflow says that the task instance is 'failed'."
    wait_until_no_helper_is_left(killed)


def test_no_process_of_wandb_outlives_its_task(endings: Endings) -> None:
    run = endings.start("ending_well")
    endings.cluster.wait_for_run(run.dag_id, run.dag_run_id)

    assert steps(endings.ended(run, "log_much")) == list(range(500))
    wait_until_no_helper_is_left(run)
