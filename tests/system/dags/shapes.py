"""One DAG per shape of hierarchy; ``tests/system/test_hierarchy.py`` says what each must look like in W&B."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG, Asset, TriggerRule, task, task_group

from wandb_airflow_provider import wandb_pipeline


@task.wandb
def step(wandb_run: Any) -> None:
    wandb_run.summary["done"] = True


@task.wandb
def work(item: int, wandb_run: Any) -> int:
    wandb_run.log({"item": item})
    return item


def steps(*names: str) -> list[Any]:
    return [step.override(task_id=name)() for name in names]


with DAG("shape_linear", schedule=None), wandb_pipeline():
    a, b, c = steps("a", "b", "c")
    a >> b >> c

with DAG("shape_fan", schedule=None), wandb_pipeline():
    a, b, c, d = steps("a", "b", "c", "d")
    a >> [b, c] >> d

with DAG("shape_mapped", schedule=None), wandb_pipeline():
    before, after = steps("before", "after")
    mapped = work.expand(item=[10, 20, 30])
    before >> mapped >> after

with DAG("shape_mapped_group", schedule=None), wandb_pipeline():

    @task_group
    def each(item: int) -> None:
        work.override(task_id="second")(work.override(task_id="first")(item))

    (last,) = steps("last")
    each.expand(item=[1, 2]) >> last

with DAG("shape_branch", schedule=None), wandb_pipeline():

    @task.branch
    def choose() -> str:
        return "taken"

    start, taken, skipped = steps("start", "taken", "skipped")
    join = step.override(task_id="join", trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)()
    start >> choose() >> [taken, skipped] >> join

with DAG("shape_retried", schedule=None), wandb_pipeline():

    @task.wandb(retries=1, retry_delay=timedelta(seconds=0))
    def flaky(ti: Any, wandb_run: Any) -> None:
        wandb_run.log({"try": ti.try_number})
        if ti.try_number == 1:
            raise ValueError("the first try fails")

    (after,) = steps("after")
    flaky() >> after

with DAG("shape_cleared", schedule=None), wandb_pipeline():
    a, b, c = steps("a", "b", "c")
    a >> b >> c

with DAG("shape_child", schedule=None), wandb_pipeline():
    steps("inner")

with DAG("shape_parent", schedule=None), wandb_pipeline():
    before, after = steps("before", "after")
    (
        before
        >> TriggerDagRunOperator(
            task_id="trigger", trigger_dag_id="shape_child", wait_for_completion=True, poke_interval=1
        )
        >> after
    )

HANDED_OVER = Asset("wandb-shape-asset")

with DAG("shape_producer", schedule=None), wandb_pipeline():
    step.override(task_id="produce", outlets=[HANDED_OVER])()

with DAG("shape_consumer", schedule=[HANDED_OVER]), wandb_pipeline():
    steps("consume")

with DAG("shape_setup", schedule=None), wandb_pipeline():
    own_setup, inside, own_teardown = steps("own_setup", "inside", "own_teardown")
    own_setup.operator.as_setup()
    own_setup >> inside >> own_teardown.operator.as_teardown(setups=own_setup.operator)

with DAG("shape_sensor", schedule=None), wandb_pipeline():
    before, after = steps("before", "after")
    before >> TimeDeltaSensor(task_id="wait", delta=timedelta(seconds=1), deferrable=True) >> after

with DAG("shape_undated", schedule=None), wandb_pipeline():
    a, b = steps("a", "b")
    a >> EmptyOperator(task_id="nothing") >> b
