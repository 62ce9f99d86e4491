"""
Close the W&B runs that nobody closed: of tasks that were killed, and of DAG runs that ran out of time.

A maintenance DAG, one per W&B project. It asks Airflow how each task ended whose run is still open in W&B, closes the
run accordingly, and writes how it knew into the run's summary.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from wandb_airflow_provider import WandbReconcileOperator

with DAG(
    "example_reconcile",
    schedule=timedelta(minutes=10),
    catchup=False,
    max_active_runs=1,
    tags=["wandb", "example", "maintenance"],
    doc_md=__doc__,
):
    # [START reconcile]
    WandbReconcileOperator(task_id="reconcile", quiet_for=300)
    # [END reconcile]
