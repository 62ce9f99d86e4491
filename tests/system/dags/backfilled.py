"""A scheduled DAG to be backfilled; see ``tests/system/test_backfill.py``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, task

from wandb_airflow_provider import wandb_pipeline

with (
    DAG("backfilled", schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False),
    wandb_pipeline(),
):

    @task.wandb
    def count(wandb_run: Any, ds: str) -> None:
        wandb_run.log({"day": int(ds.replace("-", ""))})

    count()
