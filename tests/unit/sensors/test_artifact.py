from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.sdk import DAG

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbInvalidNameError, WandbNotFoundError
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.sensors.artifact import WandbArtifactSensor
from wandb_airflow_provider.triggers.artifact import WandbArtifactTrigger


@pytest.fixture
def wait(run_task: Callable[..., Any]) -> Callable[..., Any]:
    """``wait(...)`` runs a sensor for the artifact ``encoder`` of the connection's project."""

    def wait(*, resume: dict[str, Any] | None = None, **arguments: Any) -> Any:
        with DAG("follow", schedule=None):
            sensor = WandbArtifactSensor(
                task_id="wait", **{"artifact": "encoder", "poke_interval": 0.2, "timeout": 30, **arguments}
            )
        return run_task(sensor, resume=resume)

    return wait


@pytest.mark.slow
@pytest.mark.parametrize("deferrable", [False, True])
def test_the_newest_version_with_all_that_is_asked_is_pushed(
    hook: WandbHook, log_run: Any, wait: Any, deferrable: bool
) -> None:
    versions = [log_run({"m": 1}, content)[1] for content in "abc"]
    hook.update_artifact_metadata(versions[1], {"eval": {"passed": True}})
    newest = wait(deferrable=deferrable).xcom()
    assert ArtifactRef.from_json(newest).path == versions[2].path
    assert (newest["source_run"], newest["previous_version"]) == (versions[2].source_run, "v1")
    passed = wait(deferrable=deferrable, metadata={"eval.passed": True}).xcom()
    assert (passed["version"], passed["previous_digest"]) == ("v1", versions[0].digest)
    assert wait(deferrable=deferrable, alias="latest").xcom()["version"] == "v2"
    late = wait(deferrable=deferrable, metadata={"eval.passed": True}, newer_than="v1", timeout=0)
    assert isinstance(late.error, AirflowSensorTimeout)


def test_an_artifact_that_does_not_exist_is_waited_for_in_the_triggerer(
    hook: WandbHook, log_run: Any, wait: Any, unique: str
) -> None:
    (message,) = wait(deferrable=True).supervisor.of("DeferTask")

    async def answer() -> Any:
        trigger = WandbArtifactTrigger(**{**message.trigger_kwargs, "poll_interval": 0.2})
        running = asyncio.create_task(anext(trigger.run()))
        await asyncio.to_thread(log_run, {"m": 1}, "a")
        return (await running).payload

    finished = wait(deferrable=True, resume={"event": asyncio.run(answer())})
    assert (finished.xcom()["version"], finished.xcom()["project"]) == ("v0", unique)
    assert finished.xcom()["url"].startswith("http")


def test_an_artifact_that_does_not_exist_fails_the_sensor_that_asks_for_it(
    hook: WandbHook, wait: Any
) -> None:
    assert isinstance(wait(missing="fail").error, WandbNotFoundError)


@pytest.mark.parametrize("arguments", [{"artifact": "encoder:latest"}, {"artifact": "a b"}, {"alias": "v3"}])
def test_a_name_that_w_and_b_refuses_fails_before_anything_is_sent(
    server: Any, hook: WandbHook, wait: Any, arguments: dict[str, str]
) -> None:
    before = len(server.requests())
    assert isinstance(wait(**arguments).error, WandbInvalidNameError)
    assert len(server.requests()) == before
