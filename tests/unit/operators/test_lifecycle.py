"""Every way in which a task can end, and what its W&B run says afterwards."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, AirflowTaskTimeout
from airflow.sdk import DAG

from wandb_airflow_provider import WandbPythonOperator, sdk
from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.hooks.run_record import RunRecord
from wandb_airflow_provider.hooks.runs import RunSession
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef, TaskIdentity
from wandb_airflow_provider.installed import installed_packages


@dataclass
class Ended:
    """How a task ended, and the run that it left in W&B."""

    task: Any
    record: RunRecord
    exit_code: int | None
    history: list[dict[str, Any]]

    @property
    def said(self) -> tuple[Any, Any]:
        return self.record.summary.get("airflow/state"), self.record.summary.get("airflow/reason")


@pytest.fixture
def run(server: Any, hook: WandbHook, run_task: Callable[..., Any]) -> Callable[..., Ended]:
    """``run(function, ...)`` runs a function as a task to its end, and reads its run back."""

    def run(function: Callable[..., Any], *, try_number: int = 1, **arguments: Any) -> Ended:
        with DAG("lifecycle", schedule=None):
            operator = WandbPythonOperator(task_id="work", python_callable=function, **arguments)
        task = run_task(operator, try_number=try_number)
        ref = RunRef.from_json(task.xcom("wandb_run"))
        with server.backend.store.read() as rows:
            (exit_code,) = rows.execute(
                "SELECT exit_code FROM runs WHERE name = ? AND project = ?", (ref.wandb_run_id, ref.project)
            ).fetchone()
        record = hook.get_run(ref)
        history = list(hook.get_conn().run(ref.path).scan_history(["metric"]))
        return Ended(task, record, exit_code, history)

    return run


def helper_processes() -> list[str]:
    return [child.name() for child in psutil.Process().children(recursive=True) if "wandb" in child.name()]


def work(wandb_run: Any, end: BaseException | None = None) -> str:
    for step in range(5):
        wandb_run.log({"metric": step})
    if end is not None:
        raise end
    return "done"


def test_success_is_finished_with_exit_code_0(run: Callable[..., Ended]) -> None:
    ended = run(work)
    assert (ended.task.state, ended.task.xcom()) == ("success", "done")
    assert (ended.record.state, ended.exit_code, ended.said) == ("finished", 0, ("success", None))
    assert [row["metric"] for row in ended.history] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("kind", "state"), [(ValueError, "up_for_retry"), (AirflowFailException, "failed")])
def test_an_exception_is_failed_with_exit_code_1_and_its_reason(
    run: Callable[..., Ended], kind: type[Exception], state: str
) -> None:
    ended = run(work, op_kwargs={"end": kind("no data")})
    assert ended.task.state == state
    assert (ended.record.state, ended.exit_code) == ("failed", 1)
    assert ended.said == ("failed", f"{kind.__name__}: no data")
    assert len(ended.history) == 5


def test_sys_exit_is_failed(run: Callable[..., Ended]) -> None:
    ended = run(work, op_kwargs={"end": SystemExit(3)})
    assert (ended.task.state, ended.record.state, ended.exit_code) == ("up_for_retry", "failed", 1)


def test_a_skip_is_finished_and_says_that_it_skipped(run: Callable[..., Ended]) -> None:
    ended = run(work, op_kwargs={"end": AirflowSkipException("nothing new")})
    assert ended.task.state == "skipped"
    assert (ended.record.state, ended.exit_code, ended.said) == ("finished", 0, ("skipped", None))


def test_a_timeout_is_no_success_and_keeps_what_was_logged(run: Callable[..., Ended]) -> None:
    def slow(wandb_run: Any) -> None:
        work(wandb_run)
        # Winds Airflow's timer forward: its time is nearly over, however long the run took to open.
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        signal.pause()

    ended = run(slow, execution_timeout=timedelta(minutes=5))
    assert type(ended.task.error).__name__ == "AirflowTaskTimeout"
    assert (ended.record.state, ended.exit_code, ended.said[0]) == ("failed", 1, "failed")
    assert ended.said[1].startswith("AirflowTaskTimeout: ")
    assert len(ended.history) == 5


def test_sigterm_finishes_the_run_as_killed_while_the_task_still_works(
    run: Callable[..., Ended], hook: WandbHook
) -> None:
    during: list[float] = []

    def stopped(wandb_run: Any) -> None:
        work(wandb_run)
        began = time.monotonic()
        # Airflow's handler runs here, and the task goes on: nothing interrupts it.
        os.kill(os.getpid(), signal.SIGTERM)
        during.append(time.monotonic() - began)

    ended = run(stopped)
    assert during[0] < 4, "Airflow sends SIGKILL after 5 seconds"
    assert ended.exit_code == 143
    assert ended.record.state == "preempted"
    assert ended.said == ("killed", "The task was stopped from outside (SIGTERM).")
    assert len(ended.history) == 5


def test_sigterm_while_the_run_is_being_opened_ends_it_as_killed(
    run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_in_wandb, worked = sdk.init_run, []

    def stopped_meanwhile(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return open_in_wandb(*arguments)

    monkeypatch.setattr(sdk, "init_run", stopped_meanwhile)
    ended = run(lambda wandb_run: worked.append(wandb_run))
    assert (ended.record.state, ended.exit_code) == ("preempted", 143)
    assert ended.said == ("killed", "The task was stopped from outside (SIGTERM).")
    assert "was stopped (SIGTERM) while its W&B run was being opened" in str(ended.task.error)
    assert worked == []


def test_sigterm_after_user_code_has_finished_the_run_ends_wandb_too(
    run: Callable[..., Ended], caplog: pytest.LogCaptureFixture
) -> None:
    def stopped(wandb_run: Any) -> None:
        work(wandb_run)
        wandb_run.finish()
        os.kill(os.getpid(), signal.SIGTERM)

    ended = run(stopped)
    assert (ended.record.state, ended.exit_code, len(ended.history)) == ("finished", 0, 5)
    assert "could not be finished" not in caplog.text


def test_user_code_that_finishes_the_run_itself_is_left_in_peace(run: Callable[..., Ended]) -> None:
    def finishing(wandb_run: Any) -> None:
        work(wandb_run)
        wandb_run.finish()

    ended = run(finishing)
    assert (ended.task.state, ended.record.state, ended.exit_code) == ("success", "finished", 0)
    assert len(ended.history) == 5


def test_user_code_that_finishes_the_run_and_then_fails_fails(run: Callable[..., Ended]) -> None:
    def finishing(wandb_run: Any) -> None:
        wandb_run.log({"metric": 0})
        wandb_run.finish()
        raise ValueError("after the end")

    ended = run(finishing)
    assert (ended.task.state, str(ended.task.error)) == ("up_for_retry", "after the end")


def test_a_run_that_user_code_opens_besides_is_another_one(run: Callable[..., Ended], server: Any) -> None:
    def two(wandb_run: Any) -> str:
        import wandb

        settings = wandb.Settings(base_url=server.url, api_key=server.api_key, silent=True, console="off")
        with wandb.init(
            entity="local", project=wandb_run.project, settings=settings, reinit="create_new"
        ) as other:
            other.log({"metric": 99})
        work(wandb_run)
        return str(other.id)

    ended = run(two)
    assert ended.task.xcom() != ended.record.ref.wandb_run_id
    assert [row["metric"] for row in ended.history] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("end", [None, ValueError("no"), AirflowSkipException("no")])
def test_no_process_of_wandb_outlives_the_task(
    hook: WandbHook, run_task: Callable[..., Any], end: BaseException | None
) -> None:
    with DAG("lifecycle", schedule=None):
        operator = WandbPythonOperator(task_id="work", python_callable=work, op_kwargs={"end": end})
    seen: list[str] = []
    operator.python_callable = lambda wandb_run, end: (seen.extend(helper_processes()), work(wandb_run, end))[
        1
    ]
    run_task(operator)
    assert seen, "the helper process was looked for under the wrong name"
    assert helper_processes() == []


def test_no_process_of_wandb_outlives_a_run_that_could_not_be_opened(
    server: Any, connect: Callable[..., None], run_task: Callable[..., Any], unique: str
) -> None:
    connect(server, password="0" * 40, extra={"project": unique})
    with DAG("lifecycle", schedule=None):
        operator = WandbPythonOperator(task_id="work", python_callable=work)
    finished = run_task(operator)
    assert (finished.state, type(finished.error).__name__) == ("failed", "WandbAuthenticationError")
    assert helper_processes() == []


def test_a_run_that_cannot_be_finished_leaves_the_user_s_work_green_and_names_the_folder(
    hook: WandbHook, run_task: Callable[..., Any], unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    def failing_finish(wandb_run: Any) -> str:
        finish = wandb_run.finish

        def fails(**arguments: Any) -> None:
            finish(**arguments)
            raise TimeoutError("W&B went away")

        wandb_run.finish = fails
        return "done"

    with DAG("lifecycle", schedule=None):
        operator = WandbPythonOperator(task_id="work", python_callable=failing_finish)
    with caplog.at_level(logging.ERROR):
        finished = run_task(operator)
    assert (finished.state, finished.xcom()) == ("success", "done")
    (line,) = [record.getMessage() for record in caplog.records if "could not be finished" in record.message]
    assert "W&B went away" in line
    folder = Path(line.partition("What was not sent is in ")[2].partition(";")[0])
    assert folder.is_dir()


def test_w_and_b_going_away_ends_the_task_in_time_and_keeps_what_was_not_sent(
    connect: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leaving = DevServer(tmp_path / "leaving").start()
    connect(leaving)
    spec = sdk.RunSpec("r1", "r1", "g", "t", entity="local", project="p", finish_timeout=1.0)
    assert sdk.RunSpec("r1", "r1", "g", "t").finish_timeout == 600, "without a bound it waits for ever"
    with caplog.at_level(logging.ERROR), WandbHook().open_run(spec) as session:
        session.run.log({"metric": 1})
        leaving.stop()
        began = time.monotonic()
    assert time.monotonic() - began < 15
    (line,) = [record.getMessage() for record in caplog.records if "could not be finished" in record.message]
    folder = Path(line.partition("What was not sent is in ")[2].partition(";")[0])
    assert list(folder.rglob("*.wandb"))
    assert helper_processes() == []


def test_a_timeout_while_the_run_is_being_opened_leaves_no_success_behind(
    hook: WandbHook, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_in_wandb = sdk.init_run

    def interrupted(*arguments: Any) -> None:
        open_in_wandb(*arguments)
        raise AirflowTaskTimeout("over time")

    monkeypatch.setattr(sdk, "init_run", interrupted)
    spec = sdk.RunSpec("r1", "r1", "g", "t", entity="local", project=unique)

    with pytest.raises(AirflowTaskTimeout), hook.open_run(spec):
        pass

    assert hook.get_run(RunRef("local", unique, "r1")).state == "failed"


def test_the_folder_of_a_run_that_was_sent_is_removed(hook: WandbHook, unique: str) -> None:
    spec = sdk.RunSpec("r1", "r1", "g", "t", entity="local", project=unique)
    with hook.open_run(spec) as session:
        folder = Path(session.run.dir)
        assert folder.is_dir()
    assert not folder.exists()


def test_a_session_that_is_not_open_says_so(hook: WandbHook) -> None:
    session = RunSession(hook.connection, sdk.RunSpec("r1", "r1", "g", "t"))
    with pytest.raises(RuntimeError, match="'r1' is not open"):
        _ = session.run
    session.kill()


def test_closing_again_changes_nothing(hook: WandbHook, unique: str) -> None:
    spec = sdk.RunSpec("r1", "r1", "g", "t", entity="local", project=unique)
    with hook.open_run(spec) as session:
        session.close(1, "failed", reason="first")
    session.kill()
    record = hook.get_run(RunRef("local", unique, "r1"))
    assert (record.state, record.summary["airflow/reason"]) == ("failed", "first")


def test_a_retry_with_new_is_another_run_that_names_the_one_before(run: Callable[..., Ended]) -> None:
    first = run(work, op_kwargs={"end": ValueError("no")})
    second = run(work, try_number=2)
    assert first.record.config["airflow"]["retry_of"] is None
    assert second.record.config["airflow"]["retry_of"] == first.record.ref.path
    assert (first.record.name, second.record.name) == ("work", "work · try 2")
    assert first.record.ref.path != second.record.ref.path
    assert len(second.history) == 5


def test_a_retry_with_resume_continues_the_same_run(run: Callable[..., Ended]) -> None:
    first = run(work, wandb_retries="resume", op_kwargs={"end": ValueError("no")})
    second = run(work, wandb_retries="resume", try_number=2)
    assert second.record.ref == first.record.ref
    assert (first.record.state, second.record.state) == ("failed", "finished")
    assert [row["metric"] for row in second.history] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert second.record.config["airflow"]["retry_of"] is None
    assert second.said[0] == "success"


def test_the_run_s_id_is_the_one_that_every_other_task_can_compute(run: Callable[..., Ended]) -> None:
    ended = run(work)
    assert ended.record.ref.wandb_run_id == TaskIdentity("lifecycle", "manual__1", "work").wandb_run_id()


def test_the_run_is_announced_before_the_work_begins(run: Callable[..., Ended], supervisor: Any) -> None:
    def look(wandb_run: Any) -> list[str]:
        return sorted(key for task, key, _ in supervisor.xcoms if task == "work")

    assert run(look).task.xcom() == ["wandb_run", "wandb_run_url"]


def test_a_wrong_retry_policy_is_found_when_the_dag_is_parsed() -> None:
    with (
        DAG("lifecycle", schedule=None),
        pytest.raises(WandbConfigurationError, match="wandb_retries is 'again'; expected 'new' or 'resume'"),
    ):
        WandbPythonOperator(task_id="work", python_callable=work, wandb_retries="again")  # type: ignore[arg-type]


def test_config_may_not_take_the_place_of_the_provenance(
    server: Any, hook: WandbHook, run_task: Callable[..., Any]
) -> None:
    with DAG("lifecycle", schedule=None):
        operator = WandbPythonOperator(task_id="work", python_callable=work, wandb_config={"airflow": 1})
    server.backend.requests.clear()
    finished = run_task(operator)
    assert isinstance(finished.error, WandbConfigurationError)
    assert "'airflow' is taken by the run's provenance" in str(finished.error)
    assert server.requests() == []


def test_no_process_of_wandb_outlives_a_task_that_is_refused_while_wandb_starts(
    hook: WandbHook, run_task: Callable[..., Any]
) -> None:
    sdk.release()
    with DAG("lifecycle", schedule=None):
        operator = WandbPythonOperator(task_id="work", python_callable=work, wandb_config={"airflow": 1})
    assert isinstance(run_task(operator).error, WandbConfigurationError)
    assert helper_processes() == []
    assert gc.isenabled(), "paused for imports only"


def test_the_installed_packages_are_kept_with_the_run(
    run: Callable[..., Ended], hook: WandbHook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests leave it out of every other run.
    monkeypatch.delenv("WANDB_X_SAVE_REQUIREMENTS", raising=False)
    sdk.release()
    ended = run(work)
    kept = hook.get_conn().run(ended.record.ref.path).file("requirements.txt")
    with kept.download(root=str(tmp_path)) as file:
        assert file.read().split() == installed_packages()


def test_the_key_is_nowhere_but_in_the_connection(
    server: Any, run: Callable[..., Ended], supervisor: Any, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    # Other tests write the key on purpose, to see what becomes of it.
    server.reset()
    before = dict(os.environ)
    seen: dict[str, str] = {}

    def look(wandb_run: Any) -> None:
        work(wandb_run)
        seen.update(os.environ)
        raise ValueError("look at me")

    with caplog.at_level(logging.DEBUG):
        run(look, wandb_config={"lr": 0.1})
    changed = {name: value for name, value in seen.items() if before.get(name) != value}
    captured = capfd.readouterr()
    key = server.api_key
    assert key not in str(changed)
    # Airflow tells its supervisor what to mask.
    told = [message for message in supervisor.sent if type(message).__name__ != "MaskSecret"]
    assert key not in f"{told!r} {supervisor.xcoms!r}"
    assert key not in caplog.text + captured.out + captured.err
    stored = [path for path in server.data_dir.rglob("*") if path.is_file()]
    assert stored
    assert [path for path in stored if key.encode() in path.read_bytes()] == []
    assert [request for request in server.requests() if key in repr(request.variables)] == []
    netrc = Path.home() / ".netrc"
    assert not netrc.exists() or key not in netrc.read_text()
