"""Tasks that end in ways that only a real Airflow can bring about; see ``tests/system/test_endings.py``."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from wandb_airflow_provider import wandb_pipeline


@task.wandb
def work_for_long(wandb_run: Any) -> None:
    for step in range(600):
        wandb_run.log({"step": step})
        time.sleep(0.1)


with DAG("ending_marked_failed", schedule=None), wandb_pipeline():
    work_for_long()

with DAG("ending_timeout", schedule=None), wandb_pipeline():
    work_for_long.override(task_id="too_slow", execution_timeout=timedelta(seconds=20))()

with DAG("ending_well", schedule=None), wandb_pipeline():

    @task.wandb
    def log_much(wandb_run: Any) -> None:
        for step in range(500):
            wandb_run.log({"step": step})

    log_much()
