"""What is run on one machine and on several: the weekly DAG and what it starts, the XCom example, two hundred tasks."""

from __future__ import annotations

from typing import Any

from tests.run_trees import RunTrees, path
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.airflow_records import WAITING_FOR_PERSON, DagRun
from wandb_airflow_provider.demo.polling import wait_for

PROJECT = "local/{}"
PROJECTS = {
    "weekly_retraining": "docstring-retrieval",
    "deploy_on_promotion": "docstring-retrieval",
    "example_xcom": "xcom-example",
    "many_runs": "many-runs",
}
RUN_TIMEOUT = 900.0
_SEEN_TIMEOUT = 120.0


def trigger(airflow: AirflowCluster, dag_id: str) -> DagRun:
    """Start a DAG run."""
    airflow.api.unpause(dag_id)
    return airflow.api.trigger(dag_id)


def until_approval(airflow: AirflowCluster) -> DagRun:
    """Start the weekly DAG and wait until it asks for an approval."""
    known = {run.dag_run_id for run in airflow.api.dag_runs("weekly_retraining")}
    # Its schedule starts the latest interval as soon as it is let run.
    airflow.api.unpause("weekly_retraining")
    run = airflow.wait_for_new_run("weekly_retraining", frozenset(known), timeout=RUN_TIMEOUT)
    asked = airflow.wait_for_task(
        "weekly_retraining", run.dag_run_id, "approve", WAITING_FOR_PERSON, timeout=RUN_TIMEOUT
    )
    wait_for(
        "the scheduler to have seen the question",
        lambda: airflow.has_parked(asked) or None,
        timeout=_SEEN_TIMEOUT,
        check=airflow.check,
    )
    return run


def approve(airflow: AirflowCluster, run: DagRun) -> DagRun:
    """Approve, and wait for the promotion."""
    (question,) = airflow.api.pending_approvals("weekly_retraining", run.dag_run_id)
    airflow.api.answer(question, "Approve")
    return airflow.wait_for_run("weekly_retraining", run.dag_run_id, timeout=RUN_TIMEOUT)


def until_deployed(airflow: AirflowCluster) -> DagRun:
    """Wait until the moved alias has started the deployment, and that has ended."""
    run = airflow.wait_for_new_run("deploy_on_promotion", timeout=RUN_TIMEOUT)
    return airflow.wait_for_run("deploy_on_promotion", run.dag_run_id, timeout=RUN_TIMEOUT)


def read_back(trees: RunTrees, client: Any) -> None:
    """Fetch every run of every project."""
    client.flush()
    for project in sorted(set(PROJECTS.values())):
        for run in client.runs(PROJECT.format(project), order="+created_at", per_page=500, lazy=False):
            trees.runs[path(run)] = run
