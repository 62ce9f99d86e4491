"""The part that all sensors share: look, wait here or in the triggerer, and turn a decision into the task's end."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
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
    WandbUnavailableError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.sensor import PokeReturnValue

    from wandb_airflow_provider.triggers.reader import WandbReader
    from wandb_airflow_provider.triggers.shared_poll import SharedPollTrigger
    from wandb_airflow_provider.waiting.decision import Decision

__all__ = ["WandbWaitSensor"]

_ERRORS: dict[str, type[WandbError]] = {
    "authentication": WandbAuthenticationError,
    "permission": WandbPermissionError,
    "not_found": WandbNotFoundError,
    "configuration": WandbConfigurationError,
}


class WandbWaitSensor(BaseSensorOperator):
    """
    Wait for something in W&B, in this process or in the triggerer; both look and decide with the same code.

    While W&B cannot be reached the sensor goes on waiting, with one warning per outage; a key that is refused fails
    it at once.

    :param wandb_conn_id: Airflow connection. (templated)
    :param deferrable: Wait in the triggerer, without a worker slot. Default: the option
        ``[operators] default_deferrable``.
    :param start_from_trigger: With ``deferrable``, start in the triggerer, without a worker before (Airflow 3.3;
        earlier releases look once in a worker, as without it, and so does a sensor that is given what another task
        pushed).
    :param poke_interval: Seconds between two reads, in the triggerer too (there at least 1).
    :param timeout: Longest total wait in seconds: deferrals, reschedules and outages of W&B included.
    """

    ui_color = "#fff3c9"

    # The arguments of the trigger that are the sensor's own.
    _passed: Sequence[str] = ()

    def __init__(
        self,
        *,
        wandb_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wandb_conn_id = wandb_conn_id
        self.deferrable = deferrable
        self._failing = False
        self._reader: WandbReader | None = None
        self.start_from_trigger = start_from_trigger and deferrable and self._may_start_from_trigger()

    def _arm(self) -> None:
        """Name the trigger that the task starts in; a constructor's last act."""
        if not self.start_from_trigger:
            return
        from airflow.triggers.base import StartTriggerArgs

        # No worker looks at the arguments before the triggerer does.
        self._trigger(None)

        from wandb_airflow_provider.triggers.shared_poll import BACKSTOP_SECONDS

        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=self._trigger_class(),
            trigger_kwargs=self._trigger_arguments(),
            next_method="execute_complete",
            next_kwargs=None,
            timeout=timedelta(seconds=self.timeout + BACKSTOP_SECONDS),
        )

    @abstractmethod
    def _trigger_class(self) -> str:
        """Return the class path of the trigger."""

    def _may_start_from_trigger(self) -> bool:
        # The triggerer renders templates for a task that starts there since the release that shares streams. What other
        # tasks have pushed it cannot read.
        from airflow.sdk import XComArg
        from airflow.triggers.base import BaseEventTrigger

        given = [self.wandb_conn_id, *(getattr(self, name) for name in self._passed)]
        return hasattr(BaseEventTrigger, "shared_stream_key") and not any(XComArg.iter_xcom_references(given))

    def _trigger_arguments(self, **more: Any) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in self._passed},
            "wandb_conn_id": self.wandb_conn_id,
            "poll_interval": max(self.poke_interval, 1.0),
            **more,
        }

    def _trigger(self, end_time: float | None) -> SharedPollTrigger:
        module, _, name = self._trigger_class().rpartition(".")
        kind: type[SharedPollTrigger] = getattr(import_module(module), name)
        trigger = kind(**self._trigger_arguments(end_time=end_time, looked=True))
        trigger.check()
        return trigger

    def execute(self, context: Context) -> Any:
        """Look once, then wait in this process or in the triggerer."""
        from wandb_airflow_provider import sdk

        end_time = time.time() + self.timeout
        try:
            if not self.deferrable:
                return super().execute(context)
            decision = self._look(context, end_time)
        finally:
            # Left alive, the client's process would block the worker slot after the task is done.
            self._reader = None
            sdk.release()
        return self._finish(decision) if decision.status != "wait" else self._wait_in_triggerer(end_time)

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look; true, with what was found, when the waiting is over."""
        from airflow.sdk.bases.sensor import PokeReturnValue

        decision = self._look(context, end_time=float("inf"))
        if decision.status == "wait":
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._finish(decision))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """
        Take the trigger's answer.

        :raises WandbConfigurationError: the event cannot be understood.
        """
        from wandb_airflow_provider.waiting.decision import Decision

        return self._finish(Decision.from_json(event))

    def _look(self, context: Context, end_time: float) -> Decision:
        from wandb_airflow_provider.artifacts import ArtifactRef
        from wandb_airflow_provider.waiting.decision import settle

        trigger = self._trigger(None)
        self._remember(context, trigger)
        target = trigger.awaited()
        reader = self._reader = self._reader or trigger.reader()
        observed = reader.read([target], {target} if trigger.strict else ())[target]
        error = observed.error
        judged = None if error else trigger.judge(observed)
        if judged is not None and judged.status == "done" and (judged.value or {}).get("digest"):
            value = judged.value or {}
            try:
                value = value | reader.complete(ArtifactRef.from_json(value)).to_json()
                judged = judged._replace(value=value)
            except WandbUnavailableError as unavailable:
                judged, error = None, unavailable
        decision = settle(str(trigger), judged, error, now=time.time(), end_time=end_time)
        self._tell(trigger, decision, error)
        if error is None:
            self._noted(context, trigger)
        return decision

    def _remember(self, context: Context, trigger: SharedPollTrigger) -> None:
        """Give the trigger what an earlier look found."""

    def _noted(self, context: Context, trigger: SharedPollTrigger) -> None:
        """Keep what this look found for a later one."""

    def _tell(self, trigger: SharedPollTrigger, decision: Decision, error: WandbError | None) -> None:
        if decision.status == "wait":
            if error is not None and not self._failing:
                self.log.warning("%s cannot be read; waiting goes on. %s", trigger, error)
            elif error is None:
                self.log.info("%s: waiting; %s", trigger, decision.sentence)
        self._failing = error is not None

    def _wait_in_triggerer(self, end_time: float) -> None:
        from wandb_airflow_provider.triggers.shared_poll import BACKSTOP_SECONDS

        self.defer(
            trigger=self._trigger(end_time),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout + BACKSTOP_SECONDS),
        )

    def _finish(self, decision: Decision) -> dict[str, Any]:
        """Return what was found, or raise what the decision stands for."""
        if decision.value is not None:
            self.log.info("%s", decision.sentence)
            return decision.value
        if decision.status == "skipped":
            raise AirflowSkipException(decision.sentence)
        error: Exception
        if decision.status == "timed_out":
            error = AirflowSensorTimeout(decision.sentence)
        else:
            error = self._error(decision)
        if self.soft_fail or self.never_fail:
            raise AirflowSkipException(f"Skipped instead of failed: {decision.sentence}") from error
        raise error

    def _error(self, decision: Decision) -> Exception:
        return _ERRORS.get(decision.reason, WandbPermanentError)(decision.sentence)
