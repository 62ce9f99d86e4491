"""Give the alias ``production`` back to the version that held it before the last promotion."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from wandb_airflow_provider import WandbRollbackOperator, wandb_pipeline

with (
    DAG(
        "example_rollback",
        schedule=None,
        params={"why": Param("Promoted by mistake.", type="string", description="Kept with the rollback.")},
        tags=["wandb", "example"],
        doc_md=__doc__,
    ),
    wandb_pipeline(),
):
    # [START rollback]
    WandbRollbackOperator(
        task_id="rollback",
        registry="model",
        collection="example-classifier",
        alias="production",
        note="{{ params.why }}",
    )
    # [END rollback]
