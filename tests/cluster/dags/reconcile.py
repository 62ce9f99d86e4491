"""Closes the runs that the lost machine has left open."""

from __future__ import annotations

from airflow.sdk import DAG

from wandb_airflow_provider import WandbReconcileOperator

with DAG("reconcile", schedule=None):
    WandbReconcileOperator(task_id="reconcile", project="many-runs", quiet_for=0)
