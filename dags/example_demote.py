"""Take an alias from the version that holds it, so that nothing holds it any more."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from wandb_airflow_provider import WandbDemoteOperator, wandb_pipeline

with (
    DAG(
        "example_demote",
        schedule=None,
        params={
            "alias": Param("dev", type="string", description="The alias to take away."),
            "reason": Param(
                "No longer supported.", type="string", minLength=5, description="Kept in the audit."
            ),
        },
        tags=["wandb", "example"],
        doc_md=__doc__,
    ),
    wandb_pipeline(),
):
    # [START demote]
    WandbDemoteOperator(
        task_id="demote",
        registry="model",
        collection="example-staged",
        alias="{{ params.alias }}",
        reason="{{ params.reason }}",
    )
    # [END demote]
