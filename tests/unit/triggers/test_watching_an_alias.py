from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent
from structlog.testing import capture_logs

from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.registry import RegistryAlias
from wandb_airflow_provider.triggers import alias_memory
from wandb_airflow_provider.watching.change import (
    AliasChange,
    Claim,
    Seen,
    claim_key,
    observe_change,
    seen_key,
)

INTERVAL = 0.2
PATIENCE = 180.0


async def next_event(events: AsyncIterator[TriggerEvent]) -> Any:
    return (await asyncio.wait_for(anext(events), PATIENCE)).payload


def remove_alias(hook: WandbHook, unique: str) -> None:
    artifact = hook.get_conn().artifact(f"wandb-registry-model/{unique}:production")
    artifact.aliases.remove("production")
    artifact.save()


def test_watching_reports_each_addition_move_and_removal_once(
    server: Any, hook: WandbHook, versions: list[Any], trigger: Any, unique: str, until: Any
) -> None:
    reads = len(server.requests("RegistryVersions"))

    async def scenario() -> list[Any]:
        seen = []
        async with aclosing(trigger(mode="watch").run()) as events:
            first = asyncio.create_task(next_event(events))
            await until(lambda: len(server.requests("RegistryVersions")) >= reads + 3)
            assert not first.done()
            await asyncio.to_thread(hook.link_to_registry, versions[0], "model", unique, ["production"])
            seen.append(await first)
            await asyncio.to_thread(hook.link_to_registry, versions[1], "model", unique, ["production"])
            seen.append(await next_event(events))
            await asyncio.to_thread(remove_alias, hook, unique)
            seen.append(await next_event(events))
        return seen

    added, moved, removed = asyncio.run(scenario())
    assert [event["change"] for event in (added, moved, removed)] == ["added", "moved", "removed"]
    assert (added["version"], moved["version"], removed["version"]) == ("v0", "v1", None)
    assert (moved["previous_version"], moved["previous_digest"]) == ("v0", versions[0].digest)
    assert moved["digest"] == versions[1].digest
    assert moved["source_run"] == versions[1].source_run
    assert moved["url"].startswith("http")
    assert removed["previous_digest"] == versions[1].digest
    assert len({event["idempotency_key"] for event in (added, moved, removed)}) == 3


def test_a_first_observation_fires_only_when_it_is_asked_to(
    server: Any, hook: WandbHook, versions: list[Any], trigger: Any, unique: str, until: Any
) -> None:
    hook.link_to_registry(versions[0], "model", unique, ["production"])

    async def fires(first: str) -> bool:
        reads = len(server.requests("RegistryVersions"))
        async with aclosing(trigger(mode="watch", first=first).run()) as events:
            event = asyncio.create_task(next_event(events))
            await until(lambda: event.done() or len(server.requests("RegistryVersions")) >= reads + 3)
            fired = event.done() and (await event)["change"] == "added"
            event.cancel()
            await asyncio.wait([event])
        return fired

    assert asyncio.run(fires("fire"))
    assert not asyncio.run(fires("baseline"))


@pytest.mark.parametrize("registry", ["model", "no-such-registry"])
def test_what_does_not_exist_is_watched_and_told_once(
    server: Any, hook: WandbHook, trigger: Any, unique: str, until: Any, registry: str
) -> None:
    reads = len(server.requests("RegistryVersions"))

    async def scenario() -> None:
        async with aclosing(trigger(mode="watch", registry=registry).run()) as events:
            first = asyncio.create_task(next_event(events))
            await until(lambda: len(server.requests("RegistryVersions")) >= reads + 4)
            assert not first.done()
            first.cancel()
            await asyncio.wait([first])

    with capture_logs() as lines:
        asyncio.run(scenario())
    (told,) = [line for line in lines if "cannot change now" in line["event"]]
    assert told["log_level"] == "warning"
    assert repr(unique if registry == "model" else registry) in told["event"]


@pytest.fixture
def watch(trigger: Any, store: Any, triggerer: Any, until: Any, at_rest: Any) -> Callable[..., list[Any]]:
    """``watch(enough)`` watches in a triggerer of its own until there is enough, and is then killed."""

    def watch(enough: Callable[[], bool], *, stores_events: bool = True) -> list[Any]:
        async def scenario() -> list[Any]:
            here = type(triggerer)()
            here.stores = stores_events
            watcher = trigger(mode="watch")
            watcher.asset_state_store = store.accessors()
            running = asyncio.create_task(here.run(1, watcher))
            await until(lambda: enough() or running.done() or bool(not stores_events and here.events.get(1)))
            running.cancel()
            await asyncio.wait([running])
            return list(here.events.get(1, []))

        sent = asyncio.run(scenario())
        at_rest()
        return sent

    return watch


def test_a_change_made_while_no_triggerer_ran_is_reported_after_the_restart_and_only_once(
    hook: WandbHook, versions: list[Any], watch: Any, store: Any, unique: str
) -> None:
    target = f"model/{unique}:production"
    hook.link_to_registry(versions[0], "model", unique, ["production"])
    assert watch(lambda: store.version(target) == "v0") == []
    hook.link_to_registry(versions[1], "model", unique, ["production"])
    (event,) = watch(lambda: store.version(target) == "v1")
    assert (event["change"], event["previous_version"], event["version"]) == ("moved", "v0", "v1")


def test_a_triggerer_killed_before_airflow_stored_the_event_repeats_it_with_the_same_key(
    hook: WandbHook, versions: list[Any], watch: Any, store: Any, unique: str
) -> None:
    target = f"model/{unique}:production"
    hook.link_to_registry(versions[0], "model", unique, ["production"])
    watch(lambda: store.version(target) == "v0")
    hook.link_to_registry(versions[1], "model", unique, ["production"])

    lost = [watch(lambda: False, stores_events=False) for _ in range(3)]

    assert store.version(target) == "v0"
    assert len({event["idempotency_key"] for (event,) in lost}) == 1
    assert watch(lambda: store.version(target) == "v1") == lost[0]


def test_a_state_store_that_fails_for_some_reads_loses_no_change(
    monkeypatch: pytest.MonkeyPatch,
    hook: WandbHook,
    versions: list[Any],
    trigger: Any,
    unique: str,
    store: Any,
) -> None:
    monkeypatch.setattr(alias_memory, "_RECALL_AGAIN_SECONDS", 0.01)
    hook.link_to_registry(versions[1], "model", unique, ["production"])
    watcher = trigger(mode="watch")
    watcher.asset_state_store = store.accessors()
    store.values[f"wandb_alias:model/{unique}:production"] = json.dumps(
        {"version": "v0", "digest": versions[0].digest, "sequence": 7}
    )
    store.failures = 8

    async def scenario() -> Any:
        async with aclosing(watcher.run()) as events:
            return await next_event(events)

    event = asyncio.run(scenario())
    assert (event["change"], event["previous_digest"]) == ("moved", versions[0].digest)
    assert event["digest"] == versions[1].digest


def test_a_state_store_that_stays_broken_does_not_end_the_watching(
    monkeypatch: pytest.MonkeyPatch,
    hook: WandbHook,
    versions: list[Any],
    trigger: Any,
    unique: str,
    store: Any,
    until: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(alias_memory, "_RECALL_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(alias_memory, "_RECALL_SECONDS", 0.0)
    hook.link_to_registry(versions[0], "model", unique, ["production"])
    store.failures = 1000
    watcher = trigger(mode="watch")
    watcher.asset_state_store = store.accessors()

    async def scenario() -> Any:
        async with aclosing(watcher.run()) as events:
            first = asyncio.create_task(next_event(events))
            # With the last of the attempts to recall, what was read is taken as given.
            await until(lambda: store.failures <= 997)
            await asyncio.to_thread(hook.link_to_registry, versions[1], "model", unique, ["production"])
            return await first

    assert asyncio.run(scenario())["change"] == "moved"
    assert caplog.text.count("what is seen from now on counts") == 1
    assert "trying again with the next read" not in caplog.text


def test_w_and_b_failing_for_long_fails_no_watcher_and_hides_no_change(
    server: Any, connect: Any, hook: WandbHook, versions: list[Any], trigger: Any, unique: str, until: Any
) -> None:
    connect(server, extra={"project": unique, "timeout": 1})
    hook.link_to_registry(versions[0], "model", unique, ["production"])
    reads = len(server.requests("RegistryVersions"))

    async def scenario() -> Any:
        async with aclosing(trigger(mode="watch").run()) as events:
            first = asyncio.create_task(next_event(events))
            await until(lambda: len(server.requests("RegistryVersions")) >= reads + 2)
            server.faults.fail(503, op="RegistryVersions", times=None)
            await asyncio.to_thread(hook.link_to_registry, versions[1], "model", unique, ["production"])
            await until(lambda: [line for line in lines if "cannot be read" in line["event"]])
            await asyncio.sleep(1.5)
            assert not first.done()
            server.faults.clear()
            return await first

    with capture_logs() as lines:
        event = asyncio.run(scenario())
    assert (event["change"], event["version"]) == ("moved", "v1")
    assert [line["log_level"] for line in lines if "cannot be read" in line["event"]] == ["warning"]


@pytest.mark.slow
def test_w_and_b_is_not_asked_again_before_the_time_that_it_tells(
    server: Any, hook: WandbHook, trigger: Any, until: Any
) -> None:
    def reads() -> list[Any]:
        return list(server.requests("RegistryVersions"))

    began = len(reads())

    async def scenario() -> None:
        async with aclosing(trigger(mode="watch").run()) as events:
            first = asyncio.create_task(next_event(events))
            await until(lambda: len(reads()) >= began + 2)
            server.faults.fail(429, op="RegistryVersions", retry_after=2)
            await until(lambda: any(read.status == 429 for read in reads()[began:-1]))
            assert not first.done()
            first.cancel()
            await asyncio.wait([first])

    asyncio.run(scenario())
    found = reads()[began:]
    (limited,) = [number for number, read in enumerate(found) if read.status == 429]
    # The interval alone would be a fifth of a second.
    assert (found[limited + 1].at - found[limited].at).total_seconds() >= 1.9


@pytest.mark.slow
def test_a_time_to_wait_beyond_the_connection_s_timeout_is_an_outage(
    server: Any, connect: Any, hook: WandbHook, versions: list[Any], trigger: Any, unique: str, until: Any
) -> None:
    connect(server, extra={"project": unique, "timeout": 1})
    began = len(server.requests("RegistryVersions"))

    async def scenario() -> Any:
        async with aclosing(trigger(mode="watch").run()) as events:
            first = asyncio.create_task(next_event(events))
            await until(lambda: len(server.requests("RegistryVersions")) >= began + 2)
            server.faults.fail(429, op="RegistryVersions", retry_after=600)
            await until(lambda: [line for line in lines if "cannot be read" in line["event"]])
            await asyncio.to_thread(hook.link_to_registry, versions[0], "model", unique, ["production"])
            return await first

    with capture_logs() as lines:
        assert asyncio.run(scenario())["change"] == "added"


def test_a_helper_process_of_wandb_that_is_killed_is_replaced(
    server: Any, hook: WandbHook, versions: list[Any], trigger: Any, unique: str, until: Any
) -> None:
    import psutil

    linked = hook.link_to_registry(versions[0], "model", unique)
    reads = len(server.requests("RegistryVersions"))

    def kill() -> None:
        for child in psutil.Process().children():
            if child.name() == "wandb-core":
                child.kill()

    async def scenario() -> Any:
        async with aclosing(trigger(mode="watch").run()) as events:
            first = asyncio.create_task(next_event(events))
            await until(lambda: len(server.requests("RegistryVersions")) >= reads + 2)
            kill()
            await until(lambda: [line for line in lines if "cannot be read" in line["event"]])
            again = len(server.requests("RegistryVersions"))
            await until(lambda: len(server.requests("RegistryVersions")) > again)
            await asyncio.to_thread(hook.link_to_registry, linked, "model", unique, ["production"])
            return await first

    with capture_logs() as lines:
        assert asyncio.run(scenario())["change"] == "added"


def test_a_key_that_is_revoked_and_replaced_ends_no_watcher(
    server: Any, connect: Any, hook: WandbHook, versions: list[Any], trigger: Any, unique: str, until: Any
) -> None:
    hook.link_to_registry(versions[0], "model", unique, ["production"])
    connect(server, "rotated", password="0" * 40)

    async def scenario() -> Any:
        watcher = trigger(mode="watch", first="fire", wandb_conn_id="rotated")
        async with aclosing(watcher.run()) as events:
            first = asyncio.create_task(next_event(events))
            await until(lambda: [line for line in lines if "cannot be read" in line["event"]])
            assert not first.done()
            connect(server, "rotated")
            return await first

    with capture_logs() as lines:
        assert asyncio.run(scenario())["change"] == "added"


def claimed_by_a_webhook(store: Any, target: RegistryAlias, ref: Any, *, seconds_ago: float) -> AliasChange:
    """Return the change from an earlier holder, which a webhook has claimed and not yet reported."""
    before = Seen("v9", "9" * 32, 4)
    _, change = observe_change(target, before, ref)
    assert change is not None
    claim = Claim(change.idempotency_key, time.time() - seconds_ago)
    store.values[seen_key(target)] = json.dumps(before.to_json())
    store.values[claim_key(target, "push")] = json.dumps(claim.to_json())
    return change


def test_an_error_that_nobody_expected_does_not_end_the_watching(
    hook: WandbHook, versions: list[Any], watch: Any, store: Any, unique: str
) -> None:
    hook.link_to_registry(versions[0], "model", unique, ["production"])
    store.failures, store.broken = 3, RuntimeError("nobody expected this")
    assert watch(lambda: store.version(f"model/{unique}:production") == "v0") == []
    assert store.failures == 0


@pytest.mark.slow
def test_a_change_that_a_webhook_has_reported_is_not_reported_again(
    hook: WandbHook, versions: list[Any], watch: Any, store: Any, unique: str
) -> None:
    target = RegistryAlias("model", unique, "production")
    linked = hook.link_to_registry(versions[0], "model", unique, ["production"])
    # A claim of a machine whose clock is ahead: it holds for longer than a busy machine may need to start a client.
    change = claimed_by_a_webhook(store, target, linked, seconds_ago=-29)
    waited = False

    def reported() -> bool:
        nonlocal waited
        if claim_key(target, "poll") in store.values and not waited:
            # The watcher has claimed the change, and gives the webhook time, which now stores its report.
            waited = True
            store.values[seen_key(target)] = json.dumps(change.after.to_json())
        return waited and time.time() > began + 3

    began = time.time()
    assert watch(reported) == []
    assert waited


def test_a_webhook_that_died_over_a_change_hides_it_from_no_watcher(
    hook: WandbHook, versions: list[Any], watch: Any, store: Any, unique: str
) -> None:
    target = RegistryAlias("model", unique, "production")
    linked = hook.link_to_registry(versions[0], "model", unique, ["production"])
    change = claimed_by_a_webhook(store, target, linked, seconds_ago=40)
    (event,) = watch(lambda: store.version(str(target)) == "v0")
    assert event["idempotency_key"] == change.idempotency_key
