"""A task that opens a W&B run with its own code; see ``tests/system/test_listener.py``."""

from __future__ import annotations

import time

from airflow.sdk import DAG, BaseHook, task

with DAG("plain_marked_failed", schedule=None):

    @task
    def own_code() -> None:
        import wandb

        login = BaseHook.get_connection("wandb_default")
        settings = wandb.Settings(base_url=login.host, api_key=login.password)
        run = wandb.init(entity="local", project="system-tests", settings=settings)
        for step in range(600):
            run.log({"step": step})
            time.sleep(0.1)

    own_code()
