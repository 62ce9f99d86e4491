"""
What a change of an alias is, and who reports it when a poller and a webhook both see it. Pure: no clock, no network.

Both sides compare what W&B says now with what was last reported, which is kept in Airflow's asset state store, and so
find the same change with the same key. To report it once, each side first writes its claim and only then looks at the
other's: whichever order the two come in, at least one of them sees the other. Then the webhook gives way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from wandb_airflow_provider.artifacts import ArtifactRef

__all__ = ["AliasChange", "AliasTarget", "Claim", "Seen", "claim_key", "observe_change", "seen_key"]

Side = Literal["poll", "push"]

CLAIM_SECONDS = 30.0
"""
A claim older than this is of a process that died before it could report.

A webhook reports in the transaction after its claim. A poller renews its claim until its report is stored.
"""


class AliasTarget(Protocol):
    """An alias of a collection; its text tells it from every other."""

    def __str__(self) -> str: ...

    def to_json(self) -> dict[str, str]: ...


class Seen(NamedTuple):
    """
    The state of an alias that was last reported.

    :param version: None when nothing held the alias.
    :param sequence: Number of changes seen so far; tells two equal moves apart.
    """

    version: str | None = None
    digest: str | None = None
    sequence: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that is stored."""
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
    target: AliasTarget
    before: Seen
    after: Seen
    ref: ArtifactRef | None

    @property
    def idempotency_key(self) -> str:
        """Equal for repeats of one event, and different for another change, even between the same versions."""
        parts = (str(self.target), self.kind, self.before.digest, self.after.digest, self.after.version)
        text = "\0".join([*(str(part) for part in parts), str(self.after.sequence)])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def to_json(self, *, actor: str | None = None) -> dict[str, Any]:
        """
        Return the event payload; but for the actor, equal wherever and whenever the change is seen.

        :param actor: Who moved the alias, as far as that is known: a webhook says it, a read does not.
        """
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
            "actor": actor,
            "idempotency_key": self.idempotency_key,
        }


def observe_change(
    target: AliasTarget,
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


class Claim(NamedTuple):
    """
    One side is about to report a change, or has reported it.

    :param change: The change's idempotency key.
    :param at: Seconds since the epoch.
    :param sequence: The change's number; until it is stored as seen, the report is under way.
    """

    change: str
    at: float
    sequence: int = 0

    @classmethod
    def of(cls, change: AliasChange, now: float) -> Claim:
        """Return the claim to a change."""
        return cls(change.idempotency_key, now, change.after.sequence)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that is stored."""
        return {"change": self.change, "at": self.at, "sequence": self.sequence}

    @classmethod
    def from_json(cls, value: Any) -> Claim | None:
        """Read the stored value; None when there is none, or none that can be understood."""
        if not isinstance(value, Mapping) or not isinstance(value.get("change"), str):
            return None
        at, sequence = value.get("at"), value.get("sequence", 0)
        if not isinstance(at, int | float) or not isinstance(sequence, int):
            return None
        return cls(value["change"], float(at), sequence)

    def holds(self, change: AliasChange, now: float) -> bool:
        """Return whether this claim keeps the other side from reporting the change."""
        return self.change == change.idempotency_key and self._is_fresh(now)

    def is_under_way(self, seen: Seen | None, now: float) -> bool:
        """Return whether a change later than what is stored as seen is being reported."""
        return self.sequence > (seen.sequence if seen else 0) and self._is_fresh(now)

    def _is_fresh(self, now: float) -> bool:
        return abs(now - self.at) < CLAIM_SECONDS


def seen_key(target: AliasTarget) -> str:
    """Return the key under which the asset state store keeps what was last reported."""
    return f"wandb_alias:{target}"


def claim_key(target: AliasTarget, side: Side) -> str:
    """Return the key under which the asset state store keeps a side's claim."""
    return f"wandb_alias_claim_{side}:{target}"
