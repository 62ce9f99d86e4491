from __future__ import annotations

import asyncio
import inspect
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.sdk import DAG, BaseOperator
from structlog.testing import capture_logs

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbInvalidNameError,
    WandbNotFoundError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.sensors import waiting
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
    pushed = finished.xcom()
    assert ArtifactRef.from_json(pushed) == linked
    assert (pushed["digest"], pushed["source_run"]) == (version.digest, version.source_run)
    assert (pushed["registry"], pushed["alias"], pushed["previous_version"]) == ("model", "production", None)


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
    assert (kwargs["since"], kwargs["looked"]) == ({"version": None, "digest": None}, True)
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
        ({"status": "failed", "reason": "not_found", "message": "no"}, WandbNotFoundError),
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


@pytest.mark.slow
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


def test_a_move_is_told_from_the_holder_when_the_sensor_began_however_late_the_triggerer_looks(
    hook: WandbHook, version: ArtifactRef, log_run: Any, wait: Any, unique: str
) -> None:
    hook.link_to_registry(version, "model", unique, ["production"])
    (message,) = wait(deferrable=True, until="moved").supervisor.of("DeferTask")
    hook.link_to_registry(log_run({"m": 1}, "b")[1], "model", unique, ["production"])

    async def answer() -> Any:
        trigger = WandbRegistryAliasTrigger(**message.trigger_kwargs)
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(answer())
    pushed = wait(deferrable=True, until="moved", resume={"event": event}).xcom()
    assert (pushed["version"], pushed["previous_version"]) == ("v1", "v0")
    assert pushed["previous_digest"] == version.digest


def test_a_rescheduled_sensor_remembers_who_held_the_alias_when_it_began(
    hook: WandbHook, version: ArtifactRef, log_run: Any, wait: Any, unique: str
) -> None:
    hook.link_to_registry(version, "model", unique, ["production"])
    arguments = {"deferrable": False, "mode": "reschedule", "until": "moved"}
    assert wait(**arguments).state == "up_for_reschedule"
    assert wait(**arguments).state == "up_for_reschedule"
    hook.link_to_registry(log_run({"m": 1}, "b")[1], "model", unique, ["production"])
    finished = wait(**arguments)
    assert finished.state == "success"
    assert (finished.xcom()["version"], finished.xcom()["previous_version"]) == ("v1", "v0")


def test_a_sensor_starts_in_the_triggerer_only_where_nobody_has_to_look_before(unique: str) -> None:
    def made(**arguments: Any) -> WandbRegistryAliasSensor:
        return WandbRegistryAliasSensor(
            task_id="wait",
            registry="model",
            collection=unique,
            alias="{{ params.alias }}",
            deferrable=True,
            timeout=50,
            start_from_trigger=True,
            **arguments,
        )

    sensor = made()
    assert sensor.start_from_trigger
    arguments = sensor.start_trigger_args
    assert arguments.timeout.total_seconds() > 50
    trigger = WandbRegistryAliasTrigger(**arguments.trigger_kwargs)
    assert (trigger.mode, trigger.alias, trigger.looked) == ("wait", "{{ params.alias }}", False)
    assert made(until="moved", since="v3").start_from_trigger
    assert not made(until="moved").start_from_trigger
    with DAG("serve", schedule=None) as dag:
        pushes = BaseOperator(task_id="pushes")
        waits = made(metadata={"digest": [pushes.output]})
    assert not waits.start_from_trigger
    assert dag.task_dict["wait"].upstream_task_ids == {"pushes"}
    assert not WandbRegistryAliasSensor.start_from_trigger


def test_a_sensor_that_starts_in_the_triggerer_is_checked_when_the_dag_is_parsed() -> None:
    with pytest.raises(WandbInvalidNameError):
        WandbRegistryAliasSensor(
            task_id="wait",
            registry="model",
            collection="c",
            alias="v3",
            deferrable=True,
            start_from_trigger=True,
        )


def test_a_sensor_defers_by_airflow_s_own_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    module = runpy.run_path(str(waiting.__file__))
    for sensor, expected in ((module["WandbWaitSensor"], True), (waiting.WandbWaitSensor, False)):
        assert inspect.signature(sensor.__init__).parameters["deferrable"].default is expected


def test_a_collection_that_does_not_exist_fails_the_sensor_that_asks_for_it(
    hook: WandbHook, wait: Any, unique: str
) -> None:
    finished = wait(missing="fail", retries=3)
    assert isinstance(finished.error, WandbNotFoundError)
    assert unique in str(finished.error)


def test_a_sensor_without_a_place_is_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(WandbConfigurationError):
        WandbRegistryAliasSensor(task_id="wait", collection="c", alias="a")
