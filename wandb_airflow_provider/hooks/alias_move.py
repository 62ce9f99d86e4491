"""One change of a registry alias: announced in the audit, made in its turn, read back, and its outcome written down."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.audit import LEASE_SECONDS, AuditEntry, DecisionEvent, blockers
from wandb_airflow_provider.exceptions import (
    WandbError,
    WandbPermanentError,
    WandbPermissionError,
    WandbPromotionLostError,
    WandbPromotionRefusedError,
    WandbUnavailableError,
)

if TYPE_CHECKING:
    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.hooks.audit_log import AuditLog
    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["AliasMove"]

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 3.0
_WRITE_WITHIN = LEASE_SECONDS / 2
"""An intention older than this is given up before anything is written: others may take it for dead soon."""
_OUTCOME_TRIES = 3
_TURNS = 4


class AliasMove:
    """
    A change of an alias, with what the audit says of it.

    W&B has no "move the alias only if it is still where I saw it". So each change first writes its intention, whose
    number tells its place among all that are announced, waits until those before it are settled, and then looks
    whether the alias still is where it was. If not, it has lost, and says to whom.

    :param entry: What is known of the decision; its events differ in ``event``, ``at`` and ``why``.
    """

    def __init__(self, hook: WandbHook, audit: AuditLog, entry: AuditEntry) -> None:
        self._hook = hook
        self._audit = audit
        self.entry = entry
        self.settled = False
        self._ambiguous = False
        self._since: float | None = None

    def holder(self) -> ArtifactRef | None:
        """Return who holds the alias, read afresh."""
        target = self.entry.target
        return self._hook.get_alias(target.registry, target.collection, target.alias)

    def write(self, event: DecisionEvent, why: str | None = None) -> AuditEntry:
        """
        Write an entry of the decision.

        :raises WandbError: it is not written.
        """
        entry = self.entry._replace(event=event, why=why, at=datetime.now(UTC).isoformat())
        written = self._audit.append(entry)
        if event != "intended":
            self.settled = True
        return written

    def refuse(self, error: WandbPermanentError) -> None:
        """Write down why nothing is changed; that this fails is a warning, and never hides the reason itself."""
        if self.settled or (self._ambiguous and not isinstance(error, WandbPromotionRefusedError)):
            return
        try:
            self.write("lost" if isinstance(error, WandbPromotionLostError) else "refused", str(error))
        except WandbError as failure:
            log.warning("That this was refused could not be written to the audit: %s", failure)

    @contextmanager
    def announced(self) -> Iterator[AuditEntry]:
        """
        Write the intention, wait for its turn, and settle it however the block ends.

        What the write to W&B in the block has led to is not known when W&B could not be reached during it; then the
        intention stays open, until its time is over.

        :raises WandbPromotionLostError: another change came first. Nothing has been written.
        :raises WandbUnavailableError: the intention could not be written, or its turn did not come in time. Nothing
            has been written. A retry can help.
        """
        try:
            yield self._take_turn()
        except WandbPromotionRefusedError as error:
            self.refuse(error)
            raise
        except WandbError as error:
            if not self.settled and not self._ambiguous:
                self._fail(error)
            raise

    def give(self, source: ArtifactRef) -> ArtifactRef:
        """
        Link the version and give it the alias, in one write, and read back who holds it.

        :raises WandbPromotionLostError: another change came after, and won.
        """
        target = self.entry.target
        with self._writing():
            try:
                self._hook.link_to_registry(source, target.registry, target.collection, [target.alias])
            except WandbPermissionError as error:
                raise self._protected(error, f"move the alias {str(target)!r} to {source}") from error
        holder = self.holder()
        if holder is None or holder.digest != source.digest:
            raise WandbPromotionLostError(
                f"The alias {str(target)!r} was moved to {source} (digest {source.digest!r}), and now is held by "
                f"{self.describe(holder)}: another change ran at the same time and won. Not retried, because that "
                "would overwrite it."
            )
        return holder

    def take_away(self, holder: ArtifactRef) -> None:
        """
        Take the alias from its holder, and read back that nothing holds it.

        :raises WandbPromotionLostError: another version holds it now.
        """
        target = self.entry.target
        with self._writing():
            try:
                self._hook.remove_alias(holder, target.alias)
            except WandbPermissionError as error:
                raise self._protected(error, f"take the alias {str(target)!r} from {holder}") from error
        left = self.holder()
        if left is not None:
            raise WandbPromotionLostError(
                f"The alias {str(target)!r} was taken from {holder}, and now is held by {self.describe(left)}: another "
                "change ran at the same time."
            )

    def describe(self, holder: ArtifactRef | None) -> str:
        """Return a holder in words, with who gave it the alias, as far as that is known."""
        from wandb_airflow_provider.promotion import PromotionRecord

        if holder is None:
            return "nothing"
        try:
            cause = self._cause(holder)
            if cause is None:
                record = PromotionRecord.find(
                    self._hook.artifact_metadata(holder.source or holder), self.entry.target
                )
                cause = f"promoted by {record.task}" if record else None
        except WandbError as error:
            log.warning("Who gave %s the alias could not be found out: %s", holder, error)
            cause = None
        return f"{holder} (digest {holder.digest!r}{', ' + cause if cause else ''})"

    def _cause(self, holder: ArtifactRef) -> str | None:
        if self._since is None:
            return None
        for entry in reversed(self._audit.entries(since=self._since)):
            if (
                entry.target == self.entry.target
                and entry.event in ("done", "intended")
                and entry.after is not None
                and entry.after.digest == holder.digest
                and entry.decision != self.entry.decision
            ):
                return f"{_DONE[entry.kind]} by {entry.task}"
        return None

    def _take_turn(self) -> AuditEntry:
        """Write the intention, and return it when all those before it are settled and the alias is where it was."""
        for _ in range(_TURNS):
            began = time.monotonic()
            intention = self.write("intended")
            self._since = intention.written_at - LEASE_SECONDS
            if self._wait(intention, began):
                return intention
            # Others may take it for dead soon, and pass it.
            self.write("failed", "Its turn did not come in time; it takes another one.")
            self.settled = False
            self.entry = self.entry._replace(decision=uuid.uuid4().hex)
        raise WandbUnavailableError(
            f"{self._what()} waited in vain for others, whose intentions in the audit {self._audit.path!r} are not "
            "settled. Nothing was changed. A retry can help."
        )

    def _wait(self, intention: AuditEntry, began: float) -> bool:
        expected = _digest(self.entry.before)
        pause, told = _FIRST_PAUSE, False
        while (elapsed := time.monotonic() - began) < _WRITE_WITHIN:
            ahead = blockers(self._audit.entries(since=self._since), intention, elapsed)
            # Read after those ahead: once they are settled, their changes are seen here.
            holder = self.holder()
            if _digest(holder) != expected:
                raise WandbPromotionLostError(
                    f"{self._what()} is refused: it was decided while {self.entry.before or 'nothing'} held the alias, "
                    f"and now {self.describe(holder)} does. The other change came first and won. Not retried, because "
                    "that would overwrite it."
                )
            if not ahead:
                return True
            if not told:
                names = " and ".join(str(entry.task) for entry in ahead)
                log.info("Waiting for %s, which %s began to change before.", self.entry.target, names)
                told = True
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 -- spreads reads, guards nothing
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        return False

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._ambiguous = True
        try:
            yield
        except WandbPermanentError:
            # W&B has answered, and changed nothing.
            self._ambiguous = False
            raise

    def _protected(self, error: WandbPermissionError, action: str) -> WandbPermissionError:
        return WandbPermissionError(
            f"W&B refused to {action}: {error} If the alias is protected, only a registry admin may change it: use a "
            "connection with such a key, or unprotect the alias."
        )

    def _fail(self, error: WandbError) -> None:
        try:
            self.write("failed", str(error))
        except WandbError as failure:
            log.warning("That this failed could not be written to the audit: %s", failure)

    def _what(self) -> str:
        entry = self.entry
        return f"The {entry.kind} of {str(entry.target)!r} to {entry.after or 'nothing'}"

    def completed_before(self) -> AuditEntry | None:
        """Return the entry of this very change by a try before, which died after it had written that it is done."""
        entry = self.entry
        last = [
            found for found in self._audit.entries() if (found.target, found.event) == (entry.target, "done")
        ][-1:]
        if last and entry.task.recognises(last[0].task) and _digest(last[0].after) == _digest(entry.after):
            self.settled = True
            return last[0]
        return None

    def complete(self) -> AuditEntry:
        """
        Write that it is done.

        :raises WandbUnavailableError: the alias has moved, and the audit could not be told. A retry completes it.
        """
        for attempt in range(1, _OUTCOME_TRIES + 1):
            try:
                return self.write("done")
            except WandbPermanentError:
                raise
            except WandbError as error:
                if attempt == _OUTCOME_TRIES:
                    raise WandbUnavailableError(
                        f"{self._what()} is made, and could not be written to the audit {self._audit.path!r}, which "
                        f"has its intention. A retry completes it. {error}"
                    ) from error
                time.sleep(attempt)
        raise AssertionError("unreachable")


_DONE: dict[str, Any] = {"promotion": "promoted", "rollback": "restored", "demotion": "demoted"}


def _digest(ref: ArtifactRef | None) -> str | None:
    return ref.digest if ref else None
