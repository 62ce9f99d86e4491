"""Decide what an observation means: wait, done, failed or timed out. Pure: the clock is an argument."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, NamedTuple, TypeAlias

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbError,
    WandbNotFoundError,
    WandbPermanentError,
    WandbPermissionError,
)
from wandb_airflow_provider.registry import RegistryAlias

__all__ = [
    "AliasChange",
    "AliasWish",
    "Decision",
    "Observation",
    "Seen",
    "decide",
    "next_delay",
    "observe_change",
]

Status: TypeAlias = Literal["wait", "done", "failed", "timed_out"]

_MAX_DELAY = 600.0


class Observation(NamedTuple):
    """
    What one attempt to read an alias found.

    :param ref: The holder; None when nothing holds the alias, or when it could not be read.
    :param error: Why it could not be read; None when it was.
    """

    ref: ArtifactRef | None = None
    error: WandbError | None = None


class AliasWish(NamedTuple):
    """
    Which holder of an alias ends the waiting.

    :param digest: Only content with this digest; None for any.
    :param not_version: Any version but this one, ``v3`` for example; None for any.
    """

    digest: str | None = None
    not_version: str | None = None

    def met_by(self, ref: ArtifactRef) -> bool:
        """Return whether this holder is the one waited for."""
        return (self.digest is None or ref.digest == self.digest) and ref.version != self.not_version


class Decision(NamedTuple):
    """
    What follows from an observation.

    :param reason: Machine-readable cause; code branches on it, never on the sentence.
    """

    status: Status
    reason: str
    sentence: str
    ref: ArtifactRef | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the event payload that ends a deferral."""
        return {
            "status": self.status,
            "reason": self.reason,
            "message": self.sentence,
            "ref": self.ref.to_json() if self.ref else None,
        }

    @classmethod
    def from_json(cls, value: Any) -> Decision:
        """
        Read an event payload.

        :raises WandbConfigurationError: not an event of this package's trigger.
        """
        final = ("done", "failed", "timed_out")
        if not isinstance(value, dict) or value.get("status") not in final or not value.get("reason"):
            raise WandbConfigurationError(
                f"The trigger sent an event that cannot be understood: {value!r}. Triggerer and worker may run "
                "different versions of this package."
            )
        ref = ArtifactRef.from_json(value["ref"]) if value.get("ref") is not None else None
        if (value["status"] == "done") != (ref is not None):
            raise WandbConfigurationError(f"The trigger sent an event that contradicts itself: {value!r}.")
        return cls(value["status"], value["reason"], str(value.get("message", "")), ref)


def decide(
    target: RegistryAlias, wish: AliasWish, observed: Observation | None, *, now: float, end_time: float
) -> Decision:
    """
    Decide whether waiting for an alias is over.

    A holder that fits wins over a deadline that has just passed; W&B being out of reach never ends the
    waiting before the deadline; a key that is refused ends it at once.

    :param observed: None when nothing was read yet.
    :param now: Seconds since the epoch.
    :param end_time: Deadline, in seconds since the epoch.
    """
    ref = observed.ref if observed else None
    if ref is not None and wish.met_by(ref):
        return Decision("done", "alias_found", f"{target} is {ref}.", ref)
    error = observed.error if observed else None
    if isinstance(error, WandbPermanentError):
        return Decision("failed", failure_reason(error), str(error))
    if now >= end_time:
        return Decision(
            "timed_out", "timeout", f"The time to wait for {target} is over: {_state(ref, error)}"
        )
    return Decision("wait", "unavailable" if error else "not_yet", _state(ref, error))


def failure_reason(error: WandbError) -> str:
    """Return the reason code of an error."""
    codes: tuple[tuple[type[WandbError], str], ...] = (
        (WandbAuthenticationError, "authentication"),
        (WandbPermissionError, "permission"),
        (WandbNotFoundError, "not_found"),
        (WandbConfigurationError, "configuration"),
        (WandbPermanentError, "refused"),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), "unavailable")


def next_delay(poll_interval: float, failures: int, jitter: float) -> float:
    """
    Return the seconds until the next read: the interval, doubled with each failure in a row up to 10 minutes.

    :param jitter: A random number from 0 to 1; up to a tenth is added, so that watchers do not march in step.
    """
    delay = poll_interval * 2.0 ** min(failures, 16)
    return min(delay, max(poll_interval, _MAX_DELAY)) * (1 + 0.1 * jitter)


class Seen(NamedTuple):
    """
    The state of an alias that a watcher has last reported.

    :param version: None when nothing held the alias.
    :param sequence: Number of changes seen so far; tells two equal moves apart.
    """

    version: str | None = None
    digest: str | None = None
    sequence: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that is stored between restarts."""
        return {"version": self.version, "digest": self.digest, "sequence": self.sequence}

    @classmethod
    def from_json(cls, value: Any) -> Seen | None:
        """Read the stored value; None when there is none, or none that can be understood."""
        if not isinstance(value, dict) or not isinstance(value.get("sequence"), int):
            return None
        return cls(value.get("version"), value.get("digest"), value["sequence"])


class AliasChange(NamedTuple):
    """An alias was added, moved or removed."""

    kind: Literal["added", "moved", "removed"]
    target: RegistryAlias
    before: Seen
    after: Seen
    ref: ArtifactRef | None

    @property
    def idempotency_key(self) -> str:
        """Equal for repeats of one event, and different for another change, even between the same versions."""
        parts = (str(self.target), self.kind, self.before.digest, self.after.digest, self.after.version)
        text = "\0".join([*(str(part) for part in parts), str(self.after.sequence)])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def to_json(self) -> dict[str, Any]:
        """Return the event payload; equal wherever and whenever the change is seen."""
        return {
            **self.target.to_json(),
            "change": self.kind,
            "version": self.after.version,
            "digest": self.after.digest,
            "previous_version": self.before.version,
            "previous_digest": self.before.digest,
            "path": self.ref.path if self.ref else None,
            "source": self.ref.source if self.ref else None,
            "source_run": self.ref.source_run if self.ref else None,
            "url": self.ref.url if self.ref else None,
            "idempotency_key": self.idempotency_key,
        }


def observe_change(
    target: RegistryAlias,
    seen: Seen | None,
    ref: ArtifactRef | None,
    *,
    first: Literal["baseline", "fire"] = "baseline",
) -> tuple[Seen, AliasChange | None]:
    """
    Compare a successful read with what was last seen.

    :param seen: None when this alias was never observed.
    :param first: What a first observation of a held alias is: ``baseline`` takes it as given, ``fire``
        reports it as added.
    :return: What is seen now, and the change, if there is one.
    """
    version, digest = (ref.version, ref.digest) if ref else (None, None)
    if seen is None and (first == "baseline" or ref is None):
        return Seen(version, digest), None
    before = seen or Seen()
    if (before.version, before.digest) == (version, digest):
        return before, None
    after = Seen(version, digest, before.sequence + 1)
    kind: Literal["added", "moved", "removed"]
    if ref is None:
        kind = "removed"
    else:
        kind = "added" if before.version is None else "moved"
    return after, AliasChange(kind, target, before, after, ref)


def _state(ref: ArtifactRef | None, error: WandbError | None) -> str:
    if error is not None:
        return f"W&B could not be read: {error}"
    return f"it is held by {ref} (digest {ref.digest!r})." if ref else "nothing holds it."
