"""One poll loop for all triggers that wait for things of one connection and place."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.triggers.helper_thread import HelperThread
from wandb_airflow_provider.waiting.decision import next_delay

__all__ = ["Membership", "Poll", "Reader", "Snapshot", "poll_of"]

log = logging.getLogger(__name__)

# Triggers start one after the other: the first read waits so long for those that come along with its cause.
_GATHER_SECONDS = 0.1
# How long the last trigger waits for what reading needed to be given back.
_REST_SECONDS = 5.0
# A reader in a hurry brings the next read forward, at most this often.
_HURRY_SECONDS = 5.0


class Reader(Protocol):
    """Reads W&B. Its methods block, and are called in one thread, one at a time."""

    def read(self, targets: Collection[Any], strict: Collection[Any], anew: bool) -> Mapping[Any, Any]:
        """
        Return an observation of each target; an error is an observation too.

        :param anew: Somebody asks for the first time, who shall not get the answer of an earlier read.
        """

    def complete(self, ref: ArtifactRef) -> ArtifactRef:
        """Return the reference with its URL and source run."""

    def close(self) -> None:
        """Give back what reading needed."""


class Snapshot(NamedTuple):
    """
    The latest observation of every target.

    :param read: Number of the read that it comes from.
    """

    read: int
    observed: Mapping[Any, Any]

    def news_for(self, member: Membership) -> Any | None:
        """Return the observation of a trigger's target; None when it was read before the trigger asked for it."""
        return self.observed.get(member.target) if self.read > member.since_read else None


class Membership(NamedTuple):
    """
    One trigger's interest.

    :param poll_interval: Seconds between two reads; the shortest one of all counts.
    :param hurry: The trigger has not looked itself: it shall not wait for the next read of all.
    :param strict: Whether the place where the target would be does not exist shall be told with each read.
    :param every_read: An unchanged observation is of interest, too.
    :param since_read: Number of the last read that began before the trigger joined.
    """

    target: Hashable
    poll_interval: float
    hurry: bool
    strict: bool
    every_read: bool
    since_read: int


class Poll:
    """
    What triggers with an equal key share. Belongs to one event loop.

    It outlives the loop of reads that serves it: Airflow may end a shared loop and start the next one while
    triggers come and go, and one that joined during the old loop must be known to the new one.
    """

    def __init__(self, reader: Reader, on_idle: Callable[[], None]) -> None:
        self._reader = reader
        self._on_idle = on_idle
        self._thread: HelperThread | None = None
        self._ending: HelperThread | None = None
        self._uses = 0
        self._members: dict[int, Membership] = {}
        self._joined = asyncio.Event()
        self._fresh = False
        self._hurry = False
        self._reads = 0
        self._unconfirmed: dict[int, list[tuple[Membership, Callable[[], Awaitable[bool]]]]] = {}

    @contextmanager
    def join(
        self,
        target: Hashable,
        poll_interval: float,
        *,
        hurry: bool,
        strict: bool = False,
        every_read: bool = False,
    ) -> Iterator[Membership]:
        """Have the target read until the block ends."""
        member = Membership(target, poll_interval, hurry, strict, every_read, self._reads)
        with self._use():
            self._members[id(member)] = member
            self._fresh = True
            self._hurry = self._hurry or hurry
            self._joined.set()
            try:
                yield member
            finally:
                del self._members[id(member)]

    def when_persisted(self, member: Membership, read: int, keep: Callable[[], Awaitable[bool]]) -> None:
        """
        Have ``keep`` called once Airflow has stored the events that the trigger made of a snapshot.

        It may never be: whoever needs it asks with each read, until ``keep`` was called and has returned true.
        """
        self._unconfirmed.setdefault(read, []).append((member, keep))

    async def settle(self, read: int, *, persisted: bool) -> None:
        """
        Call what waits for the events of a snapshot to be stored, or drop it; never raises.

        What then is not kept is asked for with the next read, which comes soon.
        """
        for member, keep in self._unconfirmed.pop(read, ()):
            if id(member) in self._members and not (persisted and await _is_kept(keep)):
                self._hurry = True
                self._joined.set()

    async def complete(self, ref: ArtifactRef) -> ArtifactRef:
        """Return the reference with its URL and source run."""
        full: ArtifactRef = await self._call(self._reader.complete, ref)
        return full

    async def rest(self) -> None:
        """Wait a few seconds for what reading needed to be given back, if nobody reads any more."""
        if self._ending is not None:
            await self._ending.ended(_REST_SECONDS)

    async def snapshots(self) -> AsyncGenerator[Snapshot, None]:
        """
        Yield a snapshot after each read that found something new or that a trigger asks for, for ever.

        A read that fails is an observation too, and slows the loop down.
        """
        known: dict[Any, Any] = {}
        failures = 0
        with self._use():
            while True:
                while not self._members:
                    await self._wait(None)
                await asyncio.sleep(min(_GATHER_SECONDS, self._interval / 10))
                fresh, began = self._begin()
                found = await self._call(self._reader.read, *self._targets(), fresh)
                # An equal observation stays the same object, by which a trigger knows that nothing is new to it.
                latest = {key: known[key] if known.get(key) == seen else seen for key, seen in found.items()}
                changed = any(latest[key] is not known.get(key) for key in latest)
                known = latest
                # One target that W&B refuses slows nobody down: what concerns all fails all.
                failed = all(seen.error is not None for seen in known.values())
                failures = failures + 1 if failed else 0
                if fresh or changed or any(member.every_read for member in self._members.values()):
                    yield Snapshot(began, known)
                await self._pause(time.monotonic(), failures)

    def _begin(self) -> tuple[bool, int]:
        fresh, self._fresh = self._fresh, False
        self._hurry = False
        self._joined.clear()
        self._reads += 1
        return fresh, self._reads

    def _targets(self) -> tuple[list[Any], frozenset[Any]]:
        members = self._members.values()
        strict = frozenset(member.target for member in members if member.strict)
        return list(Counter(member.target for member in members)), strict

    @property
    def _interval(self) -> float:
        return min((member.poll_interval for member in self._members.values()), default=1.0)

    async def _pause(self, ended: float, failures: int) -> None:
        """Wait until the next read is due; who joins may bring it forward, unless reading fails."""
        jitter = random.random()  # noqa: S311
        while self._members:
            seconds = next_delay(self._interval, failures, jitter)
            if self._hurry and not failures:
                seconds = min(seconds, _HURRY_SECONDS)
            left = ended + seconds - time.monotonic()
            if left <= 0:
                return
            await self._wait(left)

    async def _wait(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._joined.wait()
        self._joined.clear()

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._thread is None:
            self._thread = HelperThread("wandb-airflow-poll")
        return await self._thread.call(function, *arguments)

    @contextmanager
    def _use(self) -> Iterator[None]:
        self._uses += 1
        try:
            yield
        finally:
            self._uses -= 1
            if not self._uses:
                self._on_idle()
                if self._thread is not None:
                    self._thread.end(self._reader.close)
                    self._ending, self._thread = self._thread, None


async def _is_kept(keep: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await keep()
    except Exception:
        # The others are to be kept all the same.
        log.exception("What a trigger has reported could not be stored; trying again")
        return False


_polls: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Poll]] = WeakKeyDictionary()


def poll_of(key: Hashable, make_reader: Callable[[], Reader]) -> Poll:
    """Return what triggers with this key share on the running event loop."""
    polls = _polls.setdefault(asyncio.get_running_loop(), {})

    def forget() -> None:
        polls.pop(key, None)

    if key not in polls:
        polls[key] = Poll(make_reader(), on_idle=forget)
    return polls[key]
