"""A watcher's claim to a change, kept fresh for as long as the watcher lives and its report is not stored."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from wandb_airflow_provider.watching import change as watching

if TYPE_CHECKING:
    from wandb_airflow_provider.watching.change import Claim

__all__ = ["HeldClaim"]

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0


class HeldClaim:
    """
    At most one claim, written anew before it grows old: an old claim is taken for that of a process that died.

    A report can be under way for minutes, because Airflow confirms it only once all triggers that share its poll are
    past the same read.

    :param write: Stores the claim.
    """

    def __init__(self, write: Callable[[Claim], Awaitable[None]]) -> None:
        self._write = write
        self._claim: Claim | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._released = asyncio.Event()

    async def take(self, claim: Claim) -> None:
        """Hold a claim instead of an earlier one; raises what writing it raises, and holds it all the same."""
        self._released.set()
        self._released = asyncio.Event()
        self._claim = claim
        self._renewing = asyncio.create_task(self._renew(claim, self._released), name="wandb-airflow-claim")
        await self._write(claim)

    def release(self, sequence: int | None = None) -> None:
        """Let the claim grow old; with a number, only if it is to the change of this number or an earlier one."""
        if sequence is None or (self._claim is not None and self._claim.sequence <= sequence):
            # Not cancelled, so that no write is left half done.
            self._released.set()

    async def _renew(self, claim: Claim, released: asyncio.Event) -> None:
        pause = watching.CLAIM_SECONDS / 3
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await released.wait()
            if released.is_set():
                return
            try:
                await self._write(claim._replace(at=time.time()))
                pause = watching.CLAIM_SECONDS / 3
            except Exception as error:
                pause = min(pause, _AGAIN_SECONDS)
                log.warning("A claim in Airflow's store could not be renewed; trying again: %s", error)
