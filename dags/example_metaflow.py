"""A Metaflow flow that a task starts, as a subtree of W&B runs: the task, the flow, its steps."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

from wandb_airflow_provider import WandbChildRun, wandb_pipeline

SCRIPTS = Path(__file__).parent / "scripts"

with DAG("example_metaflow", schedule=None, params={"steps": 20}), wandb_pipeline(project="metaflow"):
    # [START task]
    retrain = BashOperator(
        task_id="retrain",
        bash_command=f"{sys.executable} {SCRIPTS}/retrain_flow.py run --steps {{{{ params.steps }}}}",
        env={
            # The task's own working folder, where Metaflow would keep its data, is removed after the task.
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": f"{tempfile.gettempdir()}/metaflow",
            "METAFLOW_USER": "airflow",
        },
        append_env=True,
        pre_execute=WandbChildRun(job_type="training"),
    )
    # [END task]
