"""The loop of reads, with a reader that needs no W&B."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from structlog.testing import capture_logs

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbError,
    WandbPermanentError,
    WandbUnavailableError,
)
from wandb_airflow_provider.triggers import poll
from wandb_airflow_provider.triggers.helper_thread import HelperThread
from wandb_airflow_provider.triggers.local_stream import local_stream
from wandb_airflow_provider.triggers.poll import Poll, poll_of
from wandb_airflow_provider.triggers.reader import WandbReader
from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger
from wandb_airflow_provider.waiting.alias import Observation


class Table:
    """A reader that tells what is in a table."""

    def __init__(self) -> None:
        self.held: dict[Any, str] = {}
        self.reads: list[list[str]] = []
        self.closed = 0

    def read(
        self, targets: Collection[str], strict: Collection[str] = (), anew: bool = False
    ) -> Mapping[str, Any]:
        self.reads.append(sorted(targets))
        return {target: Observation(missing=self.held.get(target)) for target in targets}

    def complete(self, ref: ArtifactRef) -> ArtifactRef:
        return ref

    def close(self) -> None:
        self.closed += 1


async def ends(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def test_an_unchanged_read_wakes_nobody_unless_every_read_is_asked_for() -> None:
    async def scenario(every_read: bool) -> int:
        table, snapshots = Table(), 0
        poll = Poll(table, on_idle=lambda: None)
        with poll.join("a", 0.01, hurry=True, every_read=every_read):

            async def listen() -> None:
                nonlocal snapshots
                async for _ in poll.snapshots():
                    snapshots += 1

            listening = asyncio.create_task(listen())
            await ends(lambda: len(table.reads) >= 6)
            listening.cancel()
            await asyncio.wait([listening])
        return snapshots

    assert asyncio.run(scenario(False)) == 1
    assert asyncio.run(scenario(True)) >= 4


def test_a_trigger_is_told_only_what_was_read_after_it_joined() -> None:
    async def scenario() -> list[Any]:
        poll = Poll(Table(), on_idle=lambda: None)
        with poll.join("a", 0.01, hurry=True):
            async with aclosing(poll.snapshots()) as snapshots:
                before = await anext(snapshots)
                with poll.join("a", 0.01, hurry=False) as late:
                    after = await anext(snapshots)
                    return [before.news_for(late), after.news_for(late)]

    before, after = asyncio.run(scenario())
    assert before is None
    assert after == Observation()


def test_what_a_trigger_reported_is_kept_once_it_is_stored_and_only_while_the_trigger_lives() -> None:
    kept: list[str] = []

    def keep(name: str) -> Callable[[], Any]:
        async def keep() -> bool:
            kept.append(name)
            return True

        return keep

    async def scenario() -> None:
        poll = Poll(Table(), on_idle=lambda: None)
        with poll.join("a", 1, hurry=True) as member:
            poll.when_persisted(member, 1, keep("stored"))
            poll.when_persisted(member, 2, keep("not stored"))
            await poll.settle(1, persisted=True)
            await poll.settle(2, persisted=False)
            await poll.settle(2, persisted=True)
            poll.when_persisted(member, 3, keep("gone"))
        await poll.settle(3, persisted=True)

    asyncio.run(scenario())
    assert kept == ["stored"]


def test_a_target_that_w_and_b_refuses_slows_no_other_down() -> None:
    class Partly(Table):
        def read(
            self, targets: Collection[str], strict: Collection[str] = (), anew: bool = False
        ) -> Mapping[str, Any]:
            refused = Observation(error=WandbPermanentError("refused"))
            return {**super().read(targets, strict), "refused": refused}

    async def scenario() -> None:
        table = Partly()
        poll = Poll(table, on_idle=lambda: None)
        with poll.join("refused", 0.01, hurry=True), poll.join("a", 0.01, hurry=True):
            async with aclosing(local_stream(poll)) as stream:
                await anext(stream)
                # Each failure in a row doubles the interval: backing off, this would take minutes.
                await ends(lambda: len(table.reads) >= 15)

    asyncio.run(scenario())


def test_the_reader_is_closed_once_when_the_last_one_leaves() -> None:
    async def scenario() -> Table:
        table = Table()
        poll = poll_of("key", lambda: table)
        assert poll_of("key", Table) is poll
        with poll.join("a", 0.01, hurry=True):
            for _ in range(3):
                async with aclosing(local_stream(poll)) as stream:
                    await anext(stream)
            assert table.closed == 0
        assert poll_of("key", Table) is not poll
        await ends(lambda: table.closed > 0)
        return table

    assert asyncio.run(scenario()).closed == 1


def test_a_slow_listener_gets_the_latest_snapshot_and_delays_nobody() -> None:
    async def scenario() -> tuple[int, Any]:
        table = Table()
        poll = Poll(table, on_idle=lambda: None)
        with poll.join("a", 0.01, hurry=True, every_read=True):
            async with aclosing(local_stream(poll)) as slow, aclosing(local_stream(poll)) as quick:
                await asyncio.gather(anext(slow), anext(quick))
                for number in range(5):
                    table.held["a"] = str(number)
                    async for snapshot in quick:
                        if snapshot.observed["a"].missing == str(number):
                            break
                return len(table.reads), (await anext(slow)).observed["a"].missing

    reads, latest = asyncio.run(scenario())
    assert reads >= 6
    assert latest == "4"


class Slow(Table):
    """A reader that takes its time to give back what it needed."""

    def close(self) -> None:
        time.sleep(0.3)
        super().close()


class Alone(WandbRegistryAliasTrigger):
    """A trigger that ends with the first read."""

    table = Slow()

    def reader(self) -> Any:
        self.table.held[self.target] = "no such collection"
        return self.table


def test_a_trigger_that_airflow_runs_alone_has_given_back_its_client_when_it_ends() -> None:
    trigger = Alone(registry="model", collection="search", alias="production", mode="wait", missing="fail")

    async def first_event() -> Any:
        # As ``dag.test()`` does, whose next task then runs in this process.
        return await anext(trigger.run())

    assert asyncio.run(first_event()).payload["reason"] == "not_found"
    assert trigger.table.closed == 1


class Hasty(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer, where others wait for it."""

    class _Selector(selectors.SelectSelector):
        jumped = 0.0

        def select(self, timeout: float | None = None) -> Any:
            if timeout is None:
                return super().select()
            found = super().select(0)
            self.jumped += 0.0 if found else timeout
            return found

    def __init__(self) -> None:
        self._clock = self._Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return super().time() + self._clock.jumped


class Outage(Table):
    """W&B holds an alias, fails from the third read on, and has moved the alias when it is back."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.times: list[float] = []
        self.read_again = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def failing(self) -> list[float]:
        """Return the times of the reads that failed, from the first of them on."""
        return [at - self.times[2] for at in self.times[2:] if at - self.times[2] < self.seconds]

    def read(
        self, targets: Collection[Any], strict: Collection[Any] = (), anew: bool = False
    ) -> Mapping[Any, Any]:
        self.times.append(self.loop.time())
        self.loop.call_soon_threadsafe(self.read_again.set)
        if len(self.times) > 2 and self.times[-1] - self.times[2] < self.seconds:
            return {target: Observation(error=WandbUnavailableError("503")) for target in targets}
        version = "v0" if len(self.times) < 3 else "v1"
        held = ArtifactRef("org", "wandb-registry-model", "search", version, f"digest {version}", "model")
        return {target: Observation(held) for target in targets}


class DuringAnOutage(WandbRegistryAliasTrigger):
    """A trigger that reads from a table."""

    outage: Outage

    def reader(self) -> Any:
        return self.outage


def test_ten_minutes_without_w_and_b_fail_nobody_cost_few_reads_and_hide_no_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr(poll, "time", clock)
    names = {"registry": "model", "collection": "search", "alias": "production", "poll_interval": 2.0}

    async def scenario() -> tuple[Outage, Any, Any]:
        DuringAnOutage.outage = outage = Outage(600.0)
        waiter = DuringAnOutage(**names, mode="wait", until="moved").run()
        watcher = DuringAnOutage(**names, mode="watch").run()
        async with aclosing(waiter), aclosing(watcher):
            waiting, watching = (asyncio.ensure_future(anext(events)) for events in (waiter, watcher))
            while len(outage.times) < 4 or outage.times[-1] - outage.times[2] < outage.seconds:
                assert not waiting.done()
                assert not watching.done()
                await outage.read_again.wait()
                outage.read_again.clear()
            return outage, (await waiting).payload, (await watching).payload

    with asyncio.Runner(loop_factory=Hasty) as runner, capture_logs() as lines:
        outage, waited, watched = runner.run(scenario())
    # 4, 8, 16, 32, 64 seconds, and then 2 minutes apart.
    assert 8 <= len(outage.failing()) <= 10
    assert outage.times[-1] - outage.times[2] < outage.seconds + 140
    assert (waited["status"], waited["value"]["version"]) == ("done", "v1")
    assert (watched["change"], watched["previous_version"], watched["version"]) == ("moved", "v0", "v1")
    told = [line["log_level"] for line in lines if "cannot be read" in line["event"]]
    assert told == ["warning", "warning"]


class Refusing(WandbReader):
    """W&B refuses some targets, whatever they are asked for with."""

    observation = Observation

    def __init__(self, refused: Collection[str], error: type[BaseException] = WandbPermanentError) -> None:
        super().__init__("wandb_default")
        self.refused = refused
        self.error = error
        self.reads = 0

    def _read(self, hook: Any, targets: Sequence[str], strict: Collection[str]) -> Mapping[str, Any]:
        self.reads += 1
        if set(targets) & set(self.refused):
            raise self.error(f"refused: {targets}")
        return dict.fromkeys(targets, Observation())


@pytest.fixture
def names() -> list[str]:
    return [f"t{number}" for number in range(1000)]


def test_a_target_that_w_and_b_refuses_fails_alone(names: list[str]) -> None:
    reader = Refusing({"t17"})
    found = reader.read(names)
    assert {name for name, seen in found.items() if seen.error} == {"t17"}
    assert reader.reads < 25
    # Nor is it looked for again with each read.
    reads = reader.reads
    assert reader.read(names) == found
    assert reader.reads == reads + 1
    # Who joins later, after somebody saw to it, does not get the old answer.
    reader.refused = ()
    assert reader.read(names)["t17"].error is not None
    assert reader.read(names, (), True)["t17"].error is None
    reader.close()


def test_many_refused_targets_do_not_become_many_requests(names: list[str]) -> None:
    reader = Refusing(names)
    found = reader.read(names)
    assert reader.reads <= 70
    assert all(isinstance(seen.error, WandbUnavailableError) for seen in found.values())
    reader.close()


def test_wandb_giving_up_its_process_ends_neither_the_thread_nor_the_loop(names: list[str]) -> None:
    reader = Refusing(names, SystemExit)
    assert isinstance(reader.read(names)["t0"].error, WandbUnavailableError)
    reader.close()

    def leave() -> None:
        raise SystemExit(1)

    async def scenario() -> str:
        thread = HelperThread("test")
        with pytest.raises(RuntimeError, match="SystemExit"):
            await thread.call(leave)
        try:
            return await thread.call(lambda: "still there")
        finally:
            thread.end(lambda: None)

    assert asyncio.run(scenario()) == "still there"


def test_a_call_that_asks_airflow_s_supervisor_does_so_on_the_loop_of_the_triggerer() -> None:
    async def ask() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def scenario() -> bool:
        thread = HelperThread("test")
        try:
            # As Airflow 3.1 does for a connection; on another loop it would read the answers meant for others.
            return await thread.call(lambda: async_to_sync(ask)()) is asyncio.get_running_loop()
        finally:
            thread.end(lambda: None)

    assert asyncio.run(scenario())


def test_a_cancelled_trigger_leaves_no_answer_of_the_supervisor_unread() -> None:
    asked, answered = threading.Event(), threading.Event()

    async def ask() -> None:
        asked.set()
        await asyncio.sleep(0.2)
        answered.set()

    async def scenario() -> bool:
        thread = HelperThread("test")
        try:
            waiting = asyncio.ensure_future(thread.call(lambda: async_to_sync(ask)()))
            await asyncio.to_thread(asked.wait, 30)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            return await asyncio.to_thread(answered.wait, 30)
        finally:
            thread.end(lambda: None)

    assert asyncio.run(scenario())


def test_a_call_that_nobody_waits_for_any_more_is_not_made() -> None:
    busy, go_on, made = threading.Event(), threading.Event(), []

    def block() -> None:
        busy.set()
        go_on.wait(30)

    async def scenario() -> None:
        thread = HelperThread("test")
        try:
            first = asyncio.ensure_future(thread.call(block))
            await asyncio.to_thread(busy.wait, 30)
            given_up = asyncio.ensure_future(thread.call(made.append, "given up"))
            await asyncio.sleep(0)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            go_on.set()
            await first
            await thread.call(made.append, "wanted")
        finally:
            go_on.set()
            thread.end(lambda: None)

    asyncio.run(scenario())
    assert made == ["wanted"]


@pytest.mark.parametrize("error", [WandbAuthenticationError, WandbUnavailableError])
def test_an_error_of_the_connection_is_everybody_s_after_one_request(
    names: list[str], error: type[WandbError]
) -> None:
    reader = Refusing(names, error)
    found = reader.read(names)
    assert reader.reads == 1
    assert {type(seen.error) for seen in found.values()} == {error}
    reader.close()
