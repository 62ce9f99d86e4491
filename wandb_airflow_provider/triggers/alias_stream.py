"""One poll loop for all aliases that the triggers of one connection watch."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncGenerator, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

from wandb_airflow_provider.exceptions import WandbError, WandbUnavailableError
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.registry import RegistryAlias
from wandb_airflow_provider.waiting import Observation, next_delay

__all__ = ["Interests", "Snapshot", "interests_of", "poll_aliases"]

log = logging.getLogger(__name__)

Snapshot = Mapping[RegistryAlias, Observation]
"""The latest observation of every watched alias."""


class Interests:
    """
    Which aliases the readers of one stream wait for. Belongs to one event loop.

    It outlives the poll loop that serves it: Airflow may end a shared loop and start the next one while
    readers come and go, and an alias registered with the old loop must be known to the new one.
    """

    def __init__(self) -> None:
        self._readers: Counter[RegistryAlias] = Counter()
        self._fresh: set[RegistryAlias] = set()
        self._joined = asyncio.Event()

    @contextmanager
    def register(self, target: RegistryAlias) -> Iterator[None]:
        """Have the alias read, at once and then with all others, until the block ends."""
        self._readers[target] += 1
        self._fresh.add(target)
        self._joined.set()
        try:
            yield
        finally:
            self._readers[target] -= 1
            if not self._readers[target]:
                del self._readers[target]
                self._fresh.discard(target)

    def __contains__(self, target: object) -> bool:
        return target in self._readers

    def take(self, *, everything: bool) -> list[RegistryAlias]:
        """Return the aliases to read now: all, or those whose readers have joined since the last call."""
        targets = sorted(self._readers if everything else self._fresh)
        self._fresh.clear()
        self._joined.clear()
        return targets

    async def wait(self, seconds: float) -> None:
        """Wait until a reader joins, at most so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._joined.wait(), seconds)


_interests: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Interests]] = WeakKeyDictionary()


def interests_of(key: Hashable) -> Interests:
    """Return what the readers of a shared stream wait for, on the running event loop."""
    return _interests.setdefault(asyncio.get_running_loop(), {}).setdefault(key, Interests())


async def poll_aliases(
    wandb_conn_id: str, poll_interval: float, interests: Interests
) -> AsyncGenerator[Snapshot, None]:
    """
    Yield a snapshot after every read, for ever; a failing read is an observation too, and slows the loop down.

    :param poll_interval: Seconds between two reads of everything.
    """
    loop = asyncio.get_running_loop()
    reader = _AliasReader(wandb_conn_id)
    known: dict[RegistryAlias, Observation] = {}
    failures = 0
    next_full = loop.time()
    while True:
        full = loop.time() >= next_full
        due = interests.take(everything=full)
        if due:
            # W&B's client blocks: on the event loop it would stop every other trigger.
            found = await asyncio.to_thread(reader.read, due)
            known = {target: seen for target, seen in {**known, **found}.items() if target in interests}
        if full:
            failed = any(seen.error is not None for seen in known.values())
            failures = failures + 1 if failed else 0
            next_full = loop.time() + next_delay(poll_interval, failures, random.random())  # noqa: S311
        if due:
            yield dict(known)
        await interests.wait(max(0.0, next_full - loop.time()))


class _AliasReader:
    """Reads aliases one after the other with one client. Used by one thread at a time."""

    def __init__(self, wandb_conn_id: str) -> None:
        self._wandb_conn_id = wandb_conn_id
        self._hook: WandbHook | None = None

    def read(self, targets: Iterable[RegistryAlias]) -> dict[RegistryAlias, Observation]:
        """Return an observation of each alias; when W&B is out of reach, the rest is not tried."""
        found: dict[RegistryAlias, Observation] = {}
        outage: WandbUnavailableError | None = None
        for target in targets:
            observed = Observation(error=outage) if outage else self._observe(target)
            if isinstance(observed.error, WandbUnavailableError):
                outage = observed.error
            if observed.error is not None:
                # The next read starts from the Airflow connection, whose key may have been replaced.
                self._hook = None
            found[target] = observed
        return found

    def _observe(self, target: RegistryAlias) -> Observation:
        try:
            self._hook = self._hook or WandbHook(self._wandb_conn_id)
            return Observation(ref=self._hook.get_alias(target.registry, target.collection, target.alias))
        except WandbError as error:
            return Observation(error=error)
        except Exception as error:
            # A loop that dies is started again by Airflow every 5 seconds, without back-off.
            log.exception("Reading the alias %s through connection %r failed", target, self._wandb_conn_id)
            return Observation(
                error=WandbUnavailableError(
                    f"Reading the alias {target} through connection {self._wandb_conn_id!r} failed unexpectedly: "
                    f"{type(error).__name__}: {error}"
                )
            )
