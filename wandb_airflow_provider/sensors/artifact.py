"""Wait until an artifact has a version as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from wandb_airflow_provider.sensors.waiting import WandbWaitSensor

__all__ = ["WandbArtifactSensor"]


class WandbArtifactSensor(WandbWaitSensor):
    """
    Wait until an artifact has a version with all that is asked for; without conditions, any version.

    Pushes the newest such version: the JSON value of an ``ArtifactRef`` (version, digest, path, URL, source run),
    with ``previous_version`` and ``previous_digest`` of the version before it. The newest 500 versions are looked
    at. While W&B cannot be reached the sensor goes on waiting, with one warning per outage; a key that is refused
    fails it at once.

    :param artifact: ``[[entity/]project/]name``. (templated)
    :param alias: Held by the version, ``best`` for example. (templated)
    :param tag: Carried by the version. (templated)
    :param metadata: Values that its metadata has; nested keys with dots, ``eval.passed``. (templated)
    :param newer_than: Only versions after this one, ``v3`` for example. (templated)
    :param missing: Whether an artifact that does not exist is waited for (``wait``) or fails the sensor (``fail``).
    :param wandb_conn_id: Airflow connection. (templated)
    :param deferrable: Wait in the triggerer, without a worker slot. Default: the option
        ``[operators] default_deferrable``.
    :param start_from_trigger: With ``deferrable``, start in the triggerer on Airflow 3.3.
    :param poke_interval: Seconds between two reads, in the triggerer too.
    :param timeout: Longest total wait in seconds, deferrals included.
    :raises AirflowSensorTimeout: there was no such version in time.
    :raises WandbAuthenticationError: W&B does not accept the key. Not retried.
    :raises WandbNotFoundError: the artifact does not exist, with ``missing="fail"``. Not retried.
    :raises WandbInvalidNameError: a name that W&B would refuse. Nothing was sent. Not retried.
    """

    _passed = ("artifact", "alias", "tag", "metadata", "newer_than", "missing")
    template_fields: Sequence[str] = ("artifact", "alias", "tag", "metadata", "newer_than", "wandb_conn_id")

    def __init__(
        self,
        *,
        artifact: str,
        alias: str | None = None,
        tag: str | None = None,
        metadata: dict[str, Any] | None = None,
        newer_than: str | None = None,
        missing: Literal["wait", "fail"] = "wait",
        **kwargs: Any,
    ) -> None:
        self.artifact = artifact
        self.alias = alias
        self.tag = tag
        self.metadata = metadata
        self.newer_than = newer_than
        self.missing = missing
        super().__init__(**kwargs)
        self._arm()

    def _trigger_class(self) -> str:
        return "wandb_airflow_provider.triggers.artifact.WandbArtifactTrigger"
