"""Two hundred mapped tasks with a W&B run each, which may lose the machine that they run on."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from wandb_airflow_provider import wandb_pipeline

NUMBERS = 200
STEPS = 3
LONG = range(24, NUMBERS, 25)
"""Those that take long, so that a loss meets one of them at work."""
LONG_SECONDS = 15.0


@task.wandb(retries=3, retry_delay=timedelta(seconds=1))
def square(number: int, wandb_run: Any) -> int:
    """Log a few steps of a value that only this task has."""
    for step in range(STEPS):
        wandb_run.log({"number": number, "step": step})
    if number in LONG:
        time.sleep(LONG_SECONDS)
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
