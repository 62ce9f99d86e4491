"""What the demo asks of a running Airflow: to follow a DAG run, to ask a person, and to say why it failed."""

from __future__ import annotations

import pytest

from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.dag_run_watch import DagRunWatch
from wandb_airflow_provider.demo.errors import DemoError, WaitTimeoutError

pytestmark = pytest.mark.slow

BROKEN_DAG = """
import a_module_that_nobody_has
from airflow.sdk import DAG

DAG("demo_broken", schedule=None)
"""


def test_a_dag_file_that_cannot_be_imported_is_the_reason_why_its_dag_is_missing(
    airflow_cluster: AirflowCluster,
) -> None:
    file = airflow_cluster.dags_folder / "demo_broken.py"
    file.write_text(BROKEN_DAG)
    try:
        with pytest.raises(DemoError) as error:
            airflow_cluster.wait_for_dag("demo_broken", timeout=120.0)
    finally:
        file.unlink()

    assert "DAG 'demo_broken' is missing" in str(error.value)
    assert "No module named 'a_module_that_nobody_has'" in str(error.value)


def test_a_question_to_a_person_is_shown_and_answered(airflow_cluster: AirflowCluster) -> None:
    airflow_cluster.wait_for_dag("demo_asks")
    airflow_cluster.api.unpause("demo_asks")
    said: list[str] = []
    watch = DagRunWatch(airflow_cluster, say=said.append)

    run = watch.follow(airflow_cluster.api.trigger("demo_asks"))

    text = "\n".join(said)
    assert run.state == "success"
    assert "Task approve asks a person: Promote v3?\n    | # Report\n    | MRR +0.1." in text
    assert "The demo answered 'Approve' in place of a person, through Airflow's API." in text
    assert airflow_cluster.api.xcom("demo_asks", run.dag_run_id, "promote") == "promoted"


def test_an_interactive_demo_says_where_to_answer_and_leaves_it_to_the_person(
    airflow_cluster: AirflowCluster,
) -> None:
    airflow_cluster.wait_for_dag("demo_asks")
    airflow_cluster.api.unpause("demo_asks")
    run = airflow_cluster.api.trigger("demo_asks")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        # The person at the keyboard, who answers as soon as the question is on the screen.
        if "Answer here" in line:
            approval = airflow_cluster.api.pending_approvals("demo_asks", run.dag_run_id)[0]
            airflow_cluster.api.answer(approval, "Reject")

    ended = DagRunWatch(airflow_cluster, say=say, interactive=True).follow(run)

    states = {
        task.task_id: task.state for task in airflow_cluster.api.task_instances("demo_asks", run.dag_run_id)
    }
    page = next(line for line in said if "Answer here (Approve or Reject)" in line)
    assert page.strip().endswith("/tasks/approve/required_actions")
    assert ended.finished
    assert states["promote"] == "skipped"


def test_a_failed_task_is_reported_with_the_end_of_its_log(airflow_cluster: AirflowCluster) -> None:
    airflow_cluster.wait_for_dag("demo_fails")
    airflow_cluster.api.unpause("demo_fails")
    said: list[str] = []
    watch = DagRunWatch(airflow_cluster, say=said.append)

    run = watch.follow(airflow_cluster.api.trigger("demo_fails"))
    reason = watch.failure(run)

    assert run.state == "failed"
    assert any("train" in line and "FAILED" in line for line in said)
    assert any("evaluate" in line and "a task before it failed" in line for line in said)
    assert reason.startswith("Task 'train' of DAG 'demo_fails' failed (try 1).")
    assert "ValueError: the data has no labels" in reason
    assert f"{airflow_cluster.url}/dags/demo_fails/runs/" in reason


def test_a_run_that_takes_too_long_says_which_tasks_are_missing(airflow_cluster: AirflowCluster) -> None:
    airflow_cluster.wait_for_dag("demo_asks")
    airflow_cluster.api.unpause("demo_asks")
    run = airflow_cluster.api.trigger("demo_asks")

    with pytest.raises(WaitTimeoutError, match=r"has not ended within 0 s \(.*promote: "):
        DagRunWatch(airflow_cluster, say=lambda line: None, timeout=0.0).follow(run)
