from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbInvalidNameError,
    WandbUnavailableError,
)
from wandb_airflow_provider.hooks import watched
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.triggers.artifact import WandbArtifactTrigger
from wandb_airflow_provider.triggers.reader import WandbReader
from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger
from wandb_airflow_provider.triggers.run import WandbRunTrigger
from wandb_airflow_provider.triggers.shared_poll import SharedPollTrigger

INTERVAL = 0.2
PATIENCE = 180.0


def test_waiting_ends_with_one_event_once_the_alias_is_held(
    hook: WandbHook, versions: list[Any], trigger: Any, unique: str, all_events: Any
) -> None:
    async def scenario() -> list[Any]:
        waiting = asyncio.create_task(all_events(trigger(mode="wait", end_time=time.time() + PATIENCE)))
        await asyncio.to_thread(hook.link_to_registry, versions[0], "model", unique, ["staging"])
        assert not waiting.done()
        await asyncio.to_thread(hook.link_to_registry, versions[0], "model", unique, ["production"])
        return await waiting

    (event,) = asyncio.run(scenario())
    assert (event["status"], event["reason"]) == ("done", "alias_found")
    found = event["value"]
    assert (found["registry"], found["collection"], found["alias"]) == ("model", unique, "production")
    assert (found["digest"], found["source"]) == (versions[0].digest, versions[0].path)
    assert found["source_run"] == versions[0].source_run
    assert found["url"].startswith("http")
    assert found["previous_version"] is None


def test_each_condition_passes_over_a_holder_that_does_not_meet_it(
    server: Any,
    hook: WandbHook,
    versions: list[Any],
    trigger: Any,
    unique: str,
    all_events: Any,
    until: Any,
) -> None:
    hook.link_to_registry(versions[0], "model", unique, ["production"])
    wishes: list[dict[str, Any]] = [
        {"digest": versions[1].digest},
        {"not_version": "v0"},
        {"until": "moved"},
        {"until": "moved", "since": "v0"},
        {"tag": "approved"},
        {"metadata": {"eval.passed": True}},
        {"until": "removed"},
    ]

    def approve() -> None:
        hook.update_artifact_metadata(versions[1], {"eval": {"passed": True}})
        artifact = hook.get_conn().artifact(versions[1].path)
        artifact.tags = ["approved"]
        artifact.save()
        hook.link_to_registry(versions[1], "model", unique, ["production"])

    def remove() -> None:
        artifact = hook.get_conn().artifact(f"wandb-registry-model/{unique}:production")
        artifact.aliases.remove("production")
        artifact.save()

    async def scenario() -> list[Any]:
        end_time = time.time() + PATIENCE
        before = len(server.requests("RegistryVersions"))
        waiting = [
            asyncio.create_task(all_events(trigger(mode="wait", end_time=end_time, **wish)))
            for wish in wishes
        ]
        await until(lambda: len(server.requests("RegistryVersions")) >= before + 4)
        assert not any(task.done() for task in waiting)
        await asyncio.to_thread(approve)
        *moved, removed = waiting
        events = [event for task in moved for event in await task]
        assert not removed.done()
        await asyncio.to_thread(remove)
        return [*events, *await removed]

    *moved, removed = [event["value"] for event in asyncio.run(scenario())]
    assert [value["version"] for value in moved] == ["v1"] * 6
    assert [value["previous_version"] for value in moved] == ["v0"] * 6
    assert moved[2]["previous_digest"] == versions[0].digest
    assert (removed["version"], removed["path"], removed["previous_version"]) == (None, None, "v0")


def test_an_alias_of_a_project_is_waited_for_like_one_of_a_registry(
    hook: WandbHook, versions: list[Any], trigger: Any, unique: str, all_events: Any
) -> None:
    def best() -> None:
        artifact = hook.get_conn().artifact(versions[0].path)
        artifact.aliases.append("best")
        artifact.save()

    async def scenario() -> list[Any]:
        place = {"registry": None, "entity": "local", "project": unique, "collection": "encoder"}
        waiting = asyncio.create_task(
            all_events(trigger(mode="wait", alias="best", end_time=time.time() + PATIENCE, **place))
        )
        missing = trigger(mode="wait", alias="best", missing="fail", **{**place, "collection": "no-such"})
        (failed,) = await all_events(missing)
        assert not waiting.done()
        await asyncio.to_thread(best)
        return [failed, *await waiting]

    failed, found = asyncio.run(scenario())
    assert (failed["status"], failed["reason"]) == ("failed", "not_found")
    assert "no-such" in failed["message"]
    assert (found["value"]["version"], found["value"]["project"]) == ("v0", unique)
    assert found["value"]["source_run"] == versions[0].source_run


@pytest.mark.slow
@pytest.mark.parametrize("registry", ["model", "no-such-registry"])
def test_a_registry_or_collection_that_does_not_exist_fails_only_who_asked_for_that(
    server: Any, trigger: Any, unique: str, all_events: Any, registry: str, until: Any
) -> None:
    reads = len(server.requests("RegistryVersions"))

    async def scenario() -> tuple[Any, Any]:
        beside = asyncio.create_task(all_events(trigger(mode="wait", registry=registry, alias="beside")))
        (failed,) = await all_events(trigger(mode="wait", registry=registry, missing="fail"))
        assert not beside.done()
        # The client is at work, so that one more read is a matter of milliseconds.
        await until(lambda: len(server.requests("RegistryVersions")) >= reads + 2)
        patient = trigger(mode="wait", registry=registry, missing="wait", end_time=time.time() + 3.0)
        (waited,) = await all_events(patient)
        beside.cancel()
        await asyncio.wait([beside])
        return failed, waited

    failed, waited = asyncio.run(scenario())
    assert (failed["status"], failed["reason"]) == ("failed", "not_found")
    what = unique if registry == "model" else registry
    assert f"'{what}'" in failed["message"]
    assert waited["status"] == "timed_out"
    assert f"'{what}'" in waited["message"]


def test_waiting_ends_at_its_deadline(trigger: Any, all_events: Any) -> None:
    (event,) = asyncio.run(all_events(trigger(mode="wait", end_time=time.time() + 1.0)))
    assert (event["status"], event["reason"], event["value"]) == ("timed_out", "timeout", None)


def test_a_trigger_that_the_task_started_in_keeps_the_deadline_of_its_deferral(
    trigger: Any, all_events: Any
) -> None:
    from datetime import UTC, datetime, timedelta

    waiting = trigger(mode="wait")
    waiting.timeout_after = datetime.now(UTC) + timedelta(seconds=60.5)
    (event,) = asyncio.run(all_events(waiting))
    assert event["status"] == "timed_out"


def test_a_revoked_key_fails_all_that_wait_with_the_reason(
    server: Any, connect: Any, trigger: Any, all_events: Any
) -> None:
    connect(server, "revoked", password="0" * 40)

    async def scenario() -> list[Any]:
        waiting = [
            trigger(mode="wait", alias=f"a{number}", end_time=time.time() + PATIENCE, wandb_conn_id="revoked")
            for number in range(5)
        ]
        return [event for events in await asyncio.gather(*map(all_events, waiting)) for event in events]

    events = asyncio.run(scenario())
    assert [(event["status"], event["reason"]) for event in events] == [("failed", "authentication")] * 5
    assert all("revoked" in event["message"] for event in events)
    assert "0" * 40 not in json.dumps(events)


def test_an_organization_that_does_not_exist_fails_all_that_wait_with_the_reason(
    server: Any, connect: Any, trigger: Any, all_events: Any
) -> None:
    connect(server, "elsewhere", extra={"organization": "no-such-organization"})

    async def scenario() -> list[Any]:
        waiting = [trigger(mode="wait", alias=f"a{n}", wandb_conn_id="elsewhere") for n in range(200)]
        return [event for events in await asyncio.gather(*map(all_events, waiting)) for event in events]

    events = asyncio.run(scenario())
    assert {(event["status"], event["reason"]) for event in events} == {("failed", "configuration")}
    assert "no-such-organization" in events[0]["message"]


def test_waiting_fails_at_once_without_a_connection(trigger: Any, all_events: Any) -> None:
    (event,) = asyncio.run(all_events(trigger(mode="wait", wandb_conn_id="nowhere")))
    assert (event["status"], event["reason"]) == ("failed", "configuration")


@pytest.mark.slow
def test_an_outage_is_waited_out_with_one_warning_and_without_blocking_the_loop(
    monkeypatch: pytest.MonkeyPatch, connect: Any, trigger: Any, all_events: Any, until: Any, tmp_path: Path
) -> None:
    from wandb_airflow_provider.devserver import DevServer

    server = DevServer(tmp_path / "server")
    with server:
        connect(server, extra={"timeout": 1})
        asyncio.run(all_events(trigger(mode="wait", end_time=time.time() + 0.5)))
    reading = threading.Event()
    read = WandbReader.read

    def noted(reader: WandbReader, *targets: Any) -> Any:
        reading.set()
        try:
            return read(reader, *targets)
        finally:
            reading.clear()

    monkeypatch.setattr(WandbReader, "read", noted)
    turns_while_reading = 0

    async def scenario(lines: list[Any]) -> None:
        waiting = asyncio.create_task(all_events(trigger(mode="wait", end_time=time.time() + PATIENCE)))

        def warned() -> bool:
            nonlocal turns_while_reading
            turns_while_reading += reading.is_set()
            return bool(lines)

        await until(warned)
        await asyncio.to_thread(server.start)
        await until(lambda: len(server.requests("RegistryVersions")) > 2)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])

    try:
        with capture_logs() as lines:
            asyncio.run(scenario(lines))
    finally:
        server.stop()
    assert [line["log_level"] for line in lines if "cannot be read" in line["event"]] == ["warning"]
    # The client tries for a second: a loop that waited for it would not have had one turn.
    assert turns_while_reading > 1


@pytest.mark.parametrize("silent", [0.0, 9.0])
def test_a_server_that_fails_to_tell_what_it_can_do_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, server: Any, hook: WandbHook, silent: float
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        # As wandb raises it, for a server that lacks the feature as well as for one that does not answer.
        raise RuntimeError("Registry search API is not enabled on this wandb server version.")

    monkeypatch.setattr(watched, "_SILENT_SECONDS", silent)
    monkeypatch.setattr(type(hook.get_conn()), "registries", fail)
    error = WandbConfigurationError if silent else WandbUnavailableError
    with pytest.raises(error, match="too old" if silent else "does not tell"):
        watched.RegistryView(hook, "model")


def test_only_the_connection_id_is_stored_with_a_trigger(hook: WandbHook, server: Any, trigger: Any) -> None:
    stored = json.dumps(trigger().serialize())
    assert server.api_key not in stored
    assert server.url not in stored


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"alias": "v3"}, WandbInvalidNameError),
        ({"alias": "a:b"}, WandbInvalidNameError),
        ({"collection": "a b"}, WandbInvalidNameError),
        ({"registry": None, "project": "a/b"}, WandbInvalidNameError),
        ({"registry": None}, WandbConfigurationError),
        ({"project": "p"}, WandbConfigurationError),
        ({"mode": "look"}, WandbConfigurationError),
        ({"first": "ignore"}, WandbConfigurationError),
        ({"mode": "wait", "until": "gone"}, WandbConfigurationError),
        ({"mode": "wait", "missing": "skip"}, WandbConfigurationError),
        ({"mode": "wait", "until": "removed", "tag": "approved"}, WandbConfigurationError),
        ({"poll_interval": 0}, WandbConfigurationError),
        ({"poll_interval": float("inf")}, WandbConfigurationError),
        ({"poll_interval": "60"}, WandbConfigurationError),
    ],
)
def test_a_wrong_trigger_is_refused_when_a_dag_is_made_of_it_and_never_by_its_constructor(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    names = {"registry": "model", "collection": "search", "alias": "production"}
    # An error of the constructor would end Airflow's triggerer, with all that wait in it.
    trigger = WandbRegistryAliasTrigger(**{**names, **arguments})
    with pytest.raises(error):
        trigger.check()
    with pytest.raises(error):
        trigger.serialize()


@pytest.mark.parametrize(
    "trigger",
    [
        WandbRunTrigger(wandb_run="no run"),
        WandbRunTrigger(wandb_run="a/b/c", outcomes={"exploded": "fail"}),
        WandbRunTrigger(wandb_run="a/b/c", missing="skip"),  # type: ignore[arg-type]
        WandbArtifactTrigger(artifact="encoder:latest"),
        WandbArtifactTrigger(artifact="encoder", newer_than="latest"),
        WandbArtifactTrigger(artifact="encoder", missing="skip"),  # type: ignore[arg-type]
        WandbRegistryAliasTrigger(registry="model", collection="search", alias="v3", mode="wait"),
        WandbRegistryAliasTrigger(
            registry="model", collection="search", alias="a", until="removed", tag="b", mode="wait"
        ),
    ],
)
def test_a_wrong_trigger_in_the_triggerer_fails_its_own_task_with_the_reason(
    trigger: SharedPollTrigger, all_events: Any
) -> None:
    assert trigger.shared_stream_key() is None
    (event,) = asyncio.run(all_events(trigger))
    assert (event["status"], event["reason"]) == ("failed", "configuration")
    assert event["message"]


def test_a_wrong_watcher_in_the_triggerer_says_so_once_and_is_not_started_again_and_again() -> None:
    watcher = WandbRegistryAliasTrigger(registry="model", collection="search", alias="v3")

    async def scenario() -> bool:
        watching = asyncio.create_task(anext(watcher.run()))
        for _ in range(100):
            await asyncio.sleep(0)
        ended = watching.done()
        watching.cancel()
        await asyncio.wait([watching])
        return ended

    with capture_logs() as lines:
        assert not asyncio.run(scenario())
    assert [line["log_level"] for line in lines] == ["error"]


def test_a_field_that_is_still_a_template_is_checked_once_it_is_rendered() -> None:
    trigger = WandbRegistryAliasTrigger(registry="model", collection="search", alias="{{ params.alias }}")
    trigger.serialize()
    trigger.alias = "v3"
    with pytest.raises(WandbInvalidNameError):
        trigger.check()


def test_the_prefix_of_a_registry_s_project_makes_no_other_stream() -> None:
    long, short = (
        WandbRegistryAliasTrigger(registry=name, collection="c", alias="a", poll_interval=interval)
        for name, interval in (("wandb-registry-model", 5), ("model", 60))
    )
    assert long.shared_stream_key() == short.shared_stream_key()
