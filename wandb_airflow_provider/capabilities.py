"""What the installed Airflow can do, where its releases differ: the only place that asks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

__all__ = ["keeps_asset_state", "serde", "task_breadcrumbs"]


def task_breadcrumbs(
    ti: Any, dag_id: str, dag_run_id: str, task_ids: Collection[str] = ()
) -> list[Mapping[str, Any]]:
    """
    Return the finished task instances of a DAG run, each with ``task_id``, ``map_index``, ``state``, ``duration``.

    Airflow tells this since 3.2. Airflow 3.1 tells the states alone: there durations are None, and an instance of a
    mapped task is recognised by its name, ``train_3``, and only where the ids of the DAG's tasks are at hand.

    :param ti: The running task instance.
    :param task_ids: The ids of the DAG's tasks, where they are at hand.
    """
    if hasattr(type(ti), "get_task_breadcrumbs"):
        return list(ti.get_task_breadcrumbs(dag_id, dag_run_id))
    states = ti.get_task_states(dag_id=dag_id, run_ids=[dag_run_id]).get(dag_run_id, {})
    rows: list[Mapping[str, Any]] = []
    for name, state in states.items():
        if state is None or (text := str(getattr(state, "value", state))) not in _FINAL:
            continue
        task_id, map_index = _instance(name, task_ids)
        rows.append({"task_id": task_id, "map_index": map_index, "state": text, "duration": None})
    return rows


def keeps_asset_state() -> bool:
    """Return whether Airflow keeps a state for each asset, which API servers and triggerers share: since 3.3."""
    return find_spec("airflow.state") is not None


@cache
def serde() -> Any:
    """Return Airflow's module with ``serialize`` and ``deserialize``, which is part of its SDK since 3.2."""
    from importlib import import_module

    try:
        return import_module("airflow.sdk.serde")
    except ModuleNotFoundError:
        return import_module("airflow.serialization.serde")


_FINAL = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


def _instance(name: str, task_ids: Collection[str]) -> tuple[str, int]:
    """Return task id and map index of a name such as ``train`` or ``train_3``."""
    task_id, _, index = name.rpartition("_")
    if name not in task_ids and task_id in task_ids and index.isdecimal():
        return task_id, int(index)
    return name, -1
