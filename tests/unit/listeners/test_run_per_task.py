"""Runs that the listener opens for tasks, with ``[wandb] run_per_task``."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.standard.sensors.date_time import DateTimeSensor
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.timezone import utcnow

from wandb_airflow_provider.identity import TaskIdentity

Do = Callable[..., Any]


@pytest.fixture(autouse=True)
def _run_per_task(account: Any, connect: Callable[..., None], configure: Callable[..., None]) -> None:
    connect(account.server, "wandb_tasks", extra={"project": account.project})
    configure(run_per_task=True, wandb_conn_id="wandb_tasks")


def test_each_attempt_of_a_task_has_a_run_of_its_own(do: Do, account: Any) -> None:
    def fail() -> None:
        raise ValueError("no data")

    first = do(fail)
    second = do(lambda: "done", try_number=2)
    assert (first.state, second.state, second.xcom()) == ("up_for_retry", "success", "done")
    failed, succeeded = account.runs()
    identity = TaskIdentity("plain", "manual__1", "work")
    assert (failed.id, failed.group, failed.job_type) == (identity.wandb_run_id(), identity.group, "work")
    assert (account.exit_code(failed), failed.summary["airflow/reason"]) == (1, "ValueError: no data")
    assert (account.exit_code(succeeded), succeeded.name) == (0, "work · try 2")
    assert succeeded.config["airflow"]["retry_of"] == f"local/{account.project}/{failed.id}"
    assert second.xcom("wandb_run_url") == succeeded.url


def test_the_task_s_code_that_opens_a_run_continues_that_of_the_task(do: Do, account: Any) -> None:
    def work() -> None:
        run = account.init(config={"lr": 0.1}, project="ignored")
        run.log({"loss": 1})
        account.init(id="besides", reinit="create_new").log({"loss": 2})

    finished = do(work)
    own, besides = account.runs()
    assert (own.config["lr"], own.summary["loss"], own.summary["airflow/state"]) == (0.1, 1, "success")
    assert (besides.id, besides.summary["airflow/state"]) == ("besides", "success")
    assert own.config["airflow"]["task_id"] == besides.config["airflow"]["task_id"] == "work"
    assert finished.xcom("wandb_run")["wandb_run_id"] == own.id


def test_a_killed_task_s_run_says_so(do: Do, account: Any) -> None:
    do(lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = account.run()
    assert (run.state, account.exit_code(run), run.summary["airflow/state"]) == ("preempted", 143, "killed")


def test_a_deferred_task_continues_its_run(
    listening: Any, run_task: Callable[..., Any], account: Any, supervisor: Any
) -> None:
    class Waiting(BaseOperator):
        def execute(self, context: Any) -> None:
            self.defer(trigger=DateTimeTrigger(moment=utcnow()), method_name="execute_complete")

        def execute_complete(self, context: Any, event: Any = None) -> None:
            raise ValueError("no data")

    with DAG("plain", schedule=None):
        task = Waiting(task_id="work")
    run_task(task)
    assert account.run().summary["airflow/state"] == "deferred"
    run_task(task, resume={"event": None})
    run = account.run()
    assert (account.exit_code(run), run.summary["airflow/state"]) == (1, "failed")


def test_a_sensor_gets_no_run(
    listening: Any, run_task: Callable[..., Any], account: Any, supervisor: Any
) -> None:
    with DAG("plain", schedule=None):
        task = DateTimeSensor(task_id="work", target_time=utcnow())
    assert run_task(task).state == "success"
    assert [msg.key for msg in supervisor.of("SetXCom") if msg.key.startswith("wandb")] == []


@pytest.mark.slow
def test_w_and_b_that_cannot_be_reached_leaves_the_task_green_with_one_warning(
    do: Do, connect: Callable[..., None], account: Any, caplog: pytest.LogCaptureFixture
) -> None:
    connect(account.server, "wandb_tasks", host="http://127.0.0.1:9", extra={"project": "p", "timeout": 1})
    with caplog.at_level(logging.WARNING):
        finished = do(lambda: "done")
    assert (finished.state, finished.xcom(), finished.xcom("wandb_run")) == ("success", "done", None)
    (warning,) = [record for record in caplog.records if record.name.startswith("wandb_airflow_provider")]
    assert (
        "could not open a run for the task (task plain.work, which is not affected)" in warning.getMessage()
    )
    assert "http://127.0.0.1:9" in warning.getMessage()


def test_a_missing_connection_is_one_warning(
    do: Do, configure: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    configure(wandb_conn_id="nowhere")
    with caplog.at_level(logging.WARNING):
        finished = do(lambda: "done")
    assert finished.xcom() == "done"
    (warning,) = [record for record in caplog.records if record.name.startswith("wandb_airflow_provider")]
    assert "There is no Airflow connection 'nowhere'" in warning.getMessage()
