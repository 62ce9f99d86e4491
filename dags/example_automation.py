"""Have W&B tell Airflow at once when the alias ``production`` of any model moves, and record failed trainings."""

from __future__ import annotations

from airflow.sdk import DAG

from wandb_airflow_provider import MetricCondition, WandbCreateAutomationOperator

with DAG(
    "example_automation",
    schedule="@once",
    catchup=False,
    tags=["wandb", "example"],
    doc_md=__doc__,
):
    # [START webhook]
    WandbCreateAutomationOperator(
        task_id="tell_airflow",
        name="airflow: production moves",
        event="alias_added",
        registry="model",
        alias="production",
        action="webhook",
        integration="airflow",
    )
    # [END webhook]
    # [START metric]
    WandbCreateAutomationOperator(
        task_id="record_divergence",
        name="loss diverges",
        event="run_metric",
        metric=MetricCondition("loss", increases_by=0.5, window=10),
        action="nothing",
    )
    # [END metric]
