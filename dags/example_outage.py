"""A workflow that goes on while W&B cannot be reached; example_sync_spool uploads its runs later."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, task

from wandb_airflow_provider import wandb_pipeline

SPOOL = os.environ.get("WANDB_SPOOL", "/var/lib/airflow/wandb-spool")


@task.wandb
def prepare(wandb_run: Any) -> list[float]:
    wandb_run.summary["rows"] = 20
    return [x / 10 for x in range(20)]


@task.wandb(job_type="training")
def train(points: list[float], wandb_run: Any) -> float:
    for epoch in range(50):
        wandb_run.log({"loss": sum(points) / (epoch + 1)})
    return sum(points) / 50


# [START outage]
with (
    DAG("example_outage", schedule=None),
    # Any URL that Airflow's object storage knows will do, such as s3://aws_default@bucket/wandb-spool.
    wandb_pipeline(on_unavailable="offline", spool=SPOOL),
):
    train(prepare())
# [END outage]
