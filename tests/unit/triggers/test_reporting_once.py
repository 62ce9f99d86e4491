"""A watcher beside a webhook, with a table in place of W&B: who reports a change, and that it is stored in the end."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.registry import RegistryAlias
from wandb_airflow_provider.triggers import poll, shared_poll
from wandb_airflow_provider.triggers.alias_memory import AliasMemory
from wandb_airflow_provider.triggers.poll import Poll
from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger
from wandb_airflow_provider.waiting.alias import Observation
from wandb_airflow_provider.watching import change
from wandb_airflow_provider.watching.change import Claim, Seen, claim_key, observe_change, seen_key

TARGET = RegistryAlias("model", "search", "production")
BEFORE = Seen("v0", "digest0", 4)


def version(number: int) -> ArtifactRef:
    return ArtifactRef("org", "wandb-registry-model", "search", f"v{number}", f"digest{number}", "model")


def report_of(number: int) -> Seen:
    """Return what is stored once the move to a version is reported."""
    return observe_change(TARGET, BEFORE, version(number))[0]


class Table:
    """A reader of aliases that are all held by the same version."""

    def __init__(self) -> None:
        self.held = version(1)
        self.completing = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.seconds = 0.0

    def read(
        self, targets: Collection[Any], strict: Collection[Any] = (), anew: bool = False
    ) -> Mapping[Any, Any]:
        return {target: Observation(self.held) for target in targets}

    def complete(self, ref: ArtifactRef) -> ArtifactRef:
        self.completing.set()
        assert self.go_on.wait(60)
        time.sleep(self.seconds)
        return ref._replace(url=f"https://wandb.example/{ref.version}")

    def close(self) -> None:
        """Nothing is open."""


class Tabled(WandbRegistryAliasTrigger):
    """A trigger that reads from a table."""

    table: Table

    def reader(self) -> Any:
        return self.table


@pytest.fixture
def table() -> Table:
    Tabled.table = Table()
    return Tabled.table


@pytest.fixture
def watcher(table: Table, store: Any) -> Callable[..., Any]:
    """``watcher()`` watches an alias that has moved since it was last reported; one read tells that."""
    store.values[seen_key(TARGET)] = json.dumps(BEFORE.to_json())

    def make(accessors: Any = None) -> Tabled:
        names = {"registry": "model", "collection": "search", "alias": "production"}
        watching = Tabled(**names, mode="watch", poll_interval=600.0)
        watching.asset_state_store = accessors or store.accessors()
        return watching

    return make


def stored(store: Any, key: str) -> Any:
    return json.loads(store.values[key]) if key in store.values else None


def renewing() -> list[Any]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "wandb-airflow-claim"]


async def end(running: asyncio.Task[Any]) -> None:
    running.cancel()
    await asyncio.wait([running])


def test_a_change_is_not_claimed_while_its_source_is_still_looked_up(
    table: Table, watcher: Any, store: Any, triggerer: Any, until: Any
) -> None:
    table.go_on.clear()
    reported, accessors = report_of(1).to_json(), store.accessors()

    async def scenario() -> None:
        running = asyncio.create_task(triggerer.run(1, watcher(accessors)))
        await until(table.completing.is_set)
        assert stored(store, claim_key(TARGET, "poll")) is None
        # A webhook is faster meanwhile: nobody keeps it from that.
        store.values[seen_key(TARGET)] = json.dumps(reported)
        asked = accessors.aget.await_count
        table.go_on.set()
        await until(lambda: accessors.aget.await_count > asked)
        for _ in range(100):
            await asyncio.sleep(0)
        await end(running)

    asyncio.run(scenario())
    assert triggerer.events[1] == []
    assert stored(store, seen_key(TARGET)) == reported


def test_a_claim_is_renewed_for_as_long_as_airflow_takes_to_confirm_the_event(
    monkeypatch: pytest.MonkeyPatch, watcher: Any, store: Any, triggerer: Any, until: Any
) -> None:
    monkeypatch.setattr(change, "CLAIM_SECONDS", 0.3)
    # Airflow confirms the event of none, as while another trigger of the stream is still busy with the same read.
    triggerer.stores = False

    def claim() -> Claim:
        found = Claim.from_json(stored(store, claim_key(TARGET, "poll")))
        assert found is not None
        return found

    async def scenario() -> None:
        running = asyncio.create_task(triggerer.run(1, watcher()))
        await until(lambda: bool(triggerer.events.get(1)))
        first = claim()
        await until(lambda: claim().at > first.at + 2 * change.CLAIM_SECONDS)
        assert claim()._replace(at=first.at) == first
        assert stored(store, seen_key(TARGET)) == BEFORE.to_json()
        await end(running)
        # A watcher that has ended holds nothing any more.
        await until(lambda: not renewing())

    asyncio.run(scenario())
    assert len(triggerer.events[1]) == 1


def test_what_could_not_be_stored_is_stored_soon_and_its_claim_is_held_until_then(
    monkeypatch: pytest.MonkeyPatch, watcher: Any, store: Any, triggerer: Any, until: Any
) -> None:
    monkeypatch.setattr(poll, "_HURRY_SECONDS", 0.05)
    accessors = store.accessors()
    write, held = accessors.aset.side_effect, []

    async def locked_at_first(key: str, value: Any) -> None:
        if key == seen_key(TARGET) and len(held) < 3:
            held.append(len(renewing()))
            raise store.broken if len(held) < 3 else RuntimeError("nobody expected this")
        await write(key, value)

    accessors.aset.side_effect = locked_at_first

    async def scenario() -> None:
        running = asyncio.create_task(triggerer.run(1, watcher(accessors)))
        # Without a hurry the next read would come in ten minutes.
        await until(lambda: stored(store, seen_key(TARGET)) == report_of(1).to_json())
        await until(lambda: not renewing())
        await end(running)

    asyncio.run(scenario())
    assert held == [1, 1, 1]
    assert len(triggerer.events[1]) == 1


def test_what_was_dropped_because_another_trigger_failed_is_stored_with_the_next_read(
    monkeypatch: pytest.MonkeyPatch, watcher: Any, store: Any, triggerer: Any, until: Any
) -> None:
    monkeypatch.setattr(poll, "_HURRY_SECONDS", 0.05)
    settle, settled = Poll.settle, []

    async def one_failed_at_first(self: Poll, read: int, *, persisted: bool) -> None:
        settled.append(read)
        await settle(self, read, persisted=persisted and len(settled) > 1)

    monkeypatch.setattr(Poll, "settle", one_failed_at_first)

    async def scenario() -> None:
        running = asyncio.create_task(triggerer.run(1, watcher()))
        await until(lambda: bool(triggerer.events.get(1)))
        await until(lambda: stored(store, seen_key(TARGET)) == report_of(1).to_json())
        await end(running)

    asyncio.run(scenario())
    assert len(settled) > 1
    assert len(triggerer.events[1]) == 1


def test_what_is_stored_is_never_replaced_by_what_is_older(store: Any) -> None:
    later = Seen("v2", "digest2", 6)

    async def scenario() -> tuple[bool, Any, bool]:
        memory = AliasMemory(store.accessors(), TARGET)
        assert await memory.recall() is None
        # A webhook is faster than the watcher's very first report.
        store.values[seen_key(TARGET)] = json.dumps(later.to_json())
        kept = await memory.keep(Seen("v1", "digest1", 0))
        taken_up = await memory.reported_elsewhere(Seen("v1", "digest1", 0))
        return kept, taken_up, memory.is_to_keep(later)

    assert asyncio.run(scenario()) == (True, later, False)
    assert stored(store, seen_key(TARGET)) == later.to_json()


def test_one_trigger_whose_report_cannot_be_stored_keeps_no_other_from_it(table: Table) -> None:
    kept: list[str] = []

    async def broken() -> bool:
        raise RuntimeError("nobody expected this")

    async def works() -> bool:
        kept.append("kept")
        return True

    async def scenario() -> None:
        shared = Poll(table, on_idle=lambda: None)
        with shared.join("a", 1, hurry=True) as first, shared.join("b", 1, hurry=True) as second:
            shared.when_persisted(first, 1, broken)
            shared.when_persisted(second, 1, works)
            await shared.settle(1, persisted=True)

    asyncio.run(scenario())
    assert kept == ["kept"]


@pytest.mark.parametrize("mode", ["wait", "watch"])
def test_hundreds_of_moves_at_once_end_no_trigger(
    monkeypatch: pytest.MonkeyPatch, table: Table, triggerer: Any, until: Any, mode: str
) -> None:
    from airflow.triggers.shared_stream import SharedStreamManager

    # In proportion to a real one: Airflow gives up after 300 s, a trigger after 120, and a source takes half a second.
    monkeypatch.setattr(shared_poll, "_COMPLETE_SECONDS", 0.5)
    triggerer.manager = SharedStreamManager(ack_timeout=15.0)
    table.seconds = 0.1

    async def scenario() -> list[Any]:
        moved = [
            Tabled(registry="model", collection="search", alias=f"a{number}", mode=mode, first="fire")  # type: ignore[arg-type]
            for number in range(300)
        ]
        running = [asyncio.create_task(triggerer.run(number, one)) for number, one in enumerate(moved)]
        await until(lambda: sum(map(len, triggerer.events.values())) == 300 or any(map(failed, running)))
        ended = [task for task in running if failed(task)]
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        return ended

    def failed(task: asyncio.Task[Any]) -> bool:
        return task.done() and not task.cancelled() and task.exception() is not None

    assert asyncio.run(scenario()) == []
    payloads = [event for (event,) in triggerer.events.values()]
    urls = [(payload.get("value") or payload)["url"] for payload in payloads]
    # Of how many there was time to tell it depends on the machine.
    assert not all(urls)
