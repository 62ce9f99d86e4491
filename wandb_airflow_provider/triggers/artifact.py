"""Wait in the triggerer until an artifact has a version as wanted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from wandb_airflow_provider.artifacts import split_artifact_path
from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.exceptions import WandbArtifactNotFoundError, WandbInvalidNameError
from wandb_airflow_provider.triggers.reader import WandbReader
from wandb_airflow_provider.triggers.shared_poll import DEFAULT_POLL_INTERVAL, SharedPollTrigger
from wandb_airflow_provider.waiting.artifact import ArtifactObservation, ArtifactWish, Version

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.waiting.decision import Decision

__all__ = ["ArtifactReader", "WandbArtifactTrigger"]

NEWEST = 500
"""How many versions are looked at, newest first."""


class WandbArtifactTrigger(SharedPollTrigger):
    """
    Wait until an artifact has a version as wanted; sends one event.

    All triggers of one connection and project share one poll loop. An artifact costs a request for each hundred
    of its newest 500 versions, however many wait for it.

    :param artifact: ``[[entity/]project/]name``.
    :param alias: Held by the version; None for any. Likewise ``tag`` and ``metadata``.
    :param newer_than: Only versions after this one, ``v3`` for example.
    :param missing: Whether an artifact that does not exist is waited for or fails the waiting.
    :param end_time: The deadline in seconds since the epoch.
    """

    own = ("artifact", "alias", "tag", "metadata", "newer_than", "missing")

    def __init__(
        self,
        *,
        artifact: str,
        alias: str | None = None,
        tag: str | None = None,
        metadata: dict[str, Any] | None = None,
        newer_than: str | None = None,
        missing: Literal["wait", "fail"] = "wait",
        wandb_conn_id: str = DEFAULT_CONN_ID,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        end_time: float | None = None,
        looked: bool = False,
    ) -> None:
        super().__init__(
            wandb_conn_id=wandb_conn_id, poll_interval=poll_interval, end_time=end_time, looked=looked
        )
        self.artifact = artifact
        self.alias = alias
        self.tag = tag
        self.metadata = metadata
        self.newer_than = newer_than
        self.missing = missing

    def check(self) -> None:
        """
        Refuse wrong arguments.

        :raises WandbInvalidNameError: a name that W&B would refuse.
        :raises WandbConfigurationError: another argument is wrong.
        """
        super().check()
        if self._rendered:
            self.wish.check()

    def __str__(self) -> str:
        return f"A version of the artifact {self.artifact}"

    @property
    def wish(self) -> ArtifactWish:
        """Which version ends the waiting."""
        return ArtifactWish(self.alias, self.tag, self.metadata, self.newer_than, self.missing)

    def _place(self) -> tuple[str | None, ...]:
        return split_artifact_path(self.artifact)[:2]

    def awaited(self) -> str:
        """Return the artifact's path."""
        if ":" in self.artifact:
            raise WandbInvalidNameError(
                f"{self.artifact!r} names an alias or a version: pass the artifact alone, and alias=... beside it."
            )
        split_artifact_path(self.artifact)
        return self.artifact

    def reader(self) -> WandbReader:
        """Return a reader for artifacts."""
        return ArtifactReader(self.wandb_conn_id)

    def judge(self, observed: ArtifactObservation) -> Decision:
        """Return what a read of the artifact's versions means."""
        return self.wish.judge(self.artifact, observed)


class ArtifactReader(WandbReader):
    """Reads the newest versions of artifacts."""

    observation = ArtifactObservation

    def __init__(self, wandb_conn_id: str) -> None:
        super().__init__(wandb_conn_id)
        self._types: dict[str, str] = {}

    def _forget(self) -> None:
        super()._forget()
        self._types.clear()

    def _read(
        self, hook: WandbHook, targets: Sequence[str], strict: Collection[str]
    ) -> Mapping[str, ArtifactObservation]:
        return {path: self._observe(hook, path) for path in targets}

    def _observe(self, hook: WandbHook, path: str) -> ArtifactObservation:
        from wandb_airflow_provider.hooks.watched import artifact_type, newest_versions

        try:
            if path not in self._types:
                self._types[path] = artifact_type(hook, path)
        except WandbArtifactNotFoundError as error:
            return ArtifactObservation(missing=str(error))
        found = newest_versions(hook, path, self._types[path], NEWEST)
        return ArtifactObservation(tuple(Version(*version) for version in found))
