"""Which version of an artifact ends the waiting for one. Pure: the observation is an argument."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from wandb_airflow_provider.artifacts import ArtifactRef, validate_alias
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbError
from wandb_airflow_provider.waiting.alias import carries
from wandb_airflow_provider.waiting.decision import Decision

__all__ = ["ArtifactObservation", "ArtifactWish", "Version"]


class Version(NamedTuple):
    """One version of an artifact, with what conditions look at; its reference lacks URL and source run."""

    ref: ArtifactRef
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}


class ArtifactObservation(NamedTuple):
    """
    What one attempt to read an artifact's versions found.

    :param versions: The newest versions, newest first.
    :param missing: The artifact does not exist, in a sentence.
    :param error: Why it could not be read; None when it was.
    """

    versions: tuple[Version, ...] = ()
    missing: str | None = None
    error: WandbError | None = None


class ArtifactWish(NamedTuple):
    """
    Which version ends the waiting: the newest one that has all of this.

    :param alias: Held by the version; None for any.
    :param tag: Carried by the version; None for any.
    :param metadata: Values that its metadata has; nested keys with dots, ``eval.passed``.
    :param newer_than: Only versions after this one, ``v3`` for example.
    :param missing: Whether an artifact that does not exist is waited for, or ends the waiting.
    """

    alias: str | None = None
    tag: str | None = None
    metadata: Mapping[str, Any] | None = None
    newer_than: str | None = None
    missing: Literal["wait", "fail"] = "wait"

    def check(self) -> None:
        """
        Refuse what W&B would refuse, and what can never come true.

        :raises WandbConfigurationError: an alias that W&B refuses, or a version that is none.
        """
        if self.alias is not None:
            validate_alias(self.alias)
        if self.newer_than is not None and not re.match(r"v[0-9]+\Z", self.newer_than):
            raise WandbConfigurationError(
                f"newer_than is {self.newer_than!r}; expected a version such as 'v3'."
            )

    def judge(self, path: str, observed: ArtifactObservation) -> Decision:
        """Return what a successful read means."""
        if observed.missing is not None and self.missing == "fail":
            return Decision("failed", "not_found", observed.missing)
        for version in observed.versions:
            if self._met_by(version):
                previous = next(
                    (
                        v.ref
                        for v in observed.versions
                        if _number(v.ref.version) < _number(version.ref.version)
                    ),
                    None,
                )
                value = {
                    **version.ref.to_json(),
                    "previous_version": previous.version if previous else None,
                    "previous_digest": previous.digest if previous else None,
                }
                return Decision("done", "version_found", f"{version.ref} is as wanted.", value)
        newest = observed.versions[0].ref if observed.versions else None
        state = observed.missing or (
            f"the newest version of {path!r} is {newest.version}; none of {len(observed.versions)} is as wanted."
            if newest
            else f"{path!r} has no version."
        )
        return Decision("wait", "not_yet", state)

    def _met_by(self, version: Version) -> bool:
        return (
            (self.alias is None or self.alias in version.ref.aliases)
            and (self.tag is None or self.tag in version.tags)
            and (self.newer_than is None or _number(version.ref.version) > _number(self.newer_than))
            and carries(version.metadata, self.metadata)
        )


def _number(version: str) -> int:
    return int(version.removeprefix("v"))
