"""Wait until a W&B run has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from wandb_airflow_provider.exceptions import WandbRunFailedError
from wandb_airflow_provider.sensors.waiting import WandbWaitSensor

if TYPE_CHECKING:
    from wandb_airflow_provider.waiting.decision import Decision

__all__ = ["WandbRunSensor"]


class WandbRunSensor(WandbWaitSensor):
    """
    Wait until a W&B run has ended, and succeed, fail or skip by how it did.

    Pushes the JSON value of its ``RunRef`` with ``state`` and ``name``. A run whose process is gone is ended by W&B
    itself, as crashed or preempted, some minutes after its last sign of life: no state is waited for in vain. While
    W&B cannot be reached the sensor goes on waiting, with one warning per outage; a key that is refused fails it at
    once.

    :param wandb_run: ``entity/project/run_id``, or a run as tasks push it under the XCom key ``wandb_run``.
        (templated)
    :param outcomes: What final states mean, where it differs from the default: ``finished`` is ``succeed``;
        ``failed``, ``crashed``, ``killed`` and ``preempted`` are ``fail``. ``skip`` skips the task, and ``wait``
        goes on waiting: ``{"preempted": "wait"}`` for runs that are resumed.
    :param missing: Whether a run that does not exist fails the sensor (``fail``) or is waited for (``wait``).
    :param wandb_conn_id: Airflow connection. (templated)
    :param deferrable: Wait in the triggerer, without a worker slot. Default: the option
        ``[operators] default_deferrable``.
    :param start_from_trigger: With ``deferrable``, start in the triggerer on Airflow 3.3.
    :param poke_interval: Seconds between two reads, in the triggerer too.
    :param timeout: Longest total wait in seconds, deferrals included.
    :raises WandbRunFailedError: the run ended in a state whose outcome is ``fail``. Not retried.
    :raises AirflowSensorTimeout: the run did not end in time.
    :raises WandbNotFoundError: no such run, with ``missing="fail"``. Not retried.
    :raises WandbAuthenticationError: W&B does not accept the key. Not retried.
    """

    _passed = ("wandb_run", "outcomes", "missing")
    template_fields: Sequence[str] = ("wandb_run", "wandb_conn_id")

    def __init__(
        self,
        *,
        wandb_run: str | dict[str, Any],
        outcomes: Mapping[str, str] | None = None,
        missing: Literal["wait", "fail"] = "fail",
        **kwargs: Any,
    ) -> None:
        from wandb_airflow_provider.waiting.run import outcomes_of

        self.wandb_run = wandb_run
        self.outcomes = dict(outcomes_of(outcomes))
        self.missing = missing
        super().__init__(**kwargs)
        self._arm()

    def _trigger_class(self) -> str:
        return "wandb_airflow_provider.triggers.run.WandbRunTrigger"

    def _error(self, decision: Decision) -> Exception:
        if decision.reason.startswith("run_"):
            return WandbRunFailedError(decision.sentence)
        return super()._error(decision)
