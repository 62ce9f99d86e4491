"""
Wait until another model than the present one holds ``production`` in the registry, and say which one it is.

Nothing moves the alias here: run ``example_gate_and_promotion`` meanwhile, or move it in W&B.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from wandb_airflow_provider import WandbRegistryAliasSensor


@task
def describe(model: dict[str, Any]) -> str:
    before = model["previous_version"] or "nothing"
    return f"{model['path']} took the place of {before}; logged by {model['source_run']}; see {model['url']}"


with DAG("example_wait_for_model", schedule=None, tags=["wandb", "example"], doc_md=__doc__):
    # [START sensor]
    wait = WandbRegistryAliasSensor(
        task_id="wait",
        registry="model",
        collection="example-classifier",
        alias="production",
        until="moved",
        missing="fail",
        deferrable=True,
        poke_interval=30,
        timeout=24 * 3600,
    )
    # [END sensor]
    describe(wait.output)
