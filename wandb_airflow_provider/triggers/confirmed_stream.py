"""A shared stream of Airflow 3.3 that learns when the events made of a snapshot are stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from wandb_airflow_provider.triggers.poll import Poll, Snapshot

__all__ = ["ConfirmedStream"]


class ConfirmedStream(SharedStreamProducer):
    """
    The snapshots of a poll, each confirmed once every trigger is past it and Airflow has stored their events.

    Only then is stored that a change was reported: a triggerer that is killed in between reports it again.
    """

    def __init__(self, find_poll: Callable[[], Poll]) -> None:
        self._find_poll = find_poll
        self._poll: Poll | None = None

    async def open_stream(self) -> AsyncGenerator[tuple[Snapshot, int], None]:
        """Yield each snapshot with its number."""
        self._poll = self._find_poll()
        async with aclosing(self._poll.snapshots()) as snapshots:
            async for snapshot in snapshots:
                yield snapshot, snapshot.read

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Settle snapshots; never raises, which would end the stream for all of its triggers."""
        for item in batch:
            if self._poll is not None:
                await self._poll.settle(item.broker_payload, persisted=item.outcome.failed == 0)
