"""Scripts with a plain ``wandb.init()``, in a shell and in other Python environments, as runs of their tasks."""

from __future__ import annotations

import sys
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task

from wandb_airflow_provider import WandbChildRun, wandb_environment_templates, wandb_pipeline

SCRIPTS = Path(__file__).parent / "scripts"


@task.wandb
def prepare() -> int:
    return 50


@task.external_python(
    python=sys.executable, expect_airflow=False, pre_execute=WandbChildRun(job_type="score")
)
def score(slope_wanted: float) -> float:
    import wandb

    run = wandb.init()
    run.log({"distance": abs(slope_wanted - 2.0)})
    return slope_wanted


with DAG("example_child_processes", schedule=None), wandb_pipeline(project="child-processes"):
    # [START bash]
    train = BashOperator(
        task_id="train",
        bash_command=f"{sys.executable} {SCRIPTS}/fit_line.py {{{{ ti.xcom_pull(task_ids='prepare') }}}}",
        pre_execute=WandbChildRun(job_type="training", wandb_config={"learning_rate": 0.05}),
    )
    # [END bash]
    # [START templates]
    describe = BashOperator(
        task_id="describe",
        bash_command="echo $WANDB_RUN_GROUP/$WANDB_RUN_ID",
        env=wandb_environment_templates(job_type="report"),
        append_env=True,
    )
    # [END templates]
    prepare() >> train >> score(2.5) >> describe
