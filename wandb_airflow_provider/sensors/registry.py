"""Wait until a registry alias is held by the version that is wanted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    conf,
)

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbError,
    WandbNotFoundError,
    WandbPermanentError,
    WandbPermissionError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.registry import RegistryAlias

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.sensor import PokeReturnValue

    from wandb_airflow_provider.waiting import Decision

__all__ = ["WandbRegistryAliasSensor"]

# The trigger keeps the deadline itself; Airflow's own, coarser one ends a deferral whose trigger is gone.
_BACKSTOP_SECONDS = 60.0

_ERRORS: dict[str, type[WandbError]] = {
    "authentication": WandbAuthenticationError,
    "permission": WandbPermissionError,
    "not_found": WandbNotFoundError,
    "configuration": WandbConfigurationError,
}


class WandbRegistryAliasSensor(BaseSensorOperator):
    """
    Wait until an alias of a registry collection is held.

    Pushes the version that holds it, as the JSON value of an ``ArtifactRef``. An alias, collection or
    registry that does not exist yet is waited for. While W&B cannot be reached the sensor goes on waiting,
    with one warning per outage; a key that is refused fails it at once.

    :param registry: Name of the registry, without the prefix of its project. (templated)
    :param collection: Collection in the registry. (templated)
    :param alias: The alias, ``production`` for example. (templated)
    :param digest: Only content with this digest ends the waiting. (templated)
    :param not_version: Any version of the collection but this one, ``v3`` for example. (templated)
    :param wandb_conn_id: Airflow connection. (templated)
    :param deferrable: Wait in the triggerer, without a worker slot. Default: the option
        ``[operators] default_deferrable``.
    :param poke_interval: Seconds between two reads, in the triggerer too.
    :param timeout: Longest total wait in seconds, deferrals included.
    :raises AirflowSensorTimeout: the alias was not held in time.
    :raises WandbAuthenticationError: W&B does not accept the key. Not retried.
    :raises WandbInvalidNameError: a name that W&B would refuse. Nothing was sent. Not retried.
    """

    template_fields: Sequence[str] = (
        "registry",
        "collection",
        "alias",
        "digest",
        "not_version",
        "wandb_conn_id",
    )
    ui_color = "#fff3c9"

    def __init__(
        self,
        *,
        registry: str,
        collection: str,
        alias: str,
        digest: str | None = None,
        not_version: str | None = None,
        wandb_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.registry = registry
        self.collection = collection
        self.alias = alias
        self.digest = digest
        self.not_version = not_version
        self.wandb_conn_id = wandb_conn_id
        self.deferrable = deferrable
        self._failing = False

    def execute(self, context: Context) -> Any:
        """Look once, then wait in this process or in the triggerer."""
        from wandb_airflow_provider import sdk

        end_time = time.time() + self.timeout
        try:
            if not self.deferrable:
                return super().execute(context)
            decision = self._look(end_time)
        finally:
            # Left alive, the client's process would block the worker slot after the task is done.
            sdk.release()
        return self._finish(decision) if decision.status != "wait" else self._wait_in_triggerer(end_time)

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Read the alias; true, with the version, when it is held as wanted."""
        from airflow.sdk.bases.sensor import PokeReturnValue

        decision = self._look(end_time=float("inf"))
        if decision.status == "wait":
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._finish(decision))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """
        Take the trigger's answer.

        :raises WandbConfigurationError: the event cannot be understood.
        """
        from wandb_airflow_provider.waiting import Decision

        return self._finish(Decision.from_json(event))

    def _look(self, end_time: float) -> Decision:
        from wandb_airflow_provider.waiting import AliasWish, Observation, decide

        target = RegistryAlias(self.registry, self.collection, self.alias)
        try:
            hook = WandbHook(self.wandb_conn_id)
            observed = Observation(ref=hook.get_alias(target.registry, target.collection, target.alias))
        except WandbError as error:
            observed = Observation(error=error)
        decision = decide(
            target, AliasWish(self.digest, self.not_version), observed, now=time.time(), end_time=end_time
        )
        if decision.status == "wait":
            if observed.error is not None and not self._failing:
                self.log.warning("The alias %s cannot be read; waiting goes on. %s", target, observed.error)
            elif observed.error is None:
                self.log.info("Waiting for the alias %s: %s", target, decision.sentence)
            self._failing = observed.error is not None
        return decision

    def _wait_in_triggerer(self, end_time: float) -> None:
        from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger

        self.defer(
            trigger=WandbRegistryAliasTrigger(
                registry=self.registry,
                collection=self.collection,
                alias=self.alias,
                wandb_conn_id=self.wandb_conn_id,
                poll_interval=max(self.poke_interval, 1.0),
                mode="wait",
                digest=self.digest,
                not_version=self.not_version,
                end_time=end_time,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + _BACKSTOP_SECONDS),
        )

    def _finish(self, decision: Decision) -> dict[str, Any]:
        """Return the version, or raise what the decision stands for."""
        if decision.ref is not None:
            self.log.info("%s", decision.sentence)
            return decision.ref.to_json()
        error: Exception
        if decision.status == "timed_out":
            error = AirflowSensorTimeout(decision.sentence)
        else:
            error = _ERRORS.get(decision.reason, WandbPermanentError)(decision.sentence)
        if self.soft_fail or self.never_fail:
            raise AirflowSkipException(f"Skipped instead of failed: {decision.sentence}") from error
        raise error
