"""A pipeline's runs, their order and their outcome, in DAGs that run in one process."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from tests.dags.conftest import Ledger
from wandb_airflow_provider import wandb_pipeline


def test_each_task_gets_a_run_under_the_pipeline_run(ledger: Ledger, run_dag: Any) -> None:
    with DAG("linear", schedule=None) as dag, wandb_pipeline():

        @task.wandb
        def prepare(wandb_run: Any) -> int:
            wandb_run.log({"rows": 3})
            return 3

        @task.wandb(tags=["hot"])
        def train(rows: int, wandb_run: Any) -> None:
            wandb_run.summary["seen"] = rows

        train(prepare())

    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    runs = ledger.runs()
    root = runs[f"linear · {dag_run.run_id}"]
    assert root.state == "finished"
    assert root.summary["airflow/state"] == "success"
    prepared, trained = runs["prepare"], runs["train"]
    assert trained.summary["seen"] == 3
    assert trained.config["airflow"]["parent_run"] == "/".join(root.path)
    assert trained.config["airflow"]["upstream_runs"] == ["/".join(prepared.path)]
    assert prepared.config["airflow"]["upstream_runs"] == []
    assert {run.group for run in runs.values()} == {f"linear__{dag_run.run_id}"}
    assert "hot" in trained.tags
