"""
Wait until a W&B run that Airflow did not start has ended, and go on with what it measured.

Give its path, ``entity/project/run_id``, as the param ``wandb_run``.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from wandb_airflow_provider import WandbHook, WandbRunSensor
from wandb_airflow_provider.identity import RunRef


@task
def read_loss(ended: dict[str, Any]) -> float:
    return float(WandbHook().get_run(RunRef.from_json(ended)).summary["loss"])


with DAG(
    "example_wait_for_run",
    schedule=None,
    params={"wandb_run": Param(None, type=["null", "string"], description="entity/project/run_id")},
    tags=["wandb", "example"],
    doc_md=__doc__,
):
    # [START sensor]
    wait = WandbRunSensor(
        task_id="wait",
        wandb_run="{{ params.wandb_run }}",
        outcomes={"killed": "skip", "preempted": "wait"},
        deferrable=True,
        poke_interval=60,
        timeout=12 * 3600,
    )
    # [END sensor]
    read_loss(wait.output)
