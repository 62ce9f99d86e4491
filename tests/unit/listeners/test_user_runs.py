"""Runs that a task's own code opens, with ``[wandb] auto_instrument``."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from wandb_airflow_provider import wandb_pipeline
from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.identity import RunRef, TaskIdentity

Do = Callable[..., Any]


def test_a_run_left_open_is_finished_with_its_task_and_has_its_place(do: Do, account: Any) -> None:
    seen: dict[str, str] = {}

    def work() -> str:
        seen.update({name: value for name, value in os.environ.items() if name.startswith("WANDB_")})
        account.init(config={"lr": 0.1}, tags=["mine"]).log({"loss": 1})
        return "done"

    finished = do(work)
    assert (finished.state, finished.xcom()) == ("success", "done")
    run = account.run()
    assert (run.state, account.exit_code(run), run.summary["airflow/state"]) == ("finished", 0, "success")
    identity = TaskIdentity("plain", "manual__1", "work")
    assert (run.group, run.job_type, run.tags) == (identity.group, "work", ["mine", "plain"])
    assert run.config["lr"] == 0.1
    provenance = run.config["airflow"]
    assert (provenance["dag_id"], provenance["task_id"], provenance["try_number"]) == ("plain", "work", 1)
    assert (provenance["parent_run"], provenance["upstream_runs"]) == (None, [])
    assert finished.xcom("wandb_run")["path"] == f"local/{account.project}/{run.id}"
    assert finished.xcom("wandb_run_url") == run.url
    assert (seen["WANDB_RUN_GROUP"], seen["WANDB_JOB_TYPE"]) == (identity.group, "work")
    assert account.server.api_key not in str(seen)


@pytest.mark.parametrize(
    ("error", "state", "exit_code", "said"),
    [
        (ValueError("no data"), "failed", 1, ("failed", "ValueError: no data")),
        (AirflowFailException("never"), "failed", 1, ("failed", "AirflowFailException: never")),
        (AirflowSkipException("nothing new"), "finished", 0, ("skipped", None)),
    ],
)
def test_a_run_left_open_ends_as_its_task_does(
    do: Do, account: Any, error: Exception, state: str, exit_code: int, said: tuple[Any, Any]
) -> None:
    def work() -> None:
        account.init().log({"loss": 1})
        raise error

    do(work)
    run = account.run()
    assert (run.state, account.exit_code(run)) == (state, exit_code)
    assert (run.summary.get("airflow/state"), run.summary.get("airflow/reason")) == said


def test_a_timeout_fails_the_run(do: Do, account: Any) -> None:
    def work() -> None:
        account.init().log({"loss": 1})
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        signal.pause()

    finished = do(work, execution_timeout=timedelta(minutes=5))
    assert type(finished.error).__name__ == "AirflowTaskTimeout"
    run = account.run()
    assert (run.state, account.exit_code(run)) == ("failed", 1)
    assert run.summary["airflow/reason"].startswith("AirflowTaskTimeout: ")


def test_sigterm_finishes_the_run_as_killed_beside_the_task_s_own_on_kill(
    do: Do, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    took: list[float] = []
    monkeypatch.setattr(PythonOperator, "on_kill", lambda self: called.append(self.task_id))

    def work() -> None:
        account.init().log({"loss": 1})
        began = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        took.append(time.monotonic() - began)

    do(work)
    run = account.run()
    assert (run.state, account.exit_code(run)) == ("preempted", 143)
    assert run.summary["airflow/state"] == "killed"
    assert called == ["work"]
    assert took[0] < 4, "Airflow sends SIGKILL after 5 seconds"


def test_runs_that_the_task_finishes_itself_keep_their_exit_codes_and_have_their_place(
    do: Do, account: Any, supervisor: Any
) -> None:
    def work() -> None:
        with account.init(name="first") as first:
            first.log({"loss": 1})
        with pytest.raises(KeyError), account.init(name="second", group="mine", job_type="eval"):
            raise KeyError("caught by the task")
        account.init(name="third", reinit="create_new").log({"loss": 3})

    finished = do(work)
    first, second, third = account.runs()
    assert [account.exit_code(run) for run in (first, second, third)] == [0, 1, 0]
    assert [run.config["airflow"]["task_id"] for run in (first, second, third)] == ["work"] * 3
    assert [(run.group, run.job_type) for run in (second, third)] == [
        ("mine", "eval"),
        ("plain__manual__1", "work"),
    ]
    assert finished.xcom("wandb_run")["wandb_run_id"] == first.id
    assert len([msg for msg in supervisor.of("SetXCom") if msg.key == "wandb_run"]) == 1


def test_the_pipeline_run_is_the_parent_and_the_nearest_runs_are_upstream(
    listening: Any, run_task: Callable[..., Any], account: Any, supervisor: Any
) -> None:
    with DAG("plain", schedule=None), wandb_pipeline(project="elsewhere", tags=["nightly"]) as pipeline:
        before, between, after = (
            PythonOperator(task_id=name, python_callable=function)
            for name, function in (
                ("before", lambda: account.init(id="b1").log({"loss": 1})),
                ("between", lambda: None),
                ("after", lambda: account.init(id="a1").log({"loss": 1})),
            )
        )
        before >> between >> after
    root = RunRef("local", "elsewhere", "root-1")
    supervisor.xcoms[(pipeline.open_task_id, "wandb_run", -1)] = root.to_json()
    for task in (before, between, after):
        run_task(task)
    runs = {run.id: run for run in account.runs()}
    assert set(runs) == {"a1", "b1"}
    assert {run.config["airflow"]["parent_run"] for run in runs.values()} == {root.path}
    assert runs["b1"].config["airflow"]["upstream_runs"] == []
    assert runs["a1"].config["airflow"]["upstream_runs"] == [f"local/{account.project}/b1"]
    assert sorted(runs["a1"].tags) == ["nightly", "plain"]


def test_a_run_opened_through_a_name_that_was_imported_before_is_found_at_the_end(
    do: Do, account: Any
) -> None:
    import wandb

    init = wandb.init

    def work() -> None:
        settings = wandb.Settings(base_url=account.server.url, api_key=account.server.api_key, silent=True)
        init(project=account.project, entity="local", dir=account.folder, settings=settings)
        raise ValueError("no data")

    finished = do(work)
    run = account.run()
    assert (run.state, account.exit_code(run)) == ("failed", 1)
    assert (run.config["airflow"]["task_id"], run.group) == ("work", "plain__manual__1")
    assert finished.xcom("wandb_run")["wandb_run_id"] == run.id


def test_a_run_that_is_resumed_belongs_to_the_attempt_that_resumes_it(do: Do, account: Any) -> None:
    def work() -> None:
        account.init(id="r1", resume="allow").log({"loss": 1})

    do(work)
    do(work, try_number=2)
    assert account.run().config["airflow"]["try_number"] == 2


def test_a_config_key_of_the_user_s_own_is_left_alone(do: Do, account: Any) -> None:
    do(lambda: account.init(config={"airflow": "3.3"}).log({"loss": 1}))
    assert account.run().config["airflow"] == "3.3"


def test_runs_that_record_nothing_in_w_and_b_are_left_alone(do: Do, account: Any) -> None:
    def work() -> str:
        account.init(mode="disabled").log({"loss": 1})
        run = account.init(mode="offline")
        run.log({"loss": 1})
        return str(run.config["airflow"]["task_id"])

    finished = do(work)
    assert (finished.state, finished.xcom(), finished.xcom("wandb_run")) == ("success", "work", None)
    with pytest.raises(ValueError, match="Could not find project"):
        account.runs()


def test_what_wandb_init_raises_is_raised_to_the_task(do: Do, account: Any) -> None:
    finished = do(lambda: account.init(nonsense=True))
    assert isinstance(finished.error, TypeError)
    assert "nonsense" in str(finished.error)


def test_a_group_from_the_worker_s_environment_is_kept(
    do: Do, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_GROUP", "of the worker")
    monkeypatch.setenv("WANDB_TAGS", "gpu")
    do(lambda: account.init().log({"loss": 1}))
    run = account.run()
    assert (run.group, run.job_type, run.tags) == ("of the worker", "work", ["gpu", "plain"])


def test_a_task_that_defers_finishes_its_run_and_is_prepared_again_when_it_resumes(
    listening: Any, run_task: Callable[..., Any], account: Any
) -> None:
    class Waiting(BaseOperator):
        def execute(self, context: Any) -> None:
            account.init(id="r1").log({"loss": 1})
            self.defer(trigger=DateTimeTrigger(moment=datetime.now(UTC)), method_name="execute_complete")

        def execute_complete(self, context: Any, event: Any = None) -> None:
            account.init(id="r2").log({"loss": 1})

    with DAG("plain", schedule=None):
        task = Waiting(task_id="work")
    assert run_task(task).state == "deferred"
    deferred = account.run()
    assert (deferred.state, deferred.summary["airflow/state"]) == ("finished", "deferred")
    assert run_task(task, resume={"event": None}).state == "success"
    _, resumed = account.runs()
    assert (resumed.id, resumed.config["airflow"]["task_id"]) == ("r2", "work")


def test_a_child_process_opens_its_run_without_the_listener(do: Do, account: Any, supervisor: Any) -> None:
    def in_child() -> None:
        run = account.init(id="child")
        run.log({"loss": 1})
        run.finish()

    def work() -> int:
        child = multiprocessing.get_context("fork").Process(target=in_child)
        child.start()
        child.join(60)
        return int(child.exitcode or 0)

    import wandb

    wandb.teardown()
    finished = do(work)
    assert finished.xcom() == 0
    run = account.run()
    assert (run.group, run.job_type) == ("plain__manual__1", "work")
    assert [msg.key for msg in supervisor.of("SetXCom")] == ["return_value"]


def test_w_and_b_going_away_leaves_the_task_green_with_one_warning(
    do: Do,
    account: Any,
    tmp_path: Path,
    configure: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "6")
    leaving = DevServer(tmp_path / "leaving").start()
    account.server = leaving

    def work() -> str:
        account.init().log({"loss": 1})
        leaving.stop()
        return "done"

    with caplog.at_level(logging.WARNING):
        began = time.monotonic()
        finished = do(work)
        took = time.monotonic() - began
    assert (finished.state, finished.xcom()) == ("success", "done")
    warnings = [record for record in caplog.records if record.name.startswith("wandb_airflow_provider")]
    assert ["auto_instrument could not finish the runs" in record.getMessage() for record in warnings] == [
        True
    ]
    assert took < 20


def test_what_the_pipeline_keeps_from_w_and_b_is_not_added_to_a_run(
    listening: Any, run_task: Callable[..., Any], account: Any
) -> None:
    seen: list[str] = []

    def work() -> None:
        seen.append(os.environ["WANDB_TAGS"])
        account.init().log({"loss": 1})
        raise ValueError("no data of ann@example.com")

    policy = {"values": ["email"], "deny": ["config.airflow.owner"]}
    with DAG("plain", schedule=None), wandb_pipeline(tags=["bob@example.com"], redaction=policy):
        task = PythonOperator(task_id="work", python_callable=work)
    run_task(task)
    run = account.run()
    assert run.summary["airflow/reason"] == "ValueError: no data of [redacted:email]"
    assert sorted(run.tags) == ["[redacted:email]", "plain"]
    assert seen == ["plain,[redacted:email]"]
    assert "owner" not in run.config["airflow"]
    assert run.config["airflow"]["task_id"] == "work"
    # Host, user and command line.
    assert run.metadata is None
    assert "WANDB_X_DISABLE_META" not in os.environ


def test_under_a_policy_that_cannot_be_read_nothing_is_sent(
    listening: Any, run_task: Callable[..., Any], account: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        run = account.init()
        run.log({"loss": 1})
        run.summary["patient"] = "ann"

    policy = {"hash": ["config.patient"], "salt": "variable:nobody_made_it"}
    with DAG("plain", schedule=None), wandb_pipeline(redaction=policy):
        task = PythonOperator(task_id="work", python_callable=work)
    assert run_task(task).state == "success"
    run = account.run()
    assert not {"patient", "loss"} & run.summary.keys()
    assert "its redaction policy cannot be read" in caplog.text
    assert "'variable:nobody_made_it' does not exist" in caplog.text
