"""DAG runs whose tasks open W&B runs with their own code, with the listener on."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, task

from tests.dags.conftest import Ledger
from wandb_airflow_provider import wandb_pipeline

pytestmark = pytest.mark.usefixtures("listening")


@pytest.mark.slow
def test_runs_of_user_code_stand_in_the_tree_with_their_tasks_exit_codes(
    logged_in: Ledger, run_dag: Any
) -> None:
    with DAG("mixed", schedule=None) as dag, wandb_pipeline(tags=["nightly"]):

        @task
        def two() -> None:
            import wandb

            with wandb.init(name="first") as run:
                run.log({"loss": 1})
            wandb.init(name="second").log({"loss": 2})

        @task
        def none() -> None:
            pass

        @task.wandb
        def ours(wandb_run: Any) -> None:
            wandb_run.log({"loss": 3})

        @task(trigger_rule="all_done")
        def broken(number: int) -> None:
            import wandb

            wandb.init(name=f"broken-{number}").log({"loss": 4})
            raise ValueError(f"no data in {number}")

        two() >> none() >> ours() >> broken.expand(number=[0, 1])

    dag_run = run_dag(dag)

    assert dag_run.state == "failed"
    runs = logged_in.runs()
    root = runs.pop(f"mixed · {dag_run.run_id}")
    assert set(runs) == {"first", "second", "ours", "broken-0", "broken-1"}
    assert {run.group for run in runs.values()} == {root.group}
    provenance = {name: run.config["airflow"] for name, run in runs.items()}
    assert {found["parent_run"] for found in provenance.values()} == {"/".join(root.path)}
    first, ours = ("/".join(runs[name].path) for name in ("first", "ours"))
    assert provenance["ours"]["upstream_runs"] == [first], "it looks through the task without a run"
    assert [provenance[f"broken-{index}"]["map_index"] for index in (0, 1)] == [0, 1]
    assert provenance["broken-0"]["upstream_runs"] == provenance["broken-1"]["upstream_runs"] == [ours]
    assert {name: run.state for name, run in runs.items() if run.state != "finished"} == {
        "broken-0": "failed",
        "broken-1": "failed",
    }
    assert runs["broken-1"].summary["airflow/reason"] == "ValueError: no data in 1"
    assert sorted(runs["second"].tags) == ["mixed", "nightly"]


def test_with_run_per_task_a_task_without_wandb_has_a_run(
    ledger: Ledger, run_dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__WANDB__RUN_PER_TASK", "True")
    monkeypatch.setenv("AIRFLOW__WANDB__EXCLUDE", "*.left_out")
    with DAG("plain", schedule=None) as dag:

        @task
        def load() -> int:
            return 1

        @task
        def left_out(number: int) -> int:
            return number

        @task(retries=0)
        def fail(number: int) -> None:
            raise ValueError(f"no data in {number}")

        fail(left_out(load()))

    run_dag(dag)

    runs = ledger.runs()
    assert {name: run.state for name, run in runs.items()} == {"load": "finished", "fail": "failed"}
    assert runs["fail"].config["airflow"]["upstream_runs"] == ["/".join(runs["load"].path)]
