"""A DAG run in one W&B run: what each task finds in it and leaves in it."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from tests.dags.conftest import Ledger
from tests.dags.test_examples import pushed
from wandb_airflow_provider import wandb_pipeline


def only_run(ledger: Ledger) -> Any:
    (run,) = ledger.runs().values()
    return run


def timeline(run: Any) -> dict[str, dict[str, Any]]:
    (logged,) = [artifact for artifact in run.logged_artifacts() if artifact.type == "run_table"]
    table = logged.get("timeline")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.data]
    return {row["task_id"]: row for row in rows}


def test_all_tasks_write_to_one_run_each_under_its_name_and_on_its_own_steps(
    ledger: Ledger, run_dag: Any
) -> None:
    seen: list[Any] = []
    with (
        DAG("single", schedule=None) as dag,
        wandb_pipeline(strategy="single", tags=["weekly"], config={"a": 1}),
    ):

        @task.wandb(wandb_config={"lr": 0.1}, tags=["hot"])
        def train(wandb_run: Any) -> None:
            import wandb

            assert isinstance(wandb_run, wandb.Run)
            for loss in (3, 2, 1):
                wandb_run.log({"loss": loss})
            wandb_run.define_metric("accuracy", summary="max")
            wandb_run.config.update({"depth": 4})
            wandb_run.summary["best"] = wandb_run.config.lr
            seen.append((wandb_run.id, dict(wandb_run.summary)["best"], wandb_run.summary.best))

        @task.wandb
        def check(wandb_run: Any) -> None:
            wandb_run.log({"error": 7})
            wandb_run.log({"error": 8}, step=5)
            wandb_run.log({"more": 9}, step=5)
            wandb_run.log({"late": 1}, step=2)
            wandb_run.log({"error": 10}, step=6)
            seen.append((wandb_run.id, len(wandb_run.config), set(wandb_run.summary)))

        train() >> check()

    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    run = only_run(ledger)
    assert (run.name, run.job_type, run.state) == (f"single · {dag_run.run_id}", "pipeline", "finished")
    assert [entry[0] for entry in seen] == [run.id, run.id]
    assert seen[0][1:] == (0.1, 0.1)
    rows = list(run.scan_history())
    assert [(row["train/step"], row["train/loss"]) for row in rows if "train/loss" in row] == [
        (0, 3),
        (1, 2),
        (2, 1),
    ]
    checked = [row for row in rows if "check/error" in row]
    assert [(row["check/step"], row["check/error"]) for row in checked] == [(0, 7), (5, 8), (6, 10)]
    assert checked[1]["check/more"] == 9
    assert not [row for row in rows if "check/late" in row]
    assert pushed(dag_run, "check", "wandb_metrics") == {"error": 10, "more": 9}
    assert [row["_step"] for row in rows] == sorted(row["_step"] for row in rows)
    assert run.config["a"] == 1
    assert (run.config["train/lr"], run.config["train/depth"]) == (0.1, 4)
    assert run.config["airflow"]["task_id"] is None
    assert run.config["check/airflow"]["task_id"] == "check"
    assert run.config["check/airflow"]["parent_run"] == "/".join(run.path)
    assert run.config["check/airflow"]["upstream_runs"] == []
    assert run.summary["train/best"] == 0.1
    assert run.summary["airflow/state"] == run.summary["check/airflow/state"] == "success"
    assert set(run.tags) == {"single", "weekly", "hot"}
    rows_by_task = timeline(run)
    assert rows_by_task["train"]["run"] == rows_by_task["check"]["run"] == "/".join(run.path)
    assert rows_by_task["train"]["started_at"] < rows_by_task["check"]["started_at"]
    stored = ledger.api().run("/".join(run.path)).rawconfig
    # W&B keeps only the last process's definitions of axes; here the closing task's.
    axes = {entry.get("1") or entry.get("2") for entry in stored["_wandb"]["m"]}
    assert {"train/*", "check/*", "train/accuracy", "train/step", "check/step"} <= axes


@pytest.mark.slow
def test_a_retry_has_its_own_part_and_with_resume_goes_on_where_the_try_before_stopped(
    ledger: Ledger, run_dag: Any
) -> None:
    def work(wandb_run: Any, ti: Any) -> None:
        wandb_run.log({"metric": ti.try_number})
        if ti.try_number == 1:
            raise ValueError("once")

    with DAG("single_retry", schedule=None) as dag, wandb_pipeline(strategy="single"):
        retried = {"retries": 1, "retry_delay": 0}
        new = task.wandb(task_id="new", **retried)(work)()
        resumed = task.wandb(task_id="resumed", wandb_retries="resume", **retried)(work)()
        new >> resumed

    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    run = only_run(ledger)
    rows = list(run.scan_history())
    assert [(row["new/step"], row["new/metric"]) for row in rows if "new/metric" in row] == [(0, 1)]
    assert [row["new_try2/step"] for row in rows if "new_try2/metric" in row] == [0]
    found = [(row["resumed/step"], row["resumed/metric"]) for row in rows if "resumed/metric" in row]
    assert found == [(0, 1), (1, 2)]
    assert run.summary["new/airflow/reason"] == "ValueError: once"
    assert run.summary["resumed/airflow/state"] == "success"
    assert run.summary.get("resumed/airflow/reason") is None
    assert run.summary["airflow/runs"] == 3


@pytest.mark.slow
def test_a_failed_stage_fails_the_one_run_which_says_why(ledger: Ledger, run_dag: Any) -> None:
    with DAG("single_failing", schedule=None) as dag, wandb_pipeline(strategy="single"):

        @task.wandb
        def breaks(wandb_run: Any) -> None:
            wandb_run.log({"loss": 9})
            raise AirflowFailException("no data")

        @task.wandb
        def after(wandb_run: Any) -> None:
            """Never runs."""

        breaks() >> after()

    dag_run = run_dag(dag)

    assert dag_run.state == "failed"
    run = only_run(ledger)
    assert (run.state, run.summary["airflow/state"]) == ("failed", "failed")
    assert run.summary["airflow/reason"] == "breaks: AirflowFailException: no data"
    assert run.summary["breaks/airflow/state"] == "failed"
    rows = timeline(run)
    assert (rows["after"]["state"], rows["after"]["run"]) == ("upstream_failed", None)
    assert run.config["airflow"]["dag_version"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The `shared` mode")
def test_with_shared_mode_mapped_tasks_write_to_one_run_after_a_warning(
    ledger: Ledger, run_dag: Any, capfd: Any
) -> None:
    with DAG("single_shared", schedule=None) as dag, wandb_pipeline(strategy="single", shared=True):

        @task.wandb
        def work(number: int, wandb_run: Any) -> None:
            for _ in range(3):
                wandb_run.log({"metric": number})

        work.expand(number=[1, 2])

    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    run = only_run(ledger)
    assert (run.state, run.summary["airflow/state"]) == ("finished", "success")
    rows = list(run.scan_history())
    assert [row["work/0/metric"] for row in rows if "work/0/metric" in row] == [1, 1, 1]
    assert "may write to it at the same time (shared=True)" in "".join(capfd.readouterr())
    assert [row["work/1/metric"] for row in rows if "work/1/metric" in row] == [2, 2, 2]
