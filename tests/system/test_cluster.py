from __future__ import annotations

import pytest

from wandb_airflow_provider.demo.airflow_process import AirflowCluster

pytestmark = pytest.mark.slow


def test_a_triggered_run_of_mapped_tasks_ends_well_and_its_results_can_be_read(
    airflow_cluster: AirflowCluster,
) -> None:
    run = airflow_cluster.run_dag("smoke")

    tasks = airflow_cluster.api.task_instances("smoke", run.dag_run_id)
    assert run.state == "success"
    assert sorted((task.label, task.state) for task in tasks) == [
        ("numbers", "success"),
        ("square[0]", "success"),
        ("square[1]", "success"),
        ("square[2]", "success"),
        ("total", "success"),
    ]
    assert airflow_cluster.api.xcom("smoke", run.dag_run_id, "total") == 14
    assert airflow_cluster.api.xcom("smoke", run.dag_run_id, "square", map_index=2) == 9


def test_a_cleared_task_runs_again_in_the_same_dag_run(airflow_cluster: AirflowCluster) -> None:
    run = airflow_cluster.run_dag("smoke")

    airflow_cluster.api.clear("smoke", run.dag_run_id, ["total"])

    again = airflow_cluster.wait_for_run("smoke", run.dag_run_id)
    tries = {
        task.label: task.try_number for task in airflow_cluster.api.task_instances("smoke", run.dag_run_id)
    }
    assert again.state == "success"
    assert tries["total"] == 2
    assert tries["numbers"] == 1


def test_the_log_of_a_task_can_be_read(airflow_cluster: AirflowCluster) -> None:
    run = airflow_cluster.run_dag("smoke")
    task = next(
        task
        for task in airflow_cluster.api.task_instances("smoke", run.dag_run_id)
        if task.task_id == "total"
    )

    assert any("Returned value was: 14" in line for line in airflow_cluster.api.task_log(task))
