"""Wait until somebody has logged a version of a dataset that passed its checks, and use exactly that one."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from wandb_airflow_provider import WandbArtifactSensor, wandb_pipeline


@task.wandb
def count_rows(dataset: dict[str, Any], wandb_run: Any) -> int:
    used = wandb_run.use_artifact(dataset["path"])
    return int(used.metadata["rows"])


with (
    DAG("example_wait_for_dataset", schedule=None, tags=["wandb", "example"], doc_md=__doc__),
    wandb_pipeline(),
):
    # [START sensor]
    wait = WandbArtifactSensor(
        task_id="wait",
        artifact="example-events",
        metadata={"checks.passed": True},
        deferrable=True,
        poke_interval=60,
        timeout=6 * 3600,
    )
    # [END sensor]
    count_rows(wait.output)
