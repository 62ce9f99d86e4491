"""A promotion's task in a process of its own, as on a worker; run by a test, with ``given`` as its only global."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

given: dict[str, Any] = globals()["given"]
os.environ.update(given["environment"])

from airflow.sdk import DAG  # noqa: E402
from airflow.sdk.execution_time import task_runner  # noqa: E402

from tests.unit.conftest import Supervisor, run_attempt  # noqa: E402
from wandb_airflow_provider.operators.promote import WandbPromoteOperator  # noqa: E402

with DAG("weekly", schedule=None):
    task = WandbPromoteOperator(task_id="promote", expected_holder="verdict", **given["arguments"])
supervisor: Any = Supervisor()
task_runner.SUPERVISOR_COMMS = supervisor
given["begin"].wait(given["patience"])
finished = run_attempt(supervisor, task, dag_run_id=given["dag_run_id"])
answer = {"state": finished.state, "error": str(finished.error), "kind": type(finished.error).__name__}
Path(given["answer"]).write_text(json.dumps(answer), encoding="utf-8")
