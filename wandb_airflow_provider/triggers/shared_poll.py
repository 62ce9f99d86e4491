"""The part that all triggers of this package share: one poll loop for many, and waiting for one thing."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Hashable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbError

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.triggers.shared_stream import SharedStreamProducer

    from wandb_airflow_provider.triggers.poll import Membership, Poll, Snapshot
    from wandb_airflow_provider.triggers.reader import WandbReader
    from wandb_airflow_provider.waiting.decision import Decision

__all__ = [
    "BACKSTOP_SECONDS",
    "DEFAULT_POLL_INTERVAL",
    "News",
    "SharedPollTrigger",
    "event_of",
]

log = logging.getLogger(__name__)

DEFAULT_POLL_INTERVAL = 60.0
# The trigger keeps the deadline itself; Airflow's own, coarser one ends a deferral whose trigger is gone.
BACKSTOP_SECONDS = 60.0
# Airflow ends a trigger that sits on a snapshot for 5 minutes.
_COMPLETE_SECONDS = 120.0
_COMPLETE_AGAIN_SECONDS = 2.0


class News(NamedTuple):
    """
    A new observation of a trigger's target.

    :param read: Number of the read that it comes from.
    """

    read: int
    observed: Any


class SharedPollTrigger(BaseEventTrigger):
    """
    Wait for one thing in W&B, with one poll loop for all triggers that have an equal key.

    On Airflow 3.3 the triggerer shares the loop, on earlier releases this package does. Sends one event and ends.
    Wrong arguments are refused by :meth:`check`, which making a DAG calls; the constructor takes what it is given,
    because its errors would end Airflow's whole triggerer, again after each restart.

    :param wandb_conn_id: Airflow connection; only its id is stored with the trigger.
    :param poll_interval: Seconds between two reads; of all that share a loop, the shortest one counts.
    :param end_time: The deadline in seconds since the epoch. None: the end of the deferral, when the task started
        in the triggerer; without one, it waits for ever.
    :param looked: The task has looked itself before it was deferred: the trigger need not be in a hurry.
    """

    own: ClassVar[tuple[str, ...]] = ()
    """The names of the arguments that a subclass adds."""
    missing: Literal["wait", "fail"] = "wait"
    timeout_after: datetime | None = None

    def __init__(
        self,
        *,
        wandb_conn_id: str = DEFAULT_CONN_ID,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        end_time: float | None = None,
        looked: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wandb_conn_id = wandb_conn_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.looked = looked
        self._failing = False

    def check(self) -> None:
        """
        Refuse wrong arguments; what is still a template is checked once it is rendered.

        :raises WandbConfigurationError: an argument is wrong.
        """
        interval = self.poll_interval
        if isinstance(interval, bool) or not (isinstance(interval, int | float) and 0 < interval < math.inf):
            raise WandbConfigurationError(f"poll_interval must be more than 0 seconds, got {interval!r}.")
        if self.missing not in ("wait", "fail"):
            raise WandbConfigurationError(f"missing is {self.missing!r}; expected 'wait' or 'fail'.")
        if self._rendered:
            self.awaited()

    @property
    def _rendered(self) -> bool:
        """Whether no argument waits to be rendered, as it does where the task starts in the triggerer."""
        given = (getattr(self, name) for name in self.own)
        return not any(isinstance(value, str) and ("{{" in value or "{%" in value) for value in given)

    @abstractmethod
    def _place(self) -> tuple[str | None, ...]:
        """Return where the target is, beside the connection: what can be read together."""

    @abstractmethod
    def awaited(self) -> Hashable:
        """
        Return what is read.

        :raises WandbConfigurationError: the arguments name nothing that could be.
        """

    @abstractmethod
    def reader(self) -> WandbReader:
        """Return a reader for the targets of this place."""

    @abstractmethod
    def judge(self, observed: Any) -> Decision:
        """Return what a successful read of the target means."""

    @property
    def strict(self) -> bool:
        """Whether it matters that the place where the target would be does not exist."""
        return self.missing == "fail"

    @property
    def every_read(self) -> bool:
        """Whether an unchanged observation is news, too."""
        return False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """
        Return the class path and the arguments; no secret is among them.

        :raises WandbConfigurationError: an argument is wrong.
        """
        self.check()
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                **{name: getattr(self, name) for name in self.own},
                "wandb_conn_id": self.wandb_conn_id,
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                "looked": self.looked,
            },
        )

    def shared_stream_key(self) -> Hashable | None:
        """All triggers of one class, connection and place share a poll loop; one that is wrong shares none."""
        return self._key() if self._refusal() is None else None

    def _key(self) -> Hashable:
        return ("wandb_airflow_provider", type(self).__name__, self.wandb_conn_id, *self._place())

    def _refusal(self) -> WandbError | None:
        try:
            self.check()
        except WandbError as error:
            return error
        return None

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncGenerator[Snapshot, None]:
        """Poll for all triggers of the stream."""
        async with aclosing(cls(**kwargs).poll().snapshots()) as snapshots:
            async for snapshot in snapshots:
                yield snapshot

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Have Airflow tell when it has stored what the triggers made of a snapshot."""
        from wandb_airflow_provider.triggers.confirmed_stream import ConfirmedStream

        return ConfirmedStream(cls(**kwargs).poll)

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[Snapshot]
    ) -> AsyncGenerator[TriggerEvent, None]:
        """Turn the shared snapshots into this trigger's events."""
        poll = self.poll()
        with poll.join(
            self.awaited(),
            self.poll_interval,
            hurry=not self.looked,
            strict=self.strict,
            every_read=self.every_read,
        ) as member:
            news = _news(shared_stream, member)
            async with aclosing(news), aclosing(self._events(news, poll, member)) as events:
                async for event in events:
                    yield event

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Share the loop by this package, where Airflow does not: before 3.3."""
        if (refusal := self._refusal()) is not None:
            yield await self._refused(refusal)
            return
        from wandb_airflow_provider.triggers.local_stream import local_stream

        poll = self.poll()
        stream = local_stream(poll)
        try:
            async with aclosing(stream), aclosing(self.filter_shared_stream(stream)) as events:
                async for event in events:
                    yield event
        finally:
            # The next task of ``dag.test()`` runs in this process, and must not start the client that is just ended.
            await poll.rest()

    def poll(self) -> Poll:
        """Return what this trigger shares with others of its key."""
        from wandb_airflow_provider.triggers.poll import poll_of

        return poll_of(self._key(), self.reader)

    async def _refused(self, error: WandbError) -> TriggerEvent:
        """Return the event that tells what is wrong with the arguments."""
        from wandb_airflow_provider.waiting.decision import Decision, failure_reason

        return event_of(Decision("failed", failure_reason(error), str(error)).to_json())

    async def _events(
        self, news: AsyncGenerator[News, None], poll: Poll, member: Membership
    ) -> AsyncGenerator[TriggerEvent, None]:
        yield event_of((await self._wait(news, poll)).to_json())

    async def _wait(self, news: AsyncGenerator[News, None], poll: Poll) -> Decision:
        from wandb_airflow_provider.waiting.decision import settle

        end_time = self._deadline()
        left = None if end_time == math.inf else max(0.0, end_time - time.time())
        judged: Decision | None = None
        error: WandbError | None = None
        try:
            async with asyncio.timeout(left):
                async for _, observed in news:
                    self._log_outage(observed)
                    error = observed.error
                    if error is None:
                        judged = self.judge(observed)
                    decision = settle(str(self), judged, error, now=time.time(), end_time=end_time)
                    if decision.status == "done":
                        return await self._completed(decision, poll)
                    if decision.status != "wait":
                        return decision
        except TimeoutError:
            await poll.rest()
        return settle(str(self), judged, error, now=end_time, end_time=end_time)

    async def _completed(self, decision: Decision, poll: Poll) -> Decision:
        """Add the URL and the source run of the artifact version found; W&B being away then is waited out."""
        value = decision.value or {}
        if value.get("digest") is None:
            return decision
        ref = await self.complete(ArtifactRef.from_json(value), poll)
        return decision._replace(value=value | ref.to_json())

    async def complete(self, ref: ArtifactRef, poll: Poll) -> ArtifactRef:
        """
        Return the reference with URL and source run; as it is, if W&B refuses them or two minutes are not enough.

        Where many aliases move at once, each waits for those before it.
        """
        from wandb_airflow_provider.exceptions import WandbPermanentError

        why: WandbError | str = "there is too much to ask W&B for at once."
        try:
            async with asyncio.timeout(_COMPLETE_SECONDS):
                while True:
                    try:
                        return await poll.complete(ref)
                    except WandbError as error:
                        why = error
                        if isinstance(error, WandbPermanentError):
                            break
                    await asyncio.sleep(_COMPLETE_AGAIN_SECONDS)
        except TimeoutError:
            pass
        self.log.warning("URL and source run of %s are not told: %s", ref, why)
        return ref

    def _deadline(self) -> float:
        if self.end_time is not None:
            return float(self.end_time)
        if self.timeout_after is not None:
            return self.timeout_after.timestamp() - BACKSTOP_SECONDS
        return math.inf

    def _log_outage(self, observed: Any) -> None:
        """Say once when reading begins to fail, and once when it works again."""
        if observed.error is not None and not self._failing:
            self.log.warning("%s cannot be read; trying again. %s", self, observed.error)
        elif observed.error is None and self._failing:
            self.log.info("%s can be read again.", self)
        self._failing = observed.error is not None


async def _news(stream: AsyncIterator[Snapshot], member: Membership) -> AsyncGenerator[News, None]:
    """Yield the observations of one target, each once unless every read is asked for."""
    last: Any = None
    async for snapshot in stream:
        observed = snapshot.news_for(member)
        if observed is not None and (observed is not last or member.every_read):
            last = observed
            yield News(snapshot.read, observed)


def event_of(payload: dict[str, Any]) -> TriggerEvent:
    """Return the event with this payload."""
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]
