from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.sdk.execution_time.context import AssetStateStoreAccessors
from airflow.triggers.base import TriggerEvent
from airflow.triggers.shared_stream import SharedStreamManager
from structlog.testing import capture_logs

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbInvalidNameError
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger

INTERVAL = 0.2
PATIENCE = 60.0


@pytest.fixture
def versions(hook: WandbHook, log_run: Callable[..., Any]) -> list[Any]:
    """Two versions of a model."""
    return [log_run({"m": 1}, content)[1] for content in "ab"]


@pytest.fixture
def trigger(hook: WandbHook, unique: str) -> Callable[..., WandbRegistryAliasTrigger]:
    """``trigger(...)`` makes a trigger as the triggerer does: from what another one serialized."""

    def make(**arguments: Any) -> WandbRegistryAliasTrigger:
        names = {"registry": "model", "collection": unique, "alias": "production"}
        path, kwargs = WandbRegistryAliasTrigger(
            **{**names, "poll_interval": INTERVAL, **arguments}
        ).serialize()
        assert path == "wandb_airflow_provider.triggers.registry.WandbRegistryAliasTrigger"
        return WandbRegistryAliasTrigger(**json.loads(json.dumps(kwargs)))

    return make


async def next_event(events: AsyncIterator[TriggerEvent]) -> Any:
    return (await asyncio.wait_for(anext(events), PATIENCE)).payload


async def all_events(trigger: WandbRegistryAliasTrigger) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [event.payload async for event in trigger.run()]


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(function, *arguments)


def test_waiting_ends_with_one_event_once_the_alias_is_held(
    hook: WandbHook, versions: list[Any], trigger: Any, unique: str
) -> None:
    async def scenario() -> list[Any]:
        waiting = asyncio.create_task(all_events(trigger(mode="wait", end_time=time.time() + PATIENCE)))
        await in_thread(hook.link_to_registry, versions[0], "model", unique, ["staging"])
        assert not waiting.done()
        await in_thread(hook.link_to_registry, versions[0], "model", unique, ["production"])
        return await waiting

    (event,) = asyncio.run(scenario())
    assert (event["status"], event["reason"]) == ("done", "alias_found")
    assert event["ref"]["digest"] == versions[0].digest
    assert event["ref"]["source"] == versions[0].path


def test_waiting_for_a_digest_or_for_another_version_passes_over_the_current_holder(
    hook: WandbHook, versions: list[Any], trigger: Any, unique: str
) -> None:
    hook.link_to_registry(versions[0], "model", unique, ["production"])

    async def scenario() -> list[Any]:
        end_time = time.time() + PATIENCE
        waiting = [
            asyncio.create_task(all_events(trigger(mode="wait", end_time=end_time, **wish)))
            for wish in ({"digest": versions[1].digest}, {"not_version": "v0"})
        ]
        await asyncio.wait(waiting, timeout=5 * INTERVAL)
        assert not any(task.done() for task in waiting)
        await in_thread(hook.link_to_registry, versions[1], "model", unique, ["production"])
        return [event for task in waiting for event in await task]

    assert [event["ref"]["version"] for event in asyncio.run(scenario())] == ["v1", "v1"]


def test_waiting_ends_at_its_deadline(trigger: Any) -> None:
    (event,) = asyncio.run(all_events(trigger(mode="wait", end_time=time.time() + 1.0)))
    assert (event["status"], event["reason"], event["ref"]) == ("timed_out", "timeout", None)


def test_waiting_fails_at_once_with_a_key_that_w_and_b_refuses(
    server: Any, connect: Any, trigger: Any
) -> None:
    waiting = trigger(mode="wait", end_time=time.time() + PATIENCE, wandb_conn_id="revoked")
    connect(server, "revoked", password="0" * 40)
    (event,) = asyncio.run(all_events(waiting))
    assert (event["status"], event["reason"]) == ("failed", "authentication")
    assert "revoked" in event["message"]
    assert "0" * 40 not in json.dumps(event)


def test_waiting_fails_at_once_without_a_connection(trigger: Any) -> None:
    (event,) = asyncio.run(all_events(trigger(mode="wait", wandb_conn_id="nowhere")))
    assert (event["status"], event["reason"]) == ("failed", "configuration")


def test_an_outage_is_waited_out_with_one_warning_and_without_blocking_the_loop(
    connect: Any, trigger: Any, tmp_path: Path
) -> None:
    from wandb_airflow_provider.devserver import DevServer

    server = DevServer(tmp_path / "server")
    with server:
        connect(server, extra={"timeout": 1})
        asyncio.run(all_events(trigger(mode="wait", end_time=time.time() + 0.5)))
    pauses: list[float] = []

    async def scenario(lines: list[Any]) -> None:
        waiting = asyncio.create_task(all_events(trigger(mode="wait", end_time=time.time() + PATIENCE)))
        before = time.monotonic()

        def warned() -> bool:
            nonlocal before
            now = time.monotonic()
            pauses.append(now - before)
            before = now
            return bool(lines)

        await until(warned)
        await in_thread(server.start)
        await until(lambda: len(server.requests()) > 2)
        assert not waiting.done()
        waiting.cancel()

    try:
        with capture_logs() as lines:
            asyncio.run(scenario(lines))
    finally:
        server.stop()
    assert [line["log_level"] for line in lines if "cannot be read" in line["event"]] == ["warning"]
    assert max(pauses) < 1.0, "the client tries for a second"


class Store:
    """Airflow's asset state store of one asset, in memory."""

    broken: ClassVar[AirflowRuntimeError] = AirflowRuntimeError(ErrorResponse(detail={"why": "broken"}))

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.failures = 0

    def accessors(self) -> AssetStateStoreAccessors:
        stand_in = mock.create_autospec(AssetStateStoreAccessors, instance=True)
        stand_in.aget.side_effect = self._get
        stand_in.aset.side_effect = self._set
        return stand_in

    async def _get(self, key: str, default: Any = None) -> Any:
        self._fail()
        return json.loads(self.values[key]) if key in self.values else default

    async def _set(self, key: str, value: Any) -> None:
        self._fail()
        self.values[key] = json.dumps(value)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise self.broken


def remove_alias(hook: WandbHook, unique: str) -> None:
    artifact = hook.get_conn().artifact(f"wandb-registry-model/{unique}:production")
    artifact.aliases.remove("production")
    artifact.save()


def test_watching_reports_each_addition_move_and_removal_once(
    hook: WandbHook, versions: list[Any], trigger: Any, unique: str
) -> None:
    async def scenario() -> list[Any]:
        seen = []
        async with aclosing(trigger(mode="watch").run()) as events:
            first = asyncio.create_task(next_event(events))
            await asyncio.wait([first], timeout=5 * INTERVAL)
            assert not first.done()
            await in_thread(hook.link_to_registry, versions[0], "model", unique, ["production"])
            seen.append(await first)
            await in_thread(hook.link_to_registry, versions[1], "model", unique, ["production"])
            seen.append(await next_event(events))
            await in_thread(remove_alias, hook, unique)
            seen.append(await next_event(events))
        return seen

    added, moved, removed = asyncio.run(scenario())
    assert [event["change"] for event in (added, moved, removed)] == ["added", "moved", "removed"]
    assert (added["version"], moved["version"], removed["version"]) == ("v0", "v1", None)
    assert (moved["previous_version"], moved["previous_digest"]) == ("v0", versions[0].digest)
    assert moved["digest"] == versions[1].digest
    assert moved["source_run"] == versions[1].source_run
    assert removed["previous_digest"] == versions[1].digest
    assert len({event["idempotency_key"] for event in (added, moved, removed)}) == 3


def test_a_first_observation_fires_only_when_it_is_asked_to(
    hook: WandbHook, versions: list[Any], trigger: Any, unique: str
) -> None:
    hook.link_to_registry(versions[0], "model", unique, ["production"])

    async def first_event(first: str) -> Any:
        async with aclosing(trigger(mode="watch", first=first).run()) as events:
            return await asyncio.wait_for(anext(events), 10 * INTERVAL if first == "baseline" else PATIENCE)

    assert asyncio.run(first_event("fire")).payload["change"] == "added"
    with pytest.raises(TimeoutError):
        asyncio.run(first_event("baseline"))


def test_a_change_made_while_no_triggerer_ran_is_reported_after_the_restart_and_only_once(
    hook: WandbHook, versions: list[Any], trigger: Any, unique: str
) -> None:
    store = Store()
    hook.link_to_registry(versions[0], "model", unique, ["production"])

    async def watch(enough: Callable[[], bool]) -> list[Any]:
        watcher = trigger(mode="watch")
        watcher.asset_state_store = store.accessors()
        seen = []

        async def collect() -> None:
            async for event in watcher.run():
                seen.append(event.payload)  # noqa: PERF401 - what came before the cancellation must stay

        task = asyncio.create_task(collect())
        await until(enough)
        task.cancel()
        return seen

    def stored() -> Any:
        return [json.loads(value)["version"] for value in store.values.values()]

    assert asyncio.run(watch(lambda: stored() == ["v0"])) == []
    hook.link_to_registry(versions[1], "model", unique, ["production"])
    (event,) = asyncio.run(watch(lambda: stored() == ["v1"]))
    assert (event["change"], event["previous_version"], event["version"]) == ("moved", "v0", "v1")
    # A crash between sending and storing: the same event again, with the same key.
    store.values = {
        key: json.dumps({**json.loads(v), "version": "v0", "digest": versions[0].digest, "sequence": 0})
        for key, v in store.values.items()
    }
    (repeated,) = asyncio.run(watch(lambda: stored() == ["v1"]))
    assert repeated == event


def test_a_state_store_that_fails_for_a_moment_loses_no_change(
    hook: WandbHook, versions: list[Any], trigger: Any, unique: str
) -> None:
    hook.link_to_registry(versions[1], "model", unique, ["production"])
    store = Store()
    watcher = trigger(mode="watch")
    watcher.asset_state_store = store.accessors()
    store.values[f"wandb_alias:model/{unique}:production"] = json.dumps(
        {"version": "v0", "digest": versions[0].digest, "sequence": 7}
    )
    store.failures = 2

    async def scenario() -> Any:
        async with aclosing(watcher.run()) as events:
            return await next_event(events)

    event = asyncio.run(scenario())
    assert (event["change"], event["previous_digest"]) == ("moved", versions[0].digest)
    assert event["digest"] == versions[1].digest


def test_a_state_store_that_stays_broken_does_not_end_the_watching(
    hook: WandbHook, versions: list[Any], trigger: Any, unique: str
) -> None:
    hook.link_to_registry(versions[0], "model", unique, ["production"])
    store = Store()
    store.failures = 1000
    watcher = trigger(mode="watch")
    watcher.asset_state_store = store.accessors()

    async def scenario() -> Any:
        async with aclosing(watcher.run()) as events:
            first = asyncio.create_task(next_event(events))
            await until(lambda: store.failures <= 996)
            await in_thread(hook.link_to_registry, versions[1], "model", unique, ["production"])
            return await first

    assert asyncio.run(scenario())["change"] == "moved"


def test_all_triggers_of_one_connection_share_one_poll_loop_and_a_late_one_is_served_at_once(
    server: Any, hook: WandbHook, versions: list[Any], trigger: Any, unique: str
) -> None:
    aliases = [f"stage-{number}" for number in range(12)]
    hook.link_to_registry(versions[0], "model", unique, aliases)

    async def scenario() -> tuple[int, int, list[Any]]:
        manager = SharedStreamManager()
        subscribed: list[tuple[int, Any]] = []

        async def wait(number: int, alias: str) -> Any:
            one = trigger(mode="wait", alias=alias, end_time=time.time() + PATIENCE, poll_interval=30.0)
            key = one.shared_stream_key()
            stream = manager.subscribe(trigger_id=number, trigger=one, key=key)
            subscribed.append((number, key))
            try:
                async with aclosing(one.filter_shared_stream(stream)) as events:
                    return (await anext(events)).payload
            finally:
                await manager.unsubscribe(number, key)

        waiting = [asyncio.create_task(wait(number, alias)) for number, alias in enumerate(aliases)]
        held_back = asyncio.create_task(wait(99, "production"))
        async with asyncio.timeout(20):
            events = await asyncio.gather(*waiting)
            groups = len({key for _, key in subscribed})
            # Long before the next read of everything, 30 seconds later.
            late = await wait(100, aliases[0])
        assert not held_back.done()
        held_back.cancel()
        await asyncio.wait([held_back])
        # Everyone has left: the loop is gone, and a new one serves the next.
        async with asyncio.timeout(20):
            again = await wait(101, aliases[1])
        return groups, len(manager._groups), [*events, late, again]

    groups, left, events = asyncio.run(scenario())
    assert (groups, left) == (1, 0)
    assert {event["status"] for event in events} == {"done"}
    assert {event["ref"]["version"] for event in events} == {"v0"}


def test_a_trigger_that_joins_while_the_shared_loop_is_ending_is_not_forgotten(
    hook: WandbHook, versions: list[Any], trigger: Any, unique: str
) -> None:
    hook.link_to_registry(versions[0], "model", unique, ["production"])

    async def scenario() -> Any:
        manager = SharedStreamManager()
        key = trigger().shared_stream_key()

        async def wait(number: int, alias: str) -> Any:
            one = trigger(mode="wait", alias=alias, end_time=time.time() + PATIENCE)
            stream = manager.subscribe(trigger_id=number, trigger=one, key=key)
            async with aclosing(one.filter_shared_stream(stream)) as events:
                return (await anext(events)).payload

        leaving = asyncio.create_task(wait(1, "never"))
        await asyncio.sleep(2 * INTERVAL)
        leaving.cancel()
        await asyncio.wait([leaving])
        # The old loop still runs: only the filter of the cancelled trigger has ended.
        joined = asyncio.create_task(wait(2, "production"))
        await asyncio.sleep(0)
        await manager.unsubscribe(1, key)
        event = await asyncio.wait_for(joined, 20)
        await manager.stop_all()
        return event

    assert asyncio.run(scenario())["status"] == "done"


def test_only_the_connection_id_is_stored_with_a_trigger(hook: WandbHook, server: Any, trigger: Any) -> None:
    stored = json.dumps(trigger().serialize())
    assert server.api_key not in stored
    assert server.url not in stored


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"alias": "v3"}, WandbInvalidNameError),
        ({"collection": "a b"}, WandbInvalidNameError),
        ({"mode": "look"}, WandbConfigurationError),
        ({"first": "ignore"}, WandbConfigurationError),
        ({"poll_interval": 0}, WandbConfigurationError),
        ({"poll_interval": float("inf")}, WandbConfigurationError),
        ({"poll_interval": "60"}, WandbConfigurationError),
    ],
)
def test_a_wrong_trigger_is_refused_when_it_is_made(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    names = {"registry": "model", "collection": "search", "alias": "production"}
    with pytest.raises(error):
        WandbRegistryAliasTrigger(**{**names, **arguments})
