"""Tasks whose process, or whose whole worker, is gone without a word: what W&B has received stays there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.task_worker import TaskWorker, running_worker
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.exceptions import WandbNotFoundError
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef, TaskIdentity

pytestmark = pytest.mark.slow

WORK_FOR_LONG = """
import time
from airflow.sdk import DAG, task
import wandb_airflow_provider

with DAG("lost", schedule=None):

    @task.wandb
    def work(wandb_run):
        for step in range(600):
            wandb_run.log({"step": step})
            time.sleep(0.1)

    work()
"""


@pytest.fixture
def worker(hook: WandbHook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskWorker]:
    """A worker as Airflow's executors have it: one process for itself and its supervisor, one for each task."""
    # wandb sends every 15 seconds otherwise.
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "0.5")
    connection = json.loads(os.environ["AIRFLOW_CONN_WANDB_DEFAULT"])
    connection["extra"] = json.dumps(connection["extra"])
    with running_worker(tmp_path / "worker", {"lost": WORK_FOR_LONG}, connection) as running:
        yield running


@pytest.fixture
def at_work(worker: TaskWorker, hook: WandbHook, unique: str) -> Callable[[], tuple[RunRef, list[int]]]:
    """Start a task; return its run, and the steps that W&B has received, as soon as there are some."""

    def start() -> tuple[RunRef, list[int]]:
        worker.begin("lost", "work", run_id="manual__1")
        ref = RunRef("local", unique, TaskIdentity("lost", "manual__1", "work", -1, 1).wandb_run_id())

        def some_steps() -> list[int] | None:
            try:
                hook.get_run(ref)
            except WandbNotFoundError:
                return None
            received = steps(hook, ref)
            return received if len(received) > 5 else None

        return ref, wait_for("some steps to be received", some_steps, timeout=90)

    return start


def steps(hook: WandbHook, ref: RunRef) -> list[int]:
    return [row["step"] for row in hook.get_conn().run(ref.path).scan_history(keys=["step"])]


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=30)


def still_running(hook: WandbHook, ref: RunRef, received: list[int]) -> None:
    record = hook.get_run(ref)
    assert (record.state, record.summary["airflow/state"]) == ("running", "running")
    kept = steps(hook, ref)
    assert kept == list(range(len(kept)))
    assert len(kept) >= len(received)


def test_a_task_killed_from_outside_keeps_what_was_received_and_leaves_no_helper(
    worker: TaskWorker, at_work: Callable[[], tuple[RunRef, list[int]]], hook: WandbHook
) -> None:
    ref, received = at_work()
    # As the kernel does it when memory runs out.
    (task,) = psutil.Process(worker.pid).children()
    # By the parent alone: children() also compares when both started.
    helpers = [
        process for process in psutil.process_iter(["name", "ppid"]) if process.info["ppid"] == task.pid
    ]
    assert [helper.info["name"] for helper in helpers] == ["wandb-core"]
    kill([task])
    with pytest.raises(RuntimeError, match="ended as failed"):
        worker.end()
    psutil.wait_procs(helpers, timeout=30)
    assert not any(helper.is_running() for helper in helpers)
    still_running(hook, ref, received)


def test_a_lost_worker_leaves_what_was_received(
    worker: TaskWorker, at_work: Callable[[], tuple[RunRef, list[int]]], hook: WandbHook
) -> None:
    ref, received = at_work()
    supervisor = psutil.Process(worker.pid)
    kill([supervisor, *supervisor.children(recursive=True)])
    still_running(hook, ref, received)
