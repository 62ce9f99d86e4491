"""What the tab of a DAG run must show: groups, mapped tasks, a failure, a skip, other operators, other DAGs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Asset, task, task_group

from wandb_airflow_provider import wandb_pipeline

HOSTILE = "<img src=x onerror=alert(1)>"
HANDED_OVER = Asset("wandb-panel-asset")

with DAG("panel_child", schedule=None), wandb_pipeline():

    @task.wandb
    def inner(wandb_run: Any) -> None:
        wandb_run.summary["inner"] = 1

    inner()

with DAG("panel_consumer", schedule=[HANDED_OVER]), wandb_pipeline():

    @task.wandb
    def consume(wandb_run: Any) -> None:
        wandb_run.summary["consumed"] = 1

    consume()

with DAG("panel_tree", schedule=None), wandb_pipeline():

    @task.wandb(outlets=[HANDED_OVER])
    def prepare(wandb_run: Any) -> list[int]:
        wandb_run.log({"rows": 1200})
        wandb_run.summary[HOSTILE] = 0.5
        return [1, 2, 3]

    @task_group
    def training(rates: Any) -> None:
        @task.wandb
        def fit(rate: int, wandb_run: Any) -> float:
            for step in range(5):
                wandb_run.log({"loss": rate / (step + 1)})
            return 1.0

        @task.wandb
        def broken(wandb_run: Any) -> None:
            wandb_run.log({"loss": 9.5})
            raise ValueError("a task that fails")

        fit.expand(rate=rates)
        broken()

    @task.short_circuit
    def never() -> bool:
        return False

    @task.wandb
    def left_out(wandb_run: Any) -> None:
        raise AssertionError("skipped")

    @task
    def plain_pusher(ti: Any) -> None:
        ti.xcom_push(key="wandb_run_url", value="http://127.0.0.1:1/somebody/elses/runs/1")

    @task
    def plain_forger(ti: Any) -> None:
        ti.xcom_push(key="wandb_run_url", value="javascript:alert(document.cookie)")

    training(prepare())
    never() >> left_out()
    plain_pusher()
    plain_forger()
    TriggerDagRunOperator(task_id="trigger", trigger_dag_id="panel_child")

with DAG("panel_live", schedule=None):

    @task
    def plain_waiter(ti: Any, dag_run: Any) -> None:
        ti.xcom_push(key="wandb_run_url", value="http://127.0.0.1:1/e/p/runs/live")
        until = time.monotonic() + 90
        while not Path(dag_run.conf["gate"]).exists():
            assert time.monotonic() < until
            time.sleep(0.1)

    plain_waiter()
