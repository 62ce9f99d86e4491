"""A task's process as a run: killed, over time, deferred, and without W&B."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseOperator

from wandb_airflow_provider import KubernetesSecret, WandbChildRun, WandbPythonOperator
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbUnavailableError
from wandb_airflow_provider.identity import RunRef, TaskIdentity
from wandb_airflow_provider.spool.store import Spool

SCRIPT = f"{sys.executable} -c \"import wandb; wandb.init().log({{'loss': 1}})\""


class DockerOperator(BaseOperator):
    """The attributes of the Docker provider's operator, which does not defer."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.environment: dict[str, str] = {}
        self._private_environment: dict[str, str] = {}


@pytest.fixture(autouse=True)
def _own_sigterm_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Not within `tmp_path`, which is too long for the sockets of wandb and Airflow.
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield
        monkeypatch.undo()


def task_of(kind: Any, **arguments: Any) -> Any:
    with DAG("processes", schedule=None):
        return kind(task_id="work", **arguments)


def warnings(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


@pytest.fixture
def slow_script(tmp_path: Path) -> tuple[str, Path]:
    """A command that opens its run, says so in a file, and goes on until it is stopped."""
    path, ready = tmp_path / "slow.py", tmp_path / "ready"
    path.write_text(
        "import pathlib, time, wandb\nwandb.init().log({'loss': 1})\n"
        f"pathlib.Path({str(ready)!r}).touch()\ntime.sleep(120)\n"
    )
    return f"exec {sys.executable} {path}", ready


class StoppedBash(BashOperator):
    """Gets SIGTERM once its process is at work, as from Airflow's supervisor."""

    def __init__(self, ready: Path, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ready = ready

    def execute(self, context: Any) -> Any:
        if os.fork() == 0:
            while not self.ready.exists():
                time.sleep(0.05)
            os.kill(os.getppid(), signal.SIGTERM)
            os._exit(0)
        return super().execute(context)


@pytest.mark.slow
def test_a_task_that_is_stopped_ends_its_process_and_its_run_as_killed(
    hook: Any, run_task: Callable[..., Any], slow_script: tuple[str, Path]
) -> None:
    command, ready = slow_script
    finished = run_task(task_of(StoppedBash, bash_command=command, ready=ready, pre_execute=WandbChildRun()))
    os.wait()
    assert finished.state == "up_for_retry"
    record = hook.get_run(RunRef.from_json(finished.xcom("wandb_run")))
    assert (record.state, record.summary["airflow/state"]) == ("failed", "killed")
    assert record.summary["airflow/reason"] == "The task was stopped from outside (SIGTERM)."


class TidyBash(BashOperator):
    """Closes its process when it is stopped, which Airflow's hook leaves to the end of the worker."""

    def on_kill(self) -> None:
        super().on_kill()
        self.subprocess_hook.sub_process.communicate()


def test_a_timeout_is_left_to_the_failure_that_follows(hook: Any, run_task: Callable[..., Any]) -> None:
    task = task_of(
        TidyBash,
        bash_command="sleep 60",
        execution_timeout=timedelta(seconds=0.5),
        pre_execute=WandbChildRun(),
    )
    finished = run_task(task)
    assert type(finished.error).__name__ == "AirflowTaskTimeout"
    record = hook.get_run(RunRef.from_json(finished.xcom("wandb_run")))
    assert "airflow/state" not in record.summary


@pytest.mark.parametrize(
    ("kind", "arguments", "child", "message"),
    [
        (EmptyOperator, {}, {}, "does not know how a EmptyOperator takes environment variables"),
        (
            BashOperator,
            {"bash_command": "true"},
            {"secrets": KubernetesSecret("s")},
            "does not run in Kubernetes",
        ),
        (WandbPythonOperator, {"python_callable": print}, {}, "does not know how a WandbPythonOperator"),
    ],
)
def test_what_cannot_work_is_refused_before_a_run_exists(
    server: Any,
    hook: Any,
    run_task: Callable[..., Any],
    kind: Any,
    arguments: dict[str, Any],
    child: dict[str, Any],
    message: str,
) -> None:
    server.backend.requests.clear()
    finished = run_task(task_of(kind, **arguments, pre_execute=WandbChildRun(**child)))
    assert isinstance(finished.error, WandbConfigurationError)
    assert message in str(finished.error)
    assert server.requests() == []


def test_secrets_that_are_no_reference_are_refused_without_being_shown() -> None:
    with pytest.raises(WandbConfigurationError, match="secrets is a str that is neither") as refused:
        WandbChildRun(secrets="k" * 40)  # type: ignore[arg-type]
    assert "kkk" not in str(refused.value)


@pytest.mark.slow
def test_a_worker_s_own_key_does_not_win_over_the_connection_s(
    server: Any, hook: Any, run_task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    finished = run_task(task_of(BashOperator, bash_command=SCRIPT, pre_execute=WandbChildRun()))
    assert finished.state == "success"
    assert hook.get_run(RunRef.from_json(finished.xcom("wandb_run"))).summary["loss"] == 1
    assert os.environ["WANDB_API_KEY"] == "0" * 40


@pytest.mark.slow
def test_a_retry_that_resumes_goes_on_in_the_same_run(hook: Any, run_task: Callable[..., Any]) -> None:
    refs = []
    for number in (1, 2):
        child = WandbChildRun(wandb_retries="resume", wandb_config={f"try{number}": True})
        finished = run_task(task_of(BashOperator, bash_command=SCRIPT, pre_execute=child), try_number=number)
        refs.append(RunRef.from_json(finished.xcom("wandb_run")))
    assert refs[0] == refs[1]
    record = hook.get_run(refs[0])
    assert (record.state, record.config["try1"], record.config["try2"]) == ("finished", True, True)
    assert [row["loss"] for row in hook.get_conn().run(refs[0].path).scan_history(["loss"])] == [1, 1]


class Away:
    """A connection to a server that is not there."""

    url = "http://127.0.0.1:9"
    api_key = "k" * 40


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fail", "skip", "offline"])
def test_without_w_and_b_the_policy_decides(
    connect: Callable[..., None],
    run_task: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    policy: Any,
) -> None:
    connect(Away, extra={"project": "p", "timeout": 1})
    child = WandbChildRun(on_unavailable=policy, wandb_spool=str(tmp_path / "spool"))
    finished = run_task(task_of(BashOperator, bash_command=SCRIPT, pre_execute=child))

    if policy == "fail":
        assert isinstance(finished.error, WandbUnavailableError)
        return
    assert finished.state == "success"
    if policy == "skip":
        assert "runs without its W&B run" in warnings(caplog)
        assert finished.xcom("wandb_run") is None
        return
    (manifest,) = Spool(str(tmp_path / "spool")).entries()[0]
    assert (manifest.run.wandb_run_id, manifest.state, manifest.exit_code, manifest.history_rows) == (
        TaskIdentity("processes", "manual__1", "work").wandb_run_id(),
        "closed",
        0,
        1,
    )
    stored = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert [path for path in stored if Away.api_key.encode() in path.read_bytes()] == []


class Deferring(DockerOperator):
    """Defers once, as a container that is watched by the triggerer."""

    def execute(self, context: Any) -> None:
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any = None) -> None:
        """Go on."""


def test_a_task_that_deferred_does_not_open_its_run_again(
    server: Any, hook: Any, run_task: Callable[..., Any]
) -> None:
    task = task_of(Deferring, pre_execute=WandbChildRun())
    assert run_task(task).state == "deferred"
    server.backend.requests.clear()
    finished = run_task(task, resume={"event": None})
    assert finished.state == "success"
    created = [
        r for r in server.requests() if "state" in json.dumps(r.variables) and "UpsertBucket" in r.operation
    ]
    assert not [request for request in created if request.variables.get("state") == "running"]
    record = hook.get_run(RunRef.from_json(finished.xcom("wandb_run")))
    assert (record.state, record.summary["airflow/state"]) == ("finished", "success")
