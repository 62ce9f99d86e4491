"""The XCom backend that Airflow is configured with."""

from __future__ import annotations

from typing import Any

from airflow.sdk.bases.xcom import BaseXCom

from wandb_airflow_provider.xcom import settings

__all__ = ["WandbXComBackend", "inner_backend"]

_UNKNOWN = "unknown"


class WandbXComBackend(BaseXCom):
    """
    Keep small XComs where they were, and pass large ones, tables, arrays, models and files as W&B artifacts.

    Set ``[core] xcom_backend = wandb_airflow_provider.xcom.backend.WandbXComBackend``; the section ``[wandb_xcom]`` has
    the options. What lands in Airflow's database is the value as before, or a reference as JSON: the artifact with its
    version, the digest that is checked when it is read, and the URL where people see it.

    :raises WandbConfigurationError: a value that cannot be passed so that the same comes back. Not retried.
    :raises WandbUnavailableError: W&B or the object store cannot be reached. Retried.
    :raises WandbXComRefusedError: a reference, or what it leads to, is not accepted here. Not retried.
    :raises WandbXComIntegrityError: what it leads to is not what was pushed. Not retried.
    """

    @staticmethod
    def serialize_value(
        value: Any,
        *,
        key: str | None = None,
        task_id: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        map_index: int | None = None,
    ) -> str:
        """Return what is written to Airflow's database; what the value refers to is stored when this returns."""
        from wandb_airflow_provider.xcom.reference import MARKER, Producer, is_reference
        from wandb_airflow_provider.xcom.size import is_large, is_plainly_small

        threshold = settings.threshold_bytes()
        if not is_plainly_small(value, threshold, MARKER):
            from wandb_airflow_provider.xcom.codecs.registry import json_codec
            from wandb_airflow_provider.xcom.producer import Push

            producer = Producer(
                dag_id or _UNKNOWN,
                run_id or _UNKNOWN,
                task_id or _UNKNOWN,
                key or _UNKNOWN,
                -1 if map_index is None else map_index,
            )
            with Push(producer) as push:
                value = push.replaced(value)
                if not is_reference(value) and is_large(value, threshold):
                    value = push.store(value, json_codec(value))
        return inner_backend().serialize_value(
            value, key=key, task_id=task_id, dag_id=dag_id, run_id=run_id, map_index=map_index
        )

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """Return the value that was pushed."""
        value = inner_backend().deserialize_value(result)
        if type(value) not in (dict, list, tuple):
            return value
        from wandb_airflow_provider.xcom.consumer import Pull, holds_reference

        return Pull().resolved(value) if holds_reference(value) else value

    @classmethod
    def delete(cls, key: str, task_id: str, dag_id: str, run_id: str, map_index: int | None = None) -> None:
        """Delete an XCom of a task that is cleared or retried, and what it refers to if ``purge`` says so."""
        if settings.purge() == "delete":
            from wandb_airflow_provider.xcom.reference import Producer
            from wandb_airflow_provider.xcom.removal import purge

            found = cls._get_xcom_db_ref(
                key=key, dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index
            )
            index = -1 if map_index is None else map_index
            purge(found.value, Producer(dag_id, run_id, task_id, key, index))
        super().delete(key, task_id, dag_id, run_id, map_index)

    @classmethod
    def purge(cls, xcom: Any, *args: Any) -> None:
        """Let the inner backend remove what it keeps; see :meth:`delete` for artifacts."""
        from wandb_airflow_provider.xcom.reference import is_reference

        inner = inner_backend()
        if inner is not BaseXCom and not is_reference(xcom.value):
            inner.purge(xcom, *args)


def inner_backend() -> type[BaseXCom]:
    """
    Return the backend for what does not become an artifact.

    :raises WandbConfigurationError: it is none.
    """
    name = settings.inner_backend()
    if name is None:
        return BaseXCom
    from importlib import import_module

    from wandb_airflow_provider.exceptions import WandbConfigurationError

    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, ValueError, AttributeError) as error:
        raise WandbConfigurationError(
            f"Option 'inner_backend' of [wandb_xcom] is {name!r}: {error}."
        ) from error
    if not (isinstance(found, type) and issubclass(found, BaseXCom)) or issubclass(found, WandbXComBackend):
        raise WandbConfigurationError(
            f"Option 'inner_backend' of [wandb_xcom] is {name!r}; expected another subclass of BaseXCom."
        )
    return found
