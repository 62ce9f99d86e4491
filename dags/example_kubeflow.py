"""A Kubeflow pipeline that a task runs locally, as a subtree of W&B runs: the task, the pipeline, its steps."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, get_current_context, task

from wandb_airflow_provider import wandb_environment, wandb_pipeline

SCRIPTS = Path(__file__).parent / "scripts"


# [START task]
@task.wandb
def assess(steps: int, wandb_run: Any) -> None:
    environment = wandb_environment(get_current_context(), run_id=None, secrets="value")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, SCRIPTS / "score_pipeline.py", str(steps)],
            env={**os.environ, **environment},
            cwd=folder,
            check=True,
        )


# [END task]

with DAG("example_kubeflow", schedule=None, params={"steps": 20}), wandb_pipeline(project="kubeflow"):
    assess("{{ params.steps }}")
