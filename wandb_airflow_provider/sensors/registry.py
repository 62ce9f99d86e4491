"""Wait for an alias of a registry or project: until it is held as wanted, has moved, or is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.sensors.waiting import WandbWaitSensor

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.triggers.shared_poll import SharedPollTrigger

__all__ = ["WandbRegistryAliasSensor"]

_SINCE_KEY = "wandb_alias_since"


class WandbRegistryAliasSensor(WandbWaitSensor):
    """
    Wait until an alias of a registry collection, or of a project's artifact, is held as wanted.

    Pushes the version that holds it: the JSON value of an ``ArtifactRef`` (version, digest, path, URL, source run),
    with ``registry`` or ``entity`` and ``project``, ``collection``, ``alias``, and ``previous_version`` and
    ``previous_digest`` of who held the alias when the sensor began. After ``until="removed"`` version, digest, path
    and URL are null. While W&B cannot be reached the sensor goes on waiting, with one warning per outage; a key
    that is refused fails it at once.

    :param registry: Name of the registry, without the prefix of its project. (templated)
    :param project: In place of ``registry``, the project that has the artifact; with ``entity``, or the
        connection's. (templated)
    :param collection: Collection in the registry, or name of the artifact. (templated)
    :param alias: The alias, ``production`` for example. (templated)
    :param until: ``present``: any version holds it; ``moved``: another version than when the sensor began, or than
        ``since``; ``removed``: none.
    :param since: With ``moved``, the version to differ from, ``v3`` for example. (templated)
    :param digest: Only content with this digest ends the waiting. (templated)
    :param not_version: Any version but this one, ``v3`` for example. (templated)
    :param tag: Only a version that carries this tag. (templated)
    :param metadata: Only a version whose metadata has these values; nested keys with dots. (templated)
    :param missing: Whether a registry or collection that does not exist is waited for (``wait``) or fails the
        sensor (``fail``).
    :param wandb_conn_id: Airflow connection. (templated)
    :param deferrable: Wait in the triggerer, without a worker slot. Default: the option
        ``[operators] default_deferrable``.
    :param start_from_trigger: With ``deferrable``, start in the triggerer on Airflow 3.3. With ``moved`` it needs
        ``since``: nobody would have looked before.
    :param poke_interval: Seconds between two reads, in the triggerer too.
    :param timeout: Longest total wait in seconds, deferrals included.
    :raises AirflowSensorTimeout: the alias was not held as wanted in time.
    :raises WandbAuthenticationError: W&B does not accept the key. Not retried.
    :raises WandbNotFoundError: the registry or collection does not exist, with ``missing="fail"``. Not retried.
    :raises WandbInvalidNameError: a name that W&B would refuse. Nothing was sent. Not retried.
    """

    _passed = (
        "registry",
        "entity",
        "project",
        "collection",
        "alias",
        "until",
        "since",
        "digest",
        "not_version",
        "tag",
        "metadata",
        "missing",
    )
    template_fields: Sequence[str] = (
        "registry",
        "entity",
        "project",
        "collection",
        "alias",
        "since",
        "digest",
        "not_version",
        "tag",
        "metadata",
        "wandb_conn_id",
    )

    def __init__(
        self,
        *,
        registry: str | None = None,
        collection: str,
        alias: str,
        entity: str | None = None,
        project: str | None = None,
        until: Literal["present", "moved", "removed"] = "present",
        since: str | None = None,
        digest: str | None = None,
        not_version: str | None = None,
        tag: str | None = None,
        metadata: dict[str, Any] | None = None,
        missing: Literal["wait", "fail"] = "wait",
        **kwargs: Any,
    ) -> None:
        self.registry = registry
        self.collection = collection
        self.alias = alias
        self.entity = entity
        self.project = project
        self.until = until
        self.since = since
        self.digest = digest
        self.not_version = not_version
        self.tag = tag
        self.metadata = metadata
        self.missing = missing
        super().__init__(**kwargs)
        if (registry is None) == (project is None):
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: an alias is one of a registry or one of a project: name one of the two."
            )
        self._began: str | dict[str, Any] | None = None
        self._arm()

    def _trigger_class(self) -> str:
        return "wandb_airflow_provider.triggers.registry.WandbRegistryAliasTrigger"

    def _may_start_from_trigger(self) -> bool:
        if self.until == "moved" and self.since is None:
            return False
        return super()._may_start_from_trigger()

    def _trigger_arguments(self, **more: Any) -> dict[str, Any]:
        return {**super()._trigger_arguments(**more), "mode": "wait"}

    def _trigger(self, end_time: float | None) -> SharedPollTrigger:
        trigger = super()._trigger(end_time)
        trigger.since = self.since or self._began  # type: ignore[attr-defined]
        return trigger

    def _remember(self, context: Context, trigger: SharedPollTrigger) -> None:
        if self.mode != "reschedule" or self.deferrable or self.until != "moved" or self.since is not None:
            return
        store: Any = context.get("task_state_store")
        if store is None:
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: before Airflow 3.3 a rescheduled sensor cannot remember who held the alias "
                "when it began. Pass since=..., or use deferrable=True or mode='poke'."
            )
        trigger.since = store.get(self._since_key(context))  # type: ignore[attr-defined]

    def _noted(self, context: Context, trigger: SharedPollTrigger) -> None:
        began: Any = trigger.since  # type: ignore[attr-defined]
        store: Any = context.get("task_state_store")
        rescheduled = self.mode == "reschedule" and not self.deferrable and self.until == "moved"
        if self._began is None and rescheduled and store is not None:
            store.set(self._since_key(context), began)
        self._began = began

    def _since_key(self, context: Context) -> str:
        # The store outlives the try: a task that is cleared begins anew.
        return f"{_SINCE_KEY}_{context['ti'].try_number}"
