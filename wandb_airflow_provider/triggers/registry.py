"""Wait for, or watch, an alias of a W&B registry in the triggerer."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Hashable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.registry import RegistryAlias

if TYPE_CHECKING:
    from wandb_airflow_provider.triggers.alias_stream import Snapshot
    from wandb_airflow_provider.waiting import Decision, Observation, Seen

__all__ = ["WandbRegistryAliasTrigger"]

log = logging.getLogger(__name__)

DEFAULT_POLL_INTERVAL = 60.0

# How often a state store that does not answer is asked before the watcher goes on without it.
_RECALL_ATTEMPTS = 3


class WandbRegistryAliasTrigger(BaseEventTrigger):
    """
    Observe an alias of a registry collection.

    In mode ``watch``, behind an ``AssetWatcher``, it sends an event each time the alias is added, moved or
    removed, for ever, and never fails: what is wrong is logged once, and tried again more slowly. What it has
    last reported is kept in Airflow's asset state store (3.3), so that a change made while no triggerer ran is
    still reported; it is stored after the event is sent, so that an event may repeat, with an equal
    ``idempotency_key``. In mode ``wait``, behind the sensor, it sends one event and ends.

    On Airflow 3.3 all triggers of one connection and interval share one poll loop.

    :param registry: Name of the registry, without the prefix of its project.
    :param wandb_conn_id: Airflow connection; only its id is stored with the trigger.
    :param poll_interval: Seconds between two reads.
    :param first: In mode ``watch``, whether an alias that is held at the first observation ever is taken as
        given (``baseline``) or reported as added (``fire``).
    :param digest: In mode ``wait``, only content with this digest ends it.
    :param not_version: In mode ``wait``, this version does not end it.
    :param end_time: In mode ``wait``, the deadline in seconds since the epoch; None waits for ever.
    """

    asset_state_store: Any = None

    def __init__(
        self,
        *,
        registry: str,
        collection: str,
        alias: str,
        wandb_conn_id: str = DEFAULT_CONN_ID,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        mode: Literal["wait", "watch"] = "watch",
        first: Literal["baseline", "fire"] = "baseline",
        digest: str | None = None,
        not_version: str | None = None,
        end_time: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if mode not in ("wait", "watch"):
            raise WandbConfigurationError(f"mode is {mode!r}; expected 'wait' or 'watch'.")
        if first not in ("baseline", "fire"):
            raise WandbConfigurationError(f"first is {first!r}; expected 'baseline' or 'fire'.")
        if isinstance(poll_interval, bool) or not (
            isinstance(poll_interval, int | float) and 0 < poll_interval < math.inf
        ):
            raise WandbConfigurationError(
                f"poll_interval must be more than 0 seconds, got {poll_interval!r}."
            )
        self.target = RegistryAlias(registry, collection, alias)
        self.wandb_conn_id = wandb_conn_id
        self.poll_interval = float(poll_interval)
        self.mode = mode
        self.first: Literal["baseline", "fire"] = first
        self.digest = digest
        self.not_version = not_version
        self.end_time = end_time
        self._failing = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments; no secret is among them."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                **self.target.to_json(),
                "wandb_conn_id": self.wandb_conn_id,
                "poll_interval": self.poll_interval,
                "mode": self.mode,
                "first": self.first,
                "digest": self.digest,
                "not_version": self.not_version,
                "end_time": self.end_time,
            },
        )

    def shared_stream_key(self) -> Hashable:
        """All aliases of one connection, read at the same interval, share a poll loop."""
        return self._stream_key(self.wandb_conn_id, self.poll_interval)

    @staticmethod
    def _stream_key(wandb_conn_id: str, poll_interval: float) -> Hashable:
        return ("wandb_airflow_provider.registry", wandb_conn_id, poll_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncGenerator[Snapshot, None]:
        """Poll for all readers of the stream."""
        from wandb_airflow_provider.triggers.alias_stream import interests_of, poll_aliases

        conn_id, interval = kwargs["wandb_conn_id"], kwargs["poll_interval"]
        interests = interests_of(cls._stream_key(conn_id, interval))
        async with aclosing(poll_aliases(conn_id, interval, interests)) as stream:
            async for snapshot in stream:
                yield snapshot

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[Snapshot]
    ) -> AsyncGenerator[TriggerEvent, None]:
        """Turn the shared snapshots into this trigger's events."""
        from wandb_airflow_provider.triggers.alias_stream import interests_of

        with interests_of(self.shared_stream_key()).register(self.target):
            async with aclosing(self._events(shared_stream)) as events:
                async for event in events:
                    yield event

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Poll for this trigger alone: Airflow before 3.3 knows no shared streams."""
        from wandb_airflow_provider.triggers.alias_stream import Interests, poll_aliases

        interests = Interests()
        with interests.register(self.target):
            stream = poll_aliases(self.wandb_conn_id, self.poll_interval, interests)
            async with aclosing(stream), aclosing(self._events(stream)) as events:
                async for event in events:
                    yield event

    async def _events(self, stream: AsyncIterator[Snapshot]) -> AsyncGenerator[TriggerEvent, None]:
        if self.mode == "wait":
            yield _event((await self._wait(stream)).to_json())
            return
        async with aclosing(self._watch(stream)) as events:
            async for event in events:
                yield event

    async def _wait(self, stream: AsyncIterator[Snapshot]) -> Decision:
        from wandb_airflow_provider.waiting import AliasWish, decide

        wish = AliasWish(self.digest, self.not_version)
        end_time = math.inf if self.end_time is None else self.end_time
        observed: Observation | None = None
        while True:
            now = time.time()
            decision = decide(self.target, wish, observed, now=now, end_time=end_time)
            if decision.status != "wait":
                return decision
            try:
                snapshot = await asyncio.wait_for(
                    anext(stream), None if self.end_time is None else self.end_time - now
                )
            except TimeoutError:
                return decide(self.target, wish, observed, now=end_time, end_time=end_time)
            if self.target in snapshot:
                observed = snapshot[self.target]
                self._log_outage(observed)

    async def _watch(self, stream: AsyncIterator[Snapshot]) -> AsyncGenerator[TriggerEvent, None]:
        from wandb_airflow_provider.waiting import observe_change

        memory = _Memory(self.asset_state_store, self.target)
        seen: Seen | None = None
        async for snapshot in stream:
            observed = snapshot.get(self.target)
            if observed is None:
                continue
            self._log_outage(observed)
            if observed.error is not None:
                continue
            if not memory.recalled:
                seen = await memory.recall()
                if not memory.recalled:
                    continue
            after, change = observe_change(self.target, seen, observed.ref, first=self.first)
            if change is not None:
                yield _event(change.to_json())
            if after != seen:
                seen = after
                await memory.keep(seen)

    def _log_outage(self, observed: Observation) -> None:
        """Say once when reading begins to fail, and once when it works again."""
        if observed.error is not None and not self._failing:
            self.log.warning("The alias %s cannot be read; trying again. %s", self.target, observed.error)
        elif observed.error is None and self._failing:
            self.log.info("The alias %s can be read again.", self.target)
        self._failing = observed.error is not None


def _event(payload: dict[str, Any]) -> TriggerEvent:
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]


class _Memory:
    """
    What a watcher has last reported, kept in Airflow's asset state store when there is one.

    A store that does not answer never ends the watching: it is asked again, and after some attempts the
    watcher goes on with what it sees from then on.
    """

    def __init__(self, store: Any, target: RegistryAlias) -> None:
        self._store = store
        self._key = f"wandb_alias:{target}"
        self._attempts = _RECALL_ATTEMPTS
        self.recalled = store is None

    async def recall(self) -> Seen | None:
        """Return what was last reported; ``recalled`` tells whether the answer can be relied on."""
        from wandb_airflow_provider.waiting import Seen

        try:
            stored = await self._store.aget(self._key)
        except (AirflowRuntimeError, ValueError) as error:
            self._attempts -= 1
            self.recalled = not self._attempts
            log.warning("What was last reported for %s cannot be read from Airflow: %s", self._key, error)
            return None
        self.recalled = True
        return Seen.from_json(stored)

    async def keep(self, seen: Seen) -> None:
        """Store what is now reported."""
        if self._store is None:
            return
        try:
            await self._store.aset(self._key, seen.to_json())
        except (AirflowRuntimeError, ValueError) as error:
            log.warning(
                "What was reported for %s cannot be stored in Airflow; after a restart it may be reported again, "
                "and changes made meanwhile may be missed: %s",
                self._key,
                error,
            )
