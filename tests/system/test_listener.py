"""The listener in a real Airflow, whose configuration switches it on for the DAGs ``plain_*``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.conftest import Endings, steps, wait_until_no_helper_is_left
from wandb_airflow_provider.demo.polling import wait_for

pytestmark = pytest.mark.slow


def test_a_task_marked_failed_ends_the_run_that_its_own_code_opened(endings: Endings) -> None:
    run = endings.start("plain_marked_failed")

    def some_steps() -> Any | None:
        found = endings.wandb_run(run, "own_code")
        return found if found is not None and found.summary.get("step", 0) > 5 else None

    live = wait_for("some steps to be logged", some_steps, timeout=120)
    task = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/own_code/xcomEntries/wandb_run_url"
    assert endings.cluster.api.request("GET", task)["value"] == live.url
    endings.cluster.api.set_task_state(run.dag_id, run.dag_run_id, "own_code", "failed")

    ended = endings.ended(run, "own_code")
    assert (ended.state, ended.summary["airflow/state"]) == ("preempted", "killed")
    assert ended.config["airflow"]["task_id"] == "own_code"
    logged = steps(ended)
    assert logged == list(range(len(logged)))
    wait_until_no_helper_is_left(run)
