"""A pipeline's runs, their order and their outcome, in DAGs that run in one process."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, task, task_group

from tests.dags.conftest import Ledger
from wandb_airflow_provider import wandb_pipeline


@pytest.mark.slow
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


def test_mapped_tasks_have_a_run_each_and_their_follower_names_them_all(ledger: Ledger, run_dag: Any) -> None:
    with DAG("mapped", schedule=None) as dag, wandb_pipeline():

        @task.wandb
        def train(rate: float, wandb_run: Any, *, depth: int) -> float:
            wandb_run.summary["seen"] = [rate, depth]
            return rate

        @task.wandb
        def choose(rates: Any, wandb_run: Any) -> float:
            return max(rates)

        choose(train.partial(depth=4).expand(rate=[0.1, 0.2]))

    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    runs = ledger.runs()
    mapped = [runs[f"train[{index}]"] for index in range(2)]
    assert [run.summary["seen"] for run in mapped] == [[0.1, 4], [0.2, 4]]
    assert [run.config["airflow"]["map_index"] for run in mapped] == [0, 1]
    assert sorted(runs["choose"].config["airflow"]["upstream_runs"]) == sorted(
        "/".join(run.path) for run in mapped
    )


@pytest.mark.slow
def test_in_a_mapped_group_each_run_follows_the_one_of_its_own_index(ledger: Ledger, run_dag: Any) -> None:
    with DAG("grouped", schedule=None) as dag, wandb_pipeline():

        @task.wandb
        def first(item: int, wandb_run: Any) -> int:
            return item

        @task.wandb
        def second(item: int, wandb_run: Any) -> int:
            return item

        @task_group
        def each(item: int) -> None:
            second(first(item))

        each.expand(item=[1, 2])

    run_dag(dag)

    runs = ledger.runs()
    for index in range(2):
        upstream = runs[f"each.second[{index}]"].config["airflow"]["upstream_runs"]
        assert upstream == ["/".join(runs[f"each.first[{index}]"].path)]


@pytest.mark.slow
def test_a_run_without_a_logical_date_has_its_place_too(ledger: Ledger, run_dag: Any) -> None:
    with DAG("undated", schedule=None) as dag, wandb_pipeline():

        @task.wandb
        def step(wandb_run: Any) -> None:
            wandb_run.log({"done": 1})

        step()

    dag_run = run_dag(dag, logical_date=None)

    run = ledger.runs()["step"]
    assert run.config["airflow"]["logical_date"] is None
    assert run.group == f"undated__{dag_run.run_id}"
