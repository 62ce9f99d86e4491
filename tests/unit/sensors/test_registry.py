from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.sdk import DAG
from structlog.testing import capture_logs

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbInvalidNameError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.sensors.registry import WandbRegistryAliasSensor
from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger


@pytest.fixture
def wait(run_task: Callable[..., Any], unique: str) -> Callable[..., Any]:
    """``wait(...)`` runs a sensor on ``production`` in a collection of the test's own."""

    def wait(*, resume: dict[str, Any] | None = None, **arguments: Any) -> Any:
        names = {"registry": "model", "collection": unique, "alias": "production"}
        with DAG("serve", schedule=None):
            sensor = WandbRegistryAliasSensor(
                task_id="wait", **{**names, "poke_interval": 0.2, "timeout": 30, **arguments}
            )
        return run_task(sensor, resume=resume)

    return wait


@pytest.fixture
def version(log_run: Callable[..., Any]) -> ArtifactRef:
    return log_run({"m": 1}, "a")[1]


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_held_alias_ends_the_sensor_at_once_with_the_version(
    hook: WandbHook, version: ArtifactRef, wait: Any, unique: str, deferrable: bool
) -> None:
    linked = hook.link_to_registry(version, "model", unique, ["production"])
    finished = wait(deferrable=deferrable)
    assert (finished.state, finished.error) == ("success", None)
    assert ArtifactRef.from_json(finished.xcom()).path == linked.path
    assert finished.xcom()["digest"] == version.digest


def test_a_deferrable_sensor_waits_in_the_triggerer_and_takes_its_answer(
    hook: WandbHook, version: ArtifactRef, wait: Any, unique: str
) -> None:
    began = time.time()
    deferred = wait(deferrable=True, timeout=50, digest=version.digest)
    assert deferred.state == "deferred"
    (message,) = deferred.supervisor.of("DeferTask")
    assert message.classpath == "wandb_airflow_provider.triggers.registry.WandbRegistryAliasTrigger"
    kwargs = message.trigger_kwargs
    assert began + 50 <= kwargs["end_time"] <= time.time() + 50
    assert message.trigger_timeout.total_seconds() > 50
    hook.link_to_registry(version, "model", unique, ["production"])

    async def answer() -> Any:
        trigger = WandbRegistryAliasTrigger(**kwargs)
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(answer())
    finished = wait(deferrable=True, digest=version.digest, resume={"event": event})
    assert finished.state == "success"
    assert finished.xcom()["digest"] == version.digest


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"status": "timed_out", "reason": "timeout", "message": "late"}, AirflowSensorTimeout),
        ({"status": "failed", "reason": "authentication", "message": "no"}, WandbAuthenticationError),
        ({"status": "failed", "reason": "configuration", "message": "no"}, WandbConfigurationError),
        ({"status": "done", "reason": "alias_found"}, WandbConfigurationError),
        ({"nonsense": 1}, WandbConfigurationError),
        (None, WandbConfigurationError),
    ],
)
def test_the_trigger_s_answer_is_checked(
    hook: WandbHook, wait: Any, event: Any, error: type[Exception]
) -> None:
    finished = wait(deferrable=True, resume={"event": event})
    assert finished.state == "failed"
    assert isinstance(finished.error, error)


def test_soft_fail_skips_in_both_modes(hook: WandbHook, wait: Any) -> None:
    assert wait(deferrable=False, timeout=0, soft_fail=True).state == "skipped"
    assert wait(deferrable=True, timeout=0, soft_fail=True).state == "skipped"
    event = {"status": "failed", "reason": "permission", "message": "no"}
    assert wait(deferrable=True, soft_fail=True, resume={"event": event}).state == "skipped"


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_total_timeout_fails_the_sensor(hook: WandbHook, wait: Any, deferrable: bool) -> None:
    finished = wait(deferrable=deferrable, timeout=0)
    assert isinstance(finished.error, AirflowSensorTimeout)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_key_that_w_and_b_refuses_fails_at_once(
    server: Any, connect: Any, wait: Any, deferrable: bool
) -> None:
    connect(server, "revoked", password="0" * 40)
    finished = wait(deferrable=deferrable, wandb_conn_id="revoked", retries=2)
    assert finished.state == "failed"
    assert isinstance(finished.error, WandbAuthenticationError)


def test_a_name_that_w_and_b_refuses_fails_before_anything_is_sent(
    server: Any, hook: WandbHook, wait: Any
) -> None:
    before = len(server.requests())
    finished = wait(alias="{{ 'v3' }}")
    assert isinstance(finished.error, WandbInvalidNameError)
    assert len(server.requests()) == before


def test_an_outage_is_waited_out_in_this_process_with_one_warning(
    connect: Any, wait: Any, tmp_path: Path
) -> None:
    from wandb_airflow_provider.devserver import DevServer

    server = DevServer(tmp_path / "server")
    with server:
        connect(server, extra={"timeout": 1})
    with capture_logs() as lines:
        finished = wait(deferrable=False, timeout=4)
    assert isinstance(finished.error, AirflowSensorTimeout)
    assert len([line for line in lines if "cannot be read" in line["event"]]) == 1
