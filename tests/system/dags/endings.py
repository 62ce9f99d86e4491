"""Tasks that end in ways that only a real Airflow can bring about; see ``tests/system/test_endings.py``."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, task

from wandb_airflow_provider import WandbReconcileOperator, wandb_pipeline
from wandb_airflow_provider.operators.base import WandbBaseOperator


@task.wandb
def work_for_long(wandb_run: Any) -> None:
    for step in range(600):
        wandb_run.log({"step": step})
        time.sleep(0.1)


with DAG("ending_marked_failed", schedule=None), wandb_pipeline():
    work_for_long()

with DAG("ending_timeout", schedule=None), wandb_pipeline():
    work_for_long.override(task_id="too_slow", execution_timeout=timedelta(seconds=20))()

with DAG("ending_run_timeout", schedule=None, dagrun_timeout=timedelta(seconds=40)), wandb_pipeline():
    work_for_long.override(task_id="out_of_time")() >> work_for_long.override(task_id="never")()

with DAG("ending_run_marked_failed", schedule=None), wandb_pipeline():
    work_for_long.override(task_id="at_work")() >> work_for_long.override(task_id="not_begun")()

with DAG("ending_sigkill", schedule=None), wandb_pipeline():

    @task.wandb
    def out_of_memory(wandb_run: Any) -> None:
        wandb_run.log({"step": 0})
        os.kill(os.getpid(), signal.SIGKILL)

    out_of_memory()

with DAG("ending_reconcile", schedule=None):
    WandbReconcileOperator(task_id="reconcile", quiet_for=0)

with DAG("ending_well", schedule=None), wandb_pipeline():

    @task.wandb
    def log_much(wandb_run: Any) -> None:
        for step in range(500):
            wandb_run.log({"step": step})

    log_much()

with DAG("ending_marked_success", schedule=None), wandb_pipeline():
    work_for_long.override(task_id="cut_short")()

with DAG("ending_memory_error", schedule=None), wandb_pipeline():

    @task.wandb
    def too_large(wandb_run: Any) -> None:
        wandb_run.log({"step": 0})
        bytearray(1 << 62)

    too_large()


class Pausing(WandbBaseOperator):
    """Leaves its worker in the middle of its work."""

    def execute_in_run(self, context: Any, wandb_run: Any) -> None:
        wandb_run.log({"step": 0})
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="go_on")

    def go_on(self, context: Any, event: Any) -> None:
        """Work on."""
        self.wandb_run.log({"step": 1})


with DAG("ending_deferred", schedule=None), wandb_pipeline():
    Pausing(task_id="pausing")
