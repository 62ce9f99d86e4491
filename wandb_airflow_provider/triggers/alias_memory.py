"""What the watcher of an alias has last reported, kept by Airflow between restarts and shared with webhooks."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError

from wandb_airflow_provider.triggers.held_claim import HeldClaim
from wandb_airflow_provider.watching.change import Claim, Seen, claim_key, seen_key

if TYPE_CHECKING:
    from wandb_airflow_provider.watching.change import AliasChange, AliasTarget

__all__ = ["AliasMemory"]

log = logging.getLogger(__name__)

# How often a state store that does not answer is asked at each read, and for how long before the watcher goes on
# without it: a change made while no triggerer ran is then lost.
_RECALL_ATTEMPTS = 3
_RECALL_AGAIN_SECONDS = 1.0
_RECALL_SECONDS = 600.0
_YIELD_SECONDS = 0.5
_STORE_ERRORS = (AirflowRuntimeError, ValueError, OSError, TimeoutError)


class AliasMemory:
    """
    What was last reported of an alias, kept in Airflow's asset state store when there is one.

    A store that does not answer never ends the watching: it is asked again with each read, and after ten minutes the
    watcher goes on with what it sees from then on.
    """

    def __init__(self, store: Any, target: AliasTarget) -> None:
        self._store = store
        self._target = target
        self._asked_since: float | None = None
        self._webhooks = False
        self._kept: Seen | None = None
        self._keeping_fails = False
        self._claim = HeldClaim(self._write_claim)
        self.recalled = store is None

    async def recall(self) -> Seen | None:
        """Return what was last reported; until ``recalled`` is true, nothing can be compared with it."""
        if self._asked_since is None:
            self._asked_since = time.monotonic()
        left = _RECALL_ATTEMPTS
        while True:
            try:
                stored = await self._store.aget(seen_key(self._target))
                self._webhooks = await self._store.aget(claim_key(self._target, "push")) is not None
            except _STORE_ERRORS as error:
                left -= 1
                failure = error
            else:
                self.recalled = True
                self._kept = Seen.from_json(stored)
                return self._kept
            if not left:
                break
            await asyncio.sleep(_RECALL_AGAIN_SECONDS)
        self.recalled = time.monotonic() - self._asked_since >= _RECALL_SECONDS
        log.warning(
            "What was last reported for %s cannot be read from Airflow; %s. %s",
            self._target,
            "what is seen from now on counts" if self.recalled else "trying again with the next read",
            failure,
        )
        return None

    async def reported_elsewhere(self, seen: Seen | None) -> Seen | None:
        """Return what a webhook has reported since; None when it has not, or when webhooks are not in use."""
        return await self._newer(seen) if self._webhooks else None

    async def claim(self, change: AliasChange, seen: Seen | None) -> Seen | None:
        """
        Say that this watcher reports a change, and make sure that a webhook does not report it too.

        The change must be reported at once; the claim holds until it is kept, or the memory is closed.

        :return: What the webhook has reported, in which case the watcher must not; else None.
        """
        if self._store is None:
            return None
        reported = await self._newer(seen)
        if reported is not None:
            return reported
        try:
            # First the claim, then the look at the other's: at least one of two sees the other.
            await self._claim.take(Claim.of(change, time.time()))
            while (other := await self._pushed()) is not None and other.holds(change, time.time()):
                await asyncio.sleep(_YIELD_SECONDS)
                reported = await self._newer(seen)
                if reported is not None:
                    return reported
        except _STORE_ERRORS as error:
            log.warning(
                "Airflow's store cannot be asked whether a webhook reports the change of %s, which may come twice: %s",
                self._target,
                error,
            )
        except BaseException:
            self._claim.release()
            raise
        return None

    def is_to_keep(self, seen: Seen) -> bool:
        """Return whether what is now reported is not known to be stored."""
        return self._store is not None and seen != self._kept

    async def keep(self, seen: Seen) -> bool:
        """
        Store what is now reported, unless what is stored is later.

        :return: Whether that is done; else it is worth another attempt.
        """
        if self._kept is not None and (seen == self._kept or seen.sequence < self._kept.sequence):
            return True
        try:
            stored = Seen.from_json(await self._store.aget(seen_key(self._target)))
            later = stored is not None and stored.sequence > seen.sequence
            if not later:
                await self._store.aset(seen_key(self._target), seen.to_json())
        except _STORE_ERRORS as error:
            if not self._keeping_fails:
                log.warning(
                    "What was reported for %s cannot be stored in Airflow; trying again. After a restart before that "
                    "it may be reported again: %s",
                    self._target,
                    error,
                )
            self._keeping_fails = True
            return False
        self._keeping_fails = False
        self._kept = stored if later else seen
        # With the next read, this watcher takes up what a webhook has stored.
        self._webhooks = self._webhooks or later
        self._claim.release(seen.sequence)
        return True

    def close(self) -> None:
        """Hold no claim any more."""
        self._claim.release()

    async def _write_claim(self, claim: Claim) -> None:
        await self._store.aset(claim_key(self._target, "poll"), claim.to_json())

    async def _pushed(self) -> Claim | None:
        claim = Claim.from_json(await self._store.aget(claim_key(self._target, "push")))
        self._webhooks = self._webhooks or claim is not None
        return claim

    async def _newer(self, seen: Seen | None) -> Seen | None:
        """Return what is stored if it is later than what this watcher has reported, which may be stored later."""
        try:
            stored = Seen.from_json(await self._store.aget(seen_key(self._target)))
        except _STORE_ERRORS as error:
            log.warning("What was last reported for %s cannot be read from Airflow: %s", self._target, error)
            return None
        if stored is None or stored.sequence <= (seen.sequence if seen else 0):
            return None
        self._kept = stored
        self._claim.release()
        return stored
