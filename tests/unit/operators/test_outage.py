"""Tasks while W&B cannot be reached, and what a later sync makes of them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from wandb_airflow_provider import WandbPythonOperator, WandbSyncOperator, download_artifact, log_artifact
from wandb_airflow_provider.exceptions import WandbOfflineError
from wandb_airflow_provider.hooks.run_record import RunRecord
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.spool import continued_log, upload
from wandb_airflow_provider.spool.manifest import Manifest
from wandb_airflow_provider.spool.store import Spool


@pytest.fixture(autouse=True)
def _server_is_back(
    server: Any, hook: WandbHook, connect: Callable[..., None], unique: str
) -> Iterator[None]:
    connect(server, extra={"project": unique, "timeout": 2})
    yield
    server.come_back()


@pytest.fixture
def spool(tmp_path: Path) -> str:
    return str(tmp_path / "spool")


def entries(spool: str) -> list[Manifest]:
    found, broken = Spool(spool).entries()
    assert broken == []
    return found


def work(wandb_run: Any, rows: int = 5, end: BaseException | None = None) -> str:
    for step in range(rows):
        wandb_run.log({"metric": step})
    wandb_run.summary["best"] = rows
    if end is not None:
        raise end
    return "done"


@pytest.fixture
def run(run_task: Callable[..., Any], spool: str) -> Callable[..., Any]:
    def run(
        function: Callable[..., Any], policy: str = "offline", *, try_number: int = 1, **arguments: Any
    ) -> Any:
        with DAG("outage", schedule=None):
            operator = WandbPythonOperator(
                task_id="work",
                python_callable=function,
                on_unavailable=policy,  # type: ignore[arg-type]
                wandb_spool=spool if policy == "offline" else None,
                **arguments,
            )
        return run_task(operator, try_number=try_number)

    return run


@pytest.fixture
def sync(run_task: Callable[..., Any], spool: str) -> Callable[..., Any]:
    def sync(**arguments: Any) -> Any:
        with DAG("maintenance", schedule=None):
            operator = WandbSyncOperator(task_id="sync", **{"spool": spool, **arguments})
        return run_task(operator)

    return sync


@pytest.fixture
def read(hook: WandbHook) -> Callable[[Any], tuple[RunRecord, list[Any]]]:
    def read(task: Any) -> tuple[RunRecord, list[Any]]:
        ref = RunRef.from_json(task.xcom("wandb_run"))
        record = hook.get_run(ref)
        return record, [row["metric"] for row in hook.get_conn().run(ref.path).scan_history(["metric"])]

    return read


def test_without_a_policy_an_outage_fails_the_task(server: Any, run: Callable[..., Any]) -> None:
    with server.away():
        task = run(work, "fail")
    assert task.state == "up_for_retry"
    assert "A retry can help" in str(task.error)


@pytest.mark.slow
def test_a_skipped_run_leaves_the_user_s_code_alone(
    server: Any, run: Callable[..., Any], caplog: pytest.LogCaptureFixture, unique: str
) -> None:
    def uses(wandb_run: Any) -> str:
        with pytest.raises(WandbOfflineError, match=r"wandb_run\.use_artifact\(\) needs W&B"):
            wandb_run.use_artifact("encoder:latest")
        return work(wandb_run)

    with caplog.at_level(logging.WARNING), server.away():
        task = run(uses, "skip")
    assert (task.state, task.xcom()) == ("success", "done")
    assert task.xcom("wandb_run") is None
    warnings = [
        record.getMessage() for record in caplog.records if "on_unavailable='skip'" in record.getMessage()
    ]
    assert len(warnings) == 1
    assert server.runs(unique) == []


@pytest.mark.slow
def test_an_offline_run_is_complete_after_sync_and_syncing_again_adds_nothing(
    server: Any,
    run: Callable[..., Any],
    sync: Callable[..., Any],
    read: Callable[..., Any],
    spool: str,
    tmp_path: Path,
    unique: str,
) -> None:
    (tmp_path / "weights.txt").write_text("heavy")

    def trains(wandb_run: Any) -> Any:
        import wandb

        work(wandb_run, 100)
        wandb_run.log({"table": wandb.Table(columns=["a"], data=[[1]])})
        artifact = wandb.Artifact("encoder", type="model")
        artifact.add_file(str(tmp_path / "weights.txt"))
        wandb_run.log_artifact(artifact)
        return log_artifact(wandb_run, "corpus", type="dataset", paths=tmp_path / "weights.txt").to_json()

    with server.away():
        task = run(trains, tags=["nightly"], wandb_config={"lr": 0.1})
    # Artifacts' files are in the spool: neither the worker's folders nor the original are needed.
    (tmp_path / "weights.txt").unlink()
    assert task.state == "success"
    assert (task.xcom("wandb_run")["offline"], task.xcom("wandb_run_url")) == (True, None)
    assert task.xcom()["version"] == "pending"
    (waiting,) = entries(spool)
    assert (waiting.state, waiting.exit_code, waiting.history_rows) == ("closed", 0, 101)
    assert waiting.task["task_id"] == "work"
    assert set(waiting.artifacts) >= {"model/encoder", "dataset/corpus"}
    files = [path for path in Path(spool).rglob("*") if path.is_file()]
    assert [path for path in files if server.api_key.encode() in path.read_bytes()] == []

    before = settings_of_wandb()
    copy = shutil.copytree(spool, tmp_path / "copy")
    synced(sync(keep=True))
    assert settings_of_wandb() == before
    record, metrics = read(task)
    assert (record.state, record.summary["airflow/state"], record.summary["best"]) == (
        "finished",
        "success",
        100,
    )
    assert metrics == list(range(100))
    assert (record.group, record.job_type, record.config["lr"]) == ("outage__manual__1", "work", 0.1)
    assert "nightly" in record.tags
    logged = {a.name for a in WandbHook().get_conn().run(record.ref.path).logged_artifacts()}
    assert {"encoder:v0", "corpus:v0"} <= logged

    # As if the sync had been killed between the upload and its end, and on a machine that knows nothing of it.
    again = entries(spool)[0]._replace(state="closed")
    Spool(spool).write(again)
    for note in Path(spool).rglob("*.sync*"):
        note.unlink()
    assert synced(sync())["synced"] == [record.ref.path]
    assert read(task)[1] == list(range(100))
    assert entries(spool) == []
    assert synced(sync()) == {"synced": [], "failed": {}, "waiting": []}
    # A copy of the spool that knows nothing of all this, such as one from a backup.
    assert synced(sync(spool=str(copy)))["synced"] == [record.ref.path]
    assert read(task)[1] == list(range(100))
    assert entries(str(copy)) == []
    assert len(server.runs(unique)) == 1


@pytest.mark.slow
def test_an_upload_that_broke_off_is_repeated_without_doubling_rows(
    server: Any,
    run: Callable[..., Any],
    sync: Callable[..., Any],
    read: Callable[..., Any],
    spool: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload, "_SETTLE_SECONDS", 0.0)
    with server.away():
        task = run(work, op_kwargs={"rows": 50, "end": ValueError("no data")})
    assert task.state == "up_for_retry"
    # The run's end never arrives: W&B has its rows, and not its exit code.
    server.faults.fail(400, path="*file_stream", times=None)
    failed = sync(upload_timeout=20)
    assert failed.state == "up_for_retry"
    assert entries(spool)[0].entry in str(failed.error)
    server.faults.clear()
    synced(sync())
    record, metrics = read(task)
    assert (record.state, record.summary["airflow/reason"]) == ("failed", "ValueError: no data")
    assert metrics == list(range(50))


def test_an_outage_that_begins_in_the_middle_loses_nothing(
    server: Any,
    run: Callable[..., Any],
    sync: Callable[..., Any],
    read: Callable[..., Any],
    spool: str,
    connect: Callable[..., None],
    unique: str,
) -> None:
    connect(server, extra={"project": unique, "timeout": 0.5})

    def overtaken(wandb_run: Any) -> str:
        work(wandb_run, 20)
        server.go_away()
        return work(wandb_run, 30)

    task = run(overtaken)
    assert (task.state, task.xcom()) == ("success", "done")
    server.come_back()
    (waiting,) = entries(spool)
    assert (waiting.mode, waiting.history_rows, waiting.exit_code) == ("online", 50, 0)
    connect(server, extra={"project": unique, "timeout": 10})
    synced(sync())
    record, metrics = read(task)
    assert (record.state, metrics) == ("finished", [*range(20), *range(30)])


@pytest.mark.slow
@pytest.mark.parametrize("steps_by", ["wandb", "the package"])
def test_a_task_that_resumes_its_run_offline_continues_the_history(
    server: Any,
    run: Callable[..., Any],
    sync: Callable[..., Any],
    read: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    steps_by: str,
) -> None:
    if steps_by == "the package":
        # As with an older wandb, which repeats the steps.
        monkeypatch.setattr(continued_log, "COUNTS_ON", (99, 0))
    run(work, wandb_retries="resume", op_kwargs={"end": ValueError("no")})
    with server.away():
        run(work, wandb_retries="resume", try_number=2, op_kwargs={"end": ValueError("no")})
        task = run(work, wandb_retries="resume", try_number=3)
    synced(sync())
    record, metrics = read(task)
    assert (record.state, metrics) == ("finished", [*range(5)] * 3)
    assert record.summary["_step"] == 14


@pytest.mark.slow
def test_a_killed_offline_task_is_synced_as_killed(
    server: Any, run: Callable[..., Any], sync: Callable[..., Any], read: Callable[..., Any], spool: str
) -> None:
    def stopped(wandb_run: Any) -> None:
        work(wandb_run)
        os.kill(os.getpid(), signal.SIGTERM)

    with server.away():
        task = run(stopped)
    assert entries(spool)[0].exit_code == 143
    synced(sync())
    record, metrics = read(task)
    assert record.state != "finished"
    assert (record.summary["airflow/state"], metrics) == ("killed", [*range(5)])


@pytest.mark.slow
def test_an_offline_task_that_is_killed_after_it_finished_its_run_is_synced(
    server: Any, run: Callable[..., Any], sync: Callable[..., Any], read: Callable[..., Any], spool: str
) -> None:
    def stopped(wandb_run: Any) -> None:
        work(wandb_run)
        wandb_run.finish()
        os.kill(os.getpid(), signal.SIGTERM)

    with server.away():
        task = run(stopped)
    assert entries(spool)[0].state == "closed"
    synced(sync())
    assert read(task)[1] == [*range(5)]


@pytest.mark.slow
def test_what_needs_w_and_b_says_so_in_an_offline_run(server: Any, run: Callable[..., Any]) -> None:
    messages: list[str] = []

    def reads(wandb_run: Any) -> None:
        for call in (
            lambda: wandb_run.use_artifact("encoder:latest"),
            lambda: wandb_run.link_artifact(None, "a/b"),
            lambda: download_artifact(wandb_run, "encoder:latest", "nowhere"),
        ):
            with pytest.raises(WandbOfflineError) as caught:
                call()
            messages.append(str(caught.value))

    with server.away():
        assert run(reads).state == "success"
    assert all("once W&B is back" in message for message in messages)


def test_a_wrong_key_stays_an_error(
    server: Any, run: Callable[..., Any], connect: Callable[..., None], unique: str, spool: str
) -> None:
    connect(server, password="wrong-key-" * 4, extra={"project": unique, "timeout": 2})
    task = run(work)
    assert task.state == "failed"
    assert type(task.error).__name__ == "WandbAuthenticationError"
    assert entries(spool) == []


def test_a_policy_that_could_not_be_followed_is_refused_before_the_outage(
    server: Any, run: Callable[..., Any], connect: Callable[..., None], unique: str
) -> None:
    value = {
        "conn_type": "wandb",
        "host": server.url,
        "password": server.api_key,
        "extra": {"project": unique},
    }
    os.environ["AIRFLOW_CONN_WANDB_DEFAULT"] = json.dumps(value)
    task = run(work)
    assert task.state == "failed"
    assert "needs an entity that is known without W&B" in str(task.error)


@pytest.mark.slow
def test_a_damaged_entry_is_kept_and_named(
    server: Any, run: Callable[..., Any], sync: Callable[..., Any], spool: str
) -> None:
    with server.away():
        run(work)
    (waiting,) = entries(spool)
    next(Path(spool).rglob("*.wandb")).write_bytes(b"nothing")
    (Path(spool) / "stray").mkdir()
    failed = sync()
    assert failed.state == "up_for_retry"
    assert "is not what was stored" in str(failed.error)
    assert "'stray'" in str(failed.error)
    assert entries_named(spool) == {waiting.entry, "stray"}


@pytest.mark.slow
def test_an_entry_that_upsets_the_sync_keeps_no_other(
    server: Any,
    run: Callable[..., Any],
    sync: Callable[..., Any],
    spool: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with server.away():
        run(work)
        run(work, try_number=2)
    upset, _ = (each.entry for each in entries(spool))
    fetch = Spool.fetch

    def damaged(self: Spool, manifest: Manifest, folder: Path) -> Path:
        if manifest.entry == upset:
            raise KeyError("a part of the log")
        return fetch(self, manifest, folder)

    monkeypatch.setattr(Spool, "fetch", damaged)
    failed = sync()
    assert "KeyError: 'a part of the log'" in str(failed.error)
    assert entries_named(spool) == {upset}


def settings_of_wandb() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}


def synced(task: Any) -> Any:
    assert task.state == "success", task.error
    return task.xcom()


def entries_named(spool: str) -> set[str]:
    return {path.name for path in Path(spool).iterdir()}
