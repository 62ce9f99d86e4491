"""A weekly run that never ends, with a process of its own that has left its session."""

from __future__ import annotations

from airflow.sdk import Asset, dag, task


@dag(schedule=None)
def weekly_retraining():
    @task
    def train():
        import subprocess
        import sys

        subprocess.run(
            [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True, check=True
        )

    train()


@dag(schedule=[Asset("wandb://registry/model/hanging?alias=production")])
def deploy_on_promotion():
    @task
    def deploy():
        pass

    deploy()


weekly_retraining()
deploy_on_promotion()
