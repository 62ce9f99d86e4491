"""Upload, every hour, the runs that could not reach W&B."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import DAG

from wandb_airflow_provider import WandbSyncOperator

SPOOL = os.environ.get("WANDB_SPOOL", "/var/lib/airflow/wandb-spool")

# [START sync]
with DAG("example_sync_spool", schedule=timedelta(hours=1), max_active_runs=1):
    WandbSyncOperator(task_id="sync", spool=SPOOL, retries=3)
# [END sync]
