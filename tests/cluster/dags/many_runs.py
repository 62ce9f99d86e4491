"""Mapped tasks with a W&B run each, which may lose the machine that they run on."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Variable, task

from wandb_airflow_provider import wandb_pipeline

NUMBERS = int(os.environ.get("MANY_RUNS", "200"))
STEPS = 3
HELD = range(60, 64)
"""Those whose first try waits for the loss, so that it meets one of them at work."""
RELEASED = "worker_lost"
"""The Airflow variable that lets them go on."""
HELD_SECONDS = 240.0


@task.wandb(retries=3, retry_delay=timedelta(seconds=1))
def square(number: int, wandb_run: Any, ti: Any) -> int:
    """Log a few steps of a value that only this task has."""
    for step in range(STEPS):
        wandb_run.log({"number": number, "step": step})
    end = time.monotonic() + HELD_SECONDS
    while number in HELD and ti.try_number == 1 and time.monotonic() < end:
        if Variable.get(RELEASED, default=None):
            break
        time.sleep(1.0)
    wandb_run.summary["square"] = number**2
    return number**2


@task.wandb
def total(squares: Any, wandb_run: Any) -> int:
    """Add what all of them returned."""
    found = list(squares)
    wandb_run.summary.update({"count": len(found), "total": sum(found)})
    return sum(found)


with DAG("many_runs", schedule=None, max_active_tasks=64), wandb_pipeline(project="many-runs"):
    total(square.expand(number=list(range(NUMBERS))))
