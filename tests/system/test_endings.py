"""How runs end when Airflow itself ends the task, and what the UI shows of them meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import pytest

from tests.system.conftest import Endings, helpers_of, steps, wait_until_no_helper_is_left
from wandb_airflow_provider.demo.airflow_api import DagRun
from wandb_airflow_provider.demo.polling import wait_for

pytestmark = pytest.mark.slow


@dataclass
class Stopped:
    """A run whose task was marked as failed while it worked, and what was seen while it did."""

    dag_run: DagRun
    link: str
    helpers: list[str]


@pytest.fixture(scope="module")
def timed_out(endings: Endings) -> DagRun:
    """A run whose task takes longer than it may; started before the others, it passes its time beside them."""
    return endings.start("ending_timeout")


@pytest.fixture(scope="module")
def left_open(endings: Endings, timed_out: DagRun) -> dict[str, DagRun]:
    """Runs of which nothing closes a run of W&B; they pass their time beside the others."""
    return {dag_id: endings.start(dag_id) for dag_id in ("ending_run_timeout", "ending_sigkill")}


@pytest.fixture(scope="module")
def by_themselves(endings: Endings, left_open: dict[str, DagRun]) -> dict[str, DagRun]:
    """Runs that end without anybody's doing; they pass their time beside the others."""
    return {dag_id: endings.start(dag_id) for dag_id in ("ending_memory_error", "ending_deferred")}


@pytest.fixture(scope="module")
def marked(endings: Endings, by_themselves: dict[str, DagRun]) -> DagRun:
    return endings.start("ending_run_marked_failed")


@pytest.fixture(scope="module")
def stopped(endings: Endings, marked: DagRun) -> Stopped:
    run = endings.start("ending_marked_failed")
    wait_until_at_work(endings, run, "work_for_long")
    link = wait_for("the link of the running task", lambda: endings.link(run, "work_for_long"), timeout=60)
    helpers = helpers_of(run)
    endings.cluster.api.set_task_state(run.dag_id, run.dag_run_id, "work_for_long", "failed")
    return Stopped(endings.cluster.wait_for_run(run.dag_id, run.dag_run_id), link, helpers)


def wait_until_at_work(endings: Endings, run: DagRun, job_type: str) -> None:
    def some_steps() -> bool | None:
        found = endings.wandb_run(run, job_type)
        return True if found is not None and found.summary.get("step", 0) > 5 else None

    wait_for("some steps to be logged", some_steps, timeout=120)


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
    wait_until_at_work(endings, marked, "at_work")
    path = f"/dags/{marked.dag_id}/dagRuns/{quote(marked.dag_run_id, safe='')}"
    endings.cluster.api.request("PATCH", path, json={"state": "failed"})
    ended = endings.cluster.wait_for_run(marked.dag_id, marked.dag_run_id)

    assert endings.ended(marked, "at_work").summary["airflow/state"] == "killed"
    root = endings.ended(marked, "pipeline")
    assert root.summary["airflow/state"] == ended.state
    assert root.summary["airflow/reason"].startswith("at_work: ")
    assert (root.summary["airflow/tasks/failed"], root.summary["airflow/tasks/skipped"]) == (1, 1)
    assert root.summary["timeline"]["nrows"] == 2


def out_of_time_at_work(endings: Endings, run: DagRun) -> DagRun:
    """Return an ended run whose time was up while its task worked; on a slow machine it can be up before that."""
    for _ in range(3):
        endings.cluster.wait_for_run(run.dag_id, run.dag_run_id)
        if endings.wandb_run(run, "out_of_time") is not None:
            return run
        run = endings.start(run.dag_id)
    raise AssertionError("The DAG run's time was up before its task worked, each time.")


def test_runs_that_nobody_closed_are_closed_by_the_reconciler_which_says_how_it_knew(
    endings: Endings, left_open: dict[str, DagRun]
) -> None:
    over_time, killed = (
        out_of_time_at_work(endings, left_open["ending_run_timeout"]),
        left_open["ending_sigkill"],
    )
    endings.cluster.wait_for_run(killed.dag_id, killed.dag_run_id)
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


def test_a_task_marked_as_success_while_it_works_ends_its_run_as_killed_with_everything_that_was_logged(
    endings: Endings,
) -> None:
    run = endings.start("ending_marked_success")
    wait_until_at_work(endings, run, "cut_short")
    endings.cluster.api.set_task_state(run.dag_id, run.dag_run_id, "cut_short", "success")

    ended = endings.ended(run, "cut_short")

    assert (ended.state, ended.summary["airflow/state"]) == ("preempted", "killed")
    logged = steps(ended)
    assert logged == list(range(len(logged)))
    assert len(logged) > 5
    assert endings.cluster.wait_for_run(run.dag_id, run.dag_run_id).state == "success"
    root = endings.ended(run, "pipeline")
    assert root.summary["airflow/state"] == "success"
    wait_until_no_helper_is_left(run)


def test_a_task_that_gets_no_memory_ends_its_run_as_failed(
    endings: Endings, by_themselves: dict[str, DagRun]
) -> None:
    ended = endings.ended(by_themselves["ending_memory_error"], "too_large")
    assert (ended.state, ended.summary["airflow/reason"]) == ("failed", "MemoryError: ")
    assert steps(ended) == [0]


def test_a_task_that_defers_goes_on_in_the_same_run(
    endings: Endings, by_themselves: dict[str, DagRun]
) -> None:
    run = by_themselves["ending_deferred"]
    assert endings.cluster.wait_for_run(run.dag_id, run.dag_run_id).state == "success"
    ended = endings.ended(run, "pausing")
    assert (ended.state, ended.summary["airflow/state"]) == ("finished", "success")
    assert steps(ended) == [0, 1]
    wait_until_no_helper_is_left(run)
