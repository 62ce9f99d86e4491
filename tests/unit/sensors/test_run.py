from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.sdk import DAG

from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbNotFoundError,
    WandbRunFailedError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.sensors.run import WandbRunSensor
from wandb_airflow_provider.triggers.run import WandbRunTrigger


@pytest.fixture
def wait(run_task: Callable[..., Any]) -> Callable[..., Any]:
    """``wait(run, ...)`` runs a sensor for a run."""

    def wait(run: Any, *, resume: dict[str, Any] | None = None, **arguments: Any) -> Any:
        with DAG("follow", schedule=None):
            sensor = WandbRunSensor(
                task_id="wait", wandb_run=run, **{"poke_interval": 0.2, "timeout": 30, **arguments}
            )
        return run_task(sensor, resume=resume)

    return wait


@pytest.mark.parametrize("deferrable", [False, True])
def test_how_a_run_ended_is_how_the_sensor_ends(
    hook: WandbHook, log_run: Any, wait: Any, deferrable: bool
) -> None:
    good, bad = log_run({"m": 1})[0], log_run({"m": 1}, exit_code=1)[0]
    finished = wait(good.to_json(), deferrable=deferrable)
    assert finished.state == "success"
    assert finished.xcom() == {**good.to_json(), "state": "finished", "name": finished.xcom()["name"]}
    failed = wait(bad.path, deferrable=deferrable, retries=2)
    assert (failed.state, type(failed.error)) == ("failed", WandbRunFailedError)
    assert wait(bad.path, deferrable=deferrable, outcomes={"failed": "skip"}).state == "skipped"
    assert wait(bad.path, deferrable=deferrable, outcomes={"failed": "succeed"}).xcom()["state"] == "failed"
    forever = wait(bad.path, deferrable=deferrable, outcomes={"failed": "wait"}, timeout=0)
    assert isinstance(forever.error, AirflowSensorTimeout)


def test_a_run_that_does_not_exist_fails_unless_it_is_to_be_waited_for(
    hook: WandbHook, wait: Any, unique: str
) -> None:
    assert isinstance(wait(f"local/{unique}/nobody").error, WandbNotFoundError)
    waited = wait(f"local/{unique}/nobody", missing="wait", timeout=0)
    assert isinstance(waited.error, AirflowSensorTimeout)


_TAKEN_AWAY = """
import sys, wandb
runs = [wandb.init(entity="local", project=sys.argv[1], dir=sys.argv[2], id=name, reinit="create_new")
        for name in ("preempted", "killed")]
try:
    runs[0].mark_preempting()
    wandb.Api().run(runs[1].path).stop()
except KeyboardInterrupt:
    # So wandb tells a script that somebody has pressed the button.
    pass
finally:
    for run in runs:
        run.finish(exit_code=1)
"""


@pytest.fixture
def script(server: Any, hook: WandbHook, unique: str, tmp_path: Path) -> Callable[[str], None]:
    """``script(source)`` runs a user's script, with the project and a folder, until it ends."""

    def run(source: str) -> None:
        login = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": server.api_key, "WANDB_CONSOLE": "off"}
        command = [sys.executable, "-c", source, unique, str(tmp_path)]
        subprocess.run(command, env={**os.environ, **login}, start_new_session=True, check=False)

    return run


@pytest.mark.slow
def test_a_run_that_was_preempted_or_stopped_by_somebody_keeps_no_sensor_waiting(
    script: Callable[[str], None], wait: Any, unique: str
) -> None:
    script(_TAKEN_AWAY)
    for state in ("preempted", "killed"):
        for deferrable in (False, True):
            ended = wait(f"local/{unique}/{state}", deferrable=deferrable)
            assert isinstance(ended.error, WandbRunFailedError)
            assert state in str(ended.error)
        assert wait(f"local/{unique}/{state}", outcomes={state: "skip"}).state == "skipped"


_DIES = """
import os, signal, sys, wandb
run = wandb.init(entity="local", project=sys.argv[1], dir=sys.argv[2], id="dies")
run.log({"m": 1})
os.killpg(0, signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_run_whose_process_is_gone_ends_the_sensor(
    server: Any, script: Callable[[str], None], wait: Any, unique: str, deferrable: bool
) -> None:
    script(_DIES)
    path = f"local/{unique}/dies"
    assert wait(path, deferrable=True).state == "deferred"
    try:
        server.clock.freeze()
        server.clock.advance(400)
        finished = wait(path, deferrable=deferrable)
    finally:
        server.clock.reset()
    assert isinstance(finished.error, WandbRunFailedError)
    assert "crashed" in str(finished.error)


@pytest.mark.slow
@pytest.mark.parametrize("in_the_triggerer", [False, True])
def test_a_run_that_is_at_work_when_it_is_first_looked_at_is_seen_to_end(
    server: Any, script: Callable[[str], None], wait: Any, unique: str, in_the_triggerer: bool
) -> None:
    script(_DIES)
    path = f"local/{unique}/dies"
    server.clock.freeze()
    looks = len(server.requests("Runs"))

    def finish() -> None:
        give_up = time.monotonic() + 120
        while len(server.requests("Runs")) < looks + 2:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        server.clock.advance(400)

    async def answer() -> Any:
        trigger = WandbRunTrigger(wandb_run=path, poll_interval=0.2, end_time=time.time() + 120)
        return [event.payload async for event in trigger.run()]

    ending = threading.Thread(target=finish)
    try:
        ending.start()
        if in_the_triggerer:
            (event,) = asyncio.run(answer())
            assert (event["status"], event["reason"]) == ("failed", "run_crashed")
        else:
            assert isinstance(wait(path, timeout=120).error, WandbRunFailedError)
    finally:
        ending.join(120)
        server.clock.reset()


def test_many_waiters_for_runs_of_a_project_share_one_request(
    server: Any, hook: WandbHook, log_run: Any, unique: str
) -> None:
    done = log_run({"m": 1})[0]
    before = len(server.requests("Runs"))

    async def scenario() -> list[Any]:
        async def ends(wandb_run: str) -> Any:
            trigger = WandbRunTrigger(
                wandb_run=wandb_run, poll_interval=0.3, missing="wait", end_time=time.time() + 60
            )
            return [event.payload async for event in trigger.run()]

        waiting = [asyncio.create_task(ends(f"local/{unique}/later-{number}")) for number in range(200)]
        events = await asyncio.gather(*(ends(done.path) for _ in range(50)))
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        return [event["value"]["state"] for (event,) in events]

    assert asyncio.run(scenario()) == ["finished"] * 50
    assert len(server.requests("Runs")) - before <= 3


@pytest.mark.parametrize("run", ["abc", "a/b", {"entity": "a"}, None])
def test_what_is_no_run_is_refused(hook: WandbHook, server: Any, wait: Any, run: Any) -> None:
    before = len(server.requests())
    assert isinstance(wait(run).error, WandbConfigurationError)
    assert len(server.requests()) == before


def test_outcomes_that_mean_nothing_are_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(WandbConfigurationError):
        WandbRunSensor(task_id="wait", wandb_run="a/b/c", outcomes={"exploded": "fail"})


def test_the_answer_of_the_triggerer_ends_the_sensor(hook: WandbHook, wait: Any) -> None:
    event = {"status": "failed", "reason": "run_killed", "message": "It was killed."}
    assert isinstance(wait("a/b/c", resume={"event": event}).error, WandbRunFailedError)
    event = {"status": "skipped", "reason": "run_killed", "message": "It was killed."}
    assert wait("a/b/c", resume={"event": event}).state == "skipped"
