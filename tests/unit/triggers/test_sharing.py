from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from wandb_airflow_provider.hooks import watched
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.triggers import poll
from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger

INTERVAL = 1.0


def requests_since(server: Any, began: int) -> Counter[str]:
    return Counter(request.operation for request in server.requests()[began:])


@pytest.mark.slow
@pytest.mark.parametrize("shared_by", ["airflow", "this package"])
def test_a_thousand_waiters_on_one_registry_cost_one_request_an_interval(
    server: Any, hook: WandbHook, trigger: Any, triggerer: Any, until: Any, shared_by: str, all_events: Any
) -> None:
    server.requests()
    began = len(server.requests())

    async def scenario() -> float:
        start = time.monotonic()
        waiters = [
            trigger(
                mode="wait",
                collection=f"collection-{number % 50}",
                alias=f"alias-{number % 500}",
                poll_interval=INTERVAL,
                end_time=time.time() + 600,
            )
            for number in range(1000)
        ]
        run = triggerer.run if shared_by == "airflow" else lambda number, waiter: all_events(waiter)
        running = [asyncio.create_task(run(number, waiter)) for number, waiter in enumerate(waiters)]
        await until(lambda: requests_since(server, began)["RegistryVersions"] >= 3)
        took = time.monotonic() - start
        assert not any(task.done() for task in running)
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        return took

    took = asyncio.run(scenario())
    counts = requests_since(server, began)
    assert counts.pop("RegistryVersions") == 3
    # Whether the collections exist is looked up once, to tell it; the rest is what a client begins with.
    assert counts.pop("RegistryCollections") == 1
    assert max(counts.values()) == 1
    assert set(counts) <= {
        "Viewer",
        "ServerFeaturesQuery",
        "GetDefaultEntity",
        "FetchOrgInfoFromEntity",
        "FetchAdvancedRegistryFeatures",
        "FetchRegistries",
    }
    assert took >= 2 * INTERVAL


def test_aliases_beyond_one_page_are_all_seen(
    monkeypatch: pytest.MonkeyPatch,
    hook: WandbHook,
    versions: list[Any],
    trigger: Any,
    triggerer: Any,
    unique: str,
) -> None:
    monkeypatch.setattr(watched, "_PAGE", 3)
    collections = [f"{unique}-{number}" for number in range(7)]
    for collection in collections:
        artifact = hook.get_conn().artifact(versions[0].path)
        artifact.link(f"wandb-registry-model/{collection}", aliases=["production"])

    async def scenario() -> list[Any]:
        waiters = [
            trigger(mode="wait", collection=collection, end_time=time.time() + 180)
            for collection in collections
        ]
        return await asyncio.gather(*(triggerer.run(number, one) for number, one in enumerate(waiters)))

    ended = asyncio.run(scenario())
    assert {event["value"]["collection"] for (event,) in ended} == set(collections)


class Poisonous(WandbRegistryAliasTrigger):
    """Breaks on what it is sent."""

    def judge(self, observed: Any) -> Any:
        raise RuntimeError("poison")

    def _key(self) -> Any:
        return ("wandb_airflow_provider", "WandbRegistryAliasTrigger", self.wandb_conn_id, *self._place())


@pytest.mark.parametrize("shared_by", ["airflow", "this package"])
def test_a_trigger_that_breaks_takes_no_other_down(
    hook: WandbHook,
    versions: list[Any],
    trigger: Any,
    triggerer: Any,
    unique: str,
    shared_by: str,
    all_events: Any,
) -> None:
    async def scenario() -> list[Any]:
        run = triggerer.run if shared_by == "airflow" else lambda number, waiter: all_events(waiter)
        waiting = asyncio.create_task(run(1, trigger(mode="wait", end_time=time.time() + 180)))
        poison = Poisonous(
            registry="model", collection=unique, alias="production", mode="wait", poll_interval=0.2
        )
        assert poison.shared_stream_key() == trigger().shared_stream_key()
        with pytest.raises(RuntimeError, match="poison"):
            await run(2, poison)
        assert not waiting.done()
        await asyncio.to_thread(hook.link_to_registry, versions[0], "model", unique, ["production"])
        return await waiting

    (event,) = asyncio.run(scenario())
    assert event["status"] == "done"


def test_a_trigger_that_joins_while_the_shared_loop_is_ending_is_not_forgotten(
    server: Any, hook: WandbHook, versions: list[Any], trigger: Any, triggerer: Any, unique: str, until: Any
) -> None:
    hook.link_to_registry(versions[0], "model", unique, ["production"])
    reads = len(server.requests("RegistryVersions"))

    async def scenario() -> Any:
        leaving = asyncio.create_task(
            triggerer.run(1, trigger(mode="wait", alias="never", end_time=time.time() + 180))
        )
        await until(lambda: len(server.requests("RegistryVersions")) > reads)
        joined = asyncio.create_task(triggerer.run(2, trigger(mode="wait", end_time=time.time() + 180)))
        leaving.cancel()
        await asyncio.wait([leaving])
        ended = await asyncio.wait_for(joined, 60)
        # Everyone has left: the loop is gone, and a new one serves the next.
        assert not triggerer.manager._groups
        again = await asyncio.wait_for(
            triggerer.run(3, trigger(mode="wait", end_time=time.time() + 180)), 180
        )
        return [*ended, *again]

    assert [event["status"] for event in asyncio.run(scenario())] == ["done", "done"]


def test_a_trigger_in_a_hurry_does_not_wait_for_the_next_read_of_all(
    monkeypatch: pytest.MonkeyPatch,
    server: Any,
    hook: WandbHook,
    versions: list[Any],
    trigger: Any,
    triggerer: Any,
    unique: str,
    until: Any,
) -> None:
    monkeypatch.setattr(poll, "_HURRY_SECONDS", 0.3)
    hook.link_to_registry(versions[0], "model", unique, ["production"])
    reads = len(server.requests("RegistryVersions"))

    async def scenario() -> Any:
        waiting = asyncio.create_task(
            triggerer.run(1, trigger(mode="wait", alias="never", poll_interval=600.0))
        )
        await until(lambda: len(server.requests("RegistryVersions")) > reads)
        ended = await asyncio.wait_for(triggerer.run(2, trigger(mode="wait", poll_interval=600.0)), 180)
        waiting.cancel()
        await asyncio.wait([waiting])
        return ended

    (event,) = asyncio.run(scenario())
    assert event["status"] == "done"


def test_no_thread_of_wandb_is_left_when_nobody_waits(
    hook: WandbHook, trigger: Any, triggerer: Any, until: Any
) -> None:
    import threading

    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "wandb-airflow-poll"]

    async def scenario() -> None:
        waiting = asyncio.create_task(triggerer.run(1, trigger(mode="wait")))
        await until(lambda: bool(threads()))
        waiting.cancel()
        await asyncio.wait([waiting])
        await until(lambda: not threads())

    asyncio.run(scenario())
