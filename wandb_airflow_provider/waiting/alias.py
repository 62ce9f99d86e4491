"""Which state of an alias ends the waiting for it. Pure: the observation is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbError
from wandb_airflow_provider.registry import AliasTarget
from wandb_airflow_provider.waiting.decision import Decision

__all__ = ["AliasWish", "Holder", "Missing", "Observation", "Until", "carries"]

Until: TypeAlias = Literal["present", "moved", "removed"]
Missing: TypeAlias = Literal["wait", "fail"]


class Observation(NamedTuple):
    """
    What one attempt to read an alias found.

    :param ref: The holder, without its URL and source run; None when nothing holds the alias.
    :param tags: The holder's tags.
    :param metadata: The holder's metadata.
    :param missing: Why nothing can hold the alias now: the registry or the collection does not exist.
    :param error: Why the alias could not be read; None when it was.
    """

    ref: ArtifactRef | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}
    missing: str | None = None
    error: WandbError | None = None


class Holder(NamedTuple):
    """
    Who held an alias at some time.

    :param version: None when nothing did.
    :param digest: None when only the version is known.
    """

    version: str | None = None
    digest: str | None = None

    @classmethod
    def of(cls, observed: Observation) -> Holder:
        """Return the holder that was observed."""
        return cls(observed.ref.version, observed.ref.digest) if observed.ref else cls()

    def to_json(self) -> dict[str, str | None]:
        """Return the JSON value."""
        return self._asdict()

    @classmethod
    def from_json(cls, value: Any) -> Holder | None:
        """Read the holder back from its JSON value, or from a version alone."""
        if value is None:
            return None
        if isinstance(value, str):
            return cls(value)
        return cls(value.get("version"), value.get("digest"))


class AliasWish(NamedTuple):
    """
    Which holder of an alias ends the waiting.

    :param until: ``present``: it is held; ``moved``: it is held by another version than ``since``;
        ``removed``: nothing holds it.
    :param digest: Only content with this digest; None for any.
    :param not_version: Any version but this one, ``v3`` for example; None for any.
    :param tag: Only a version that carries this tag; None for any.
    :param metadata: Only a version whose metadata has these values; nested keys with dots, ``eval.passed``.
    :param missing: Whether a registry or collection that does not exist is waited for, or ends the waiting.
    """

    until: Until = "present"
    digest: str | None = None
    not_version: str | None = None
    tag: str | None = None
    metadata: Mapping[str, Any] | None = None
    missing: Missing = "wait"

    def check(self) -> None:
        """
        Refuse what can never come true.

        :raises WandbConfigurationError: an unknown word, or a condition on the holder of a removed alias.
        """
        if self.until not in ("present", "moved", "removed"):
            raise WandbConfigurationError(
                f"until is {self.until!r}; expected one of ['present', 'moved', 'removed']."
            )
        conditions = {
            "digest": self.digest,
            "not_version": self.not_version,
            "tag": self.tag,
            "metadata": self.metadata,
        }
        given = [name for name, value in conditions.items() if value is not None]
        if self.until == "removed" and given:
            raise WandbConfigurationError(
                f"until='removed' waits for an alias without holder; {given} say what the holder shall be."
            )

    def judge(self, target: AliasTarget, observed: Observation, since: Holder | None) -> Decision:
        """
        Return what a successful read means.

        :param since: Who held the alias before: the holder that ``moved`` shall differ from, told as the previous
            one; None when it is not known.
        """
        ref = observed.ref
        if ref is None:
            if observed.missing is not None and self.missing == "fail":
                return Decision("failed", "not_found", observed.missing)
            if self.until == "removed":
                return Decision(
                    "done", "alias_removed", f"Nothing holds {target}.", _value(target, None, since)
                )
            return Decision("wait", "not_yet", observed.missing or "nothing holds it.")
        state = f"it is held by {ref} (digest {ref.digest!r})."
        if self.until == "removed" or not self._met_by(ref, observed, since):
            return Decision("wait", "not_yet", state)
        return Decision("done", "alias_found", f"{target} is {ref}.", _value(target, ref, since))

    def _met_by(self, ref: ArtifactRef, observed: Observation, since: Holder | None) -> bool:
        return (
            (self.until != "moved" or (since is not None and ref.version != since.version))
            and (self.digest is None or ref.digest == self.digest)
            and ref.version != self.not_version
            and (self.tag is None or self.tag in observed.tags)
            and carries(observed.metadata, self.metadata)
        )


def carries(metadata: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Return whether metadata has all the wanted values; a key with dots leads into nested ones."""
    return all(_lookup(metadata, key) == value for key, value in (wanted or {}).items())


def _lookup(metadata: Mapping[str, Any], key: str) -> Any:
    if key in metadata:
        return metadata[key]
    value: Any = metadata
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _value(target: AliasTarget, ref: ArtifactRef | None, since: Holder | None) -> dict[str, Any]:
    previous = since or Holder()
    if ref is not None and previous.version == ref.version:
        previous = Holder()
    found = ref.to_json() if ref else {"version": None, "digest": None, "path": None, "url": None}
    return {
        **target.to_json(),
        **found,
        "previous_version": previous.version,
        "previous_digest": previous.digest,
    }
