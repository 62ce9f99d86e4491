"""Where tasks with a W&B run meet the XCom backend: they log in it what they return, and it uses what they read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb

__all__ = ["is_configured", "record_uses", "store_result"]

_RESULT_KEY = "return_value"


def is_configured() -> bool:
    """Say whether Airflow passes XComs by this package's backend."""
    from airflow.sdk.execution_time import xcom

    from wandb_airflow_provider.xcom.backend import WandbXComBackend

    return issubclass(xcom.XCom, WandbXComBackend)


def store_result(ti: Any, value: Any, *, each: bool) -> None:
    """
    Store what a task is about to return, so that its run, which is open, logs it.

    :param each: Airflow will also push each member of a returned dict.
    :raises WandbUnavailableError: W&B or the object store cannot be reached. Retried.
    """
    from wandb_airflow_provider.provenance import map_index
    from wandb_airflow_provider.xcom import settings
    from wandb_airflow_provider.xcom.producer import prepare
    from wandb_airflow_provider.xcom.reference import MARKER, Producer
    from wandb_airflow_provider.xcom.size import is_plainly_small

    if not is_plainly_small(value, settings.threshold_bytes(), MARKER):
        prepare(value, Producer(ti.dag_id, ti.run_id, ti.task_id, _RESULT_KEY, map_index(ti)), each=each)


def record_uses(wandb_run: wandb.Run) -> None:
    """Record in a run that was just opened what its task has read before, such as its arguments."""
    from wandb_airflow_provider.xcom import consumer

    consumer.record_uses(wandb_run)
