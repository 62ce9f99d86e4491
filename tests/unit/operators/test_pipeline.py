"""The pipeline run of a DAG run that is closed more than once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time import comms

from wandb_airflow_provider import WandbPythonOperator, wandb_pipeline
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef

pytestmark = pytest.mark.slow


def test_a_dag_run_that_ends_again_after_a_clear_counts_its_tasks_anew(
    run_task: Callable[..., Any], hook: WandbHook, supervisor: Any
) -> None:
    with DAG("cleared", schedule=None) as dag, wandb_pipeline():
        WandbPythonOperator(task_id="work", python_callable=lambda: None)

    def close(state: str, try_number: int) -> dict[str, Any]:
        row = {"task_id": "work", "map_index": -1, "state": state, "duration": 2.0, "operator": "x"}
        supervisor.answers["GetTaskBreadcrumbs"] = lambda msg: comms.TaskBreadcrumbsResult(breadcrumbs=[row])
        ended = run_task(dag.get_task("wandb_pipeline_close"), try_number=try_number)
        assert ended.error is None
        summary = hook.get_run(RunRef.from_json(ended.xcom("wandb_run"))).summary
        return {
            key: value for key, value in summary.items() if key.startswith(("airflow/tasks", "airflow/state"))
        }

    assert run_task(dag.get_task("wandb_pipeline_open")).error is None
    assert close("failed", 1) == {"airflow/state": "failed", "airflow/tasks/failed": 1}
    assert close("success", 2) == {"airflow/state": "success", "airflow/tasks/success": 1}
