"""How the ends of tasks show in the pipeline run, in DAGs that run in one process."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from tests.dags.conftest import Ledger
from wandb_airflow_provider import wandb_pipeline
from wandb_airflow_provider.exceptions import WandbUnavailableError
from wandb_airflow_provider.identity import TaskIdentity
from wandb_airflow_provider.operators.base import WandbBaseOperator


@task.wandb
def step(wandb_run: Any) -> None:
    wandb_run.log({"done": 1})


def test_a_failed_task_fails_the_pipeline_run_which_says_why(ledger: Ledger, run_dag: Any) -> None:
    with DAG("failing", schedule=None) as dag, wandb_pipeline():

        @task.wandb
        def breaks(wandb_run: Any) -> None:
            wandb_run.log({"loss": 9})
            raise AirflowFailException("no data")

        step.override(task_id="before")() >> breaks() >> step.override(task_id="after")()

    dag_run = run_dag(dag)

    assert dag_run.state == "failed"
    runs = ledger.runs()
    root = runs.pop(f"failing · {dag_run.run_id}")
    assert {name: run.state for name, run in runs.items()} == {"before": "finished", "breaks": "failed"}
    assert runs["breaks"].summary["loss"] == 9
    assert root.state == "failed"
    assert root.summary["airflow/state"] == "failed"
    assert root.summary["airflow/reason"] == "breaks: AirflowFailException: no data"
    assert root.summary["airflow/tasks/upstream_failed"] == 1
    assert root.summary["airflow/runs"] == 2


@pytest.mark.slow
def test_a_try_follows_the_last_one_that_had_a_run(ledger: Ledger, run_dag: Any) -> None:
    tries: list[int] = []

    class Work(WandbBaseOperator):
        def check(self) -> None:
            tries.append(len(tries) + 1)
            if tries[-1] == 2:
                raise WandbUnavailableError("no run in this try")

        def execute_in_run(self, context: Any, wandb_run: Any) -> None:
            if tries[-1] == 1:
                raise ValueError("once")

    with DAG("retried", schedule=None) as dag, wandb_pipeline():
        Work(task_id="work", retries=2, retry_delay=timedelta())

    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    runs = ledger.runs()
    assert set(runs) == {f"retried · {dag_run.run_id}", "work", "work · try 3"}
    assert runs["work"].config["airflow"]["retry_of"] is None
    assert runs["work · try 3"].config["airflow"]["retry_of"] == "/".join(runs["work"].path)


@pytest.mark.slow
def test_a_skipped_task_leaves_the_pipeline_run_finished(ledger: Ledger, run_dag: Any) -> None:
    with DAG("skipping", schedule=None) as dag, wandb_pipeline():

        @task.wandb
        def skips(wandb_run: Any) -> None:
            raise AirflowSkipException("nothing new")

        skips() >> step.override(task_id="after")()

    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    runs = ledger.runs()
    root = runs.pop(f"skipping · {dag_run.run_id}")
    assert list(runs) == ["skips"]
    assert (runs["skips"].state, runs["skips"].summary["airflow/state"]) == ("finished", "skipped")
    assert (root.state, root.summary["airflow/state"]) == ("finished", "success")
    assert root.summary["airflow/tasks/skipped"] == 2


@pytest.mark.slow
def test_the_timeline_holds_every_task(ledger: Ledger, run_dag: Any) -> None:
    with DAG("timed", schedule=None) as dag, wandb_pipeline():

        @task
        def plain() -> None:
            """Opens no run."""

        step.override(task_id="first")() >> plain() >> step.override(task_id="last")()

    dag_run = run_dag(dag)

    root = ledger.runs()[f"timed · {dag_run.run_id}"]
    (logged,) = [artifact for artifact in root.logged_artifacts() if artifact.type == "run_table"]
    table = logged.get("timeline")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.data]
    states = {row["task_id"]: (row["state"], bool(row["run"])) for row in rows}
    assert states["first"] == states["last"] == ("success", True)
    assert states["plain"] == ("success", False)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["new", "resume"])
def test_every_task_follows_the_pipeline_s_retry_policy(ledger: Ledger, run_dag: Any, policy: Any) -> None:
    with (
        DAG(f"policy_{policy}", schedule=None) as dag,
        wandb_pipeline(wandb_retries=policy, config={"lr": 1}),
    ):
        step()

    run_dag(dag)

    run = ledger.runs()["step"]
    provenance = run.config["airflow"]
    identity = TaskIdentity(provenance["dag_id"], provenance["dag_run_id"], "step")
    assert run.id == identity.wandb_run_id(policy)
    assert run.config["lr"] == 1
