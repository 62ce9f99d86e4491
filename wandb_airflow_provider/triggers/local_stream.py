"""Sharing of a poll loop by this package, for releases of Airflow that do not share streams themselves (before 3.3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from weakref import WeakKeyDictionary

from wandb_airflow_provider.triggers.poll import Poll, Snapshot

__all__ = ["local_stream"]

log = logging.getLogger(__name__)

_RESTART_SECONDS = 5.0


class _Group:
    """One loop of reads, and a mailbox for each of its listeners."""

    def __init__(self, poll: Poll) -> None:
        self._poll = poll
        self.mailboxes: set[asyncio.Queue[Snapshot]] = set()
        self.task = asyncio.create_task(self._serve(), name="wandb-airflow-poll")

    async def _serve(self) -> None:
        while True:
            try:
                async with aclosing(self._poll.snapshots()) as snapshots:
                    async for snapshot in snapshots:
                        for mailbox in self.mailboxes:
                            # A snapshot is the whole state: a listener that is slow needs only the latest.
                            if mailbox.full():
                                mailbox.get_nowait()
                            mailbox.put_nowait(snapshot)
            except Exception:
                log.exception(
                    "The shared loop that reads W&B failed; it starts again in %.0f s", _RESTART_SECONDS
                )
            await asyncio.sleep(_RESTART_SECONDS)


_groups: WeakKeyDictionary[Poll, _Group] = WeakKeyDictionary()


async def local_stream(poll: Poll) -> AsyncGenerator[Snapshot, None]:
    """Yield the snapshots of one loop of reads for all who listen; it ends with the last of them."""
    group = _groups.get(poll)
    if group is None:
        group = _groups[poll] = _Group(poll)
    mailbox: asyncio.Queue[Snapshot] = asyncio.Queue(maxsize=1)
    group.mailboxes.add(mailbox)
    try:
        while True:
            yield await mailbox.get()
    finally:
        group.mailboxes.discard(mailbox)
        if not group.mailboxes:
            if _groups.get(poll) is group:
                del _groups[poll]
            group.task.cancel()
            await asyncio.wait([group.task])
