"""Where a run comes from: an Airflow task context as ``config["airflow"]`` of its W&B run."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import redact

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["TRIGGERED_BY", "git_commit", "task_provenance", "triggered_by"]

TRIGGERED_BY = "wandb_triggered_by"
"""Key in a DAG run's ``conf`` under which the DAG that triggered it names its run."""


def task_provenance(context: Context) -> dict[str, Any]:
    """
    Return what identifies and explains a task attempt, as JSON; secrets that Airflow knows are masked.

    Keys that Airflow does not know in this DAG run (the logical date of a run without one, say) are None.
    """
    ti, dag, dag_run, task = context["ti"], context["dag"], context["dag_run"], context["task"]
    return {
        "dag_id": ti.dag_id,
        "dag_run_id": ti.run_id,
        "task_id": ti.task_id,
        "map_index": map_index(ti),
        "try_number": ti.try_number,
        "started_at": _iso(ti.start_date),
        "operator": task.task_type,
        "run_type": str(getattr(dag_run.run_type, "value", dag_run.run_type)),
        "logical_date": _iso(dag_run.logical_date),
        "data_interval_start": _iso(dag_run.data_interval_start),
        "data_interval_end": _iso(dag_run.data_interval_end),
        "run_after": _iso(dag_run.run_after),
        "params": redact(dict(context["params"])),
        "owner": task.owner,
        "dag_version": _dag_version(ti),
        "bundle": _bundle(ti),
        "git_commit": git_commit(str(Path(dag.fileloc).parent)),
        "log_url": ti.log_url,
        "triggered_by": triggered_by(context),
    }


def triggered_by(context: Context) -> list[dict[str, Any]]:
    """
    Return what started this DAG run: the DAG run that triggered it, or the asset events it consumed.

    Each entry has ``kind`` (``dag_run`` or ``asset``), and ``run`` and ``url``, path and address of the W&B run
    behind it when the other side named one. An event of ``wandb_alias_asset`` also has ``artifact``, the version.
    """
    conf = context["dag_run"].conf or {}
    found: list[dict[str, Any]] = []
    source = conf.get(TRIGGERED_BY)
    if isinstance(source, Mapping):
        found.append({"kind": "dag_run", **{key: _text(value) for key, value in source.items()}})
    for events in (context.get("triggering_asset_events") or {}).values():
        found.extend(_asset_event(event) for event in events)
    return found


def _asset_event(event: Any) -> dict[str, Any]:
    extra = event.extra or {}
    payload = extra.get("payload") if extra.get("from_trigger") else None
    pushed = extra.get("wandb_run")
    url = None
    if isinstance(payload, Mapping):
        run = payload.get("source_run")
    elif isinstance(pushed, Mapping):
        run, url = pushed.get("path"), pushed.get("url")
    else:
        run = None
    version = {"artifact": _text(payload.get("path"))} if isinstance(payload, Mapping) else {}
    return {
        "kind": "asset",
        "asset": event.asset.uri,
        "dag_id": event.source_dag_id,
        "dag_run_id": event.source_run_id,
        "task_id": event.source_task_id,
        "map_index": event.source_map_index,
        "run": _text(run),
        "url": _text(url),
        **version,
    }


def map_index(ti: Any) -> int:
    """Return the map index, -1 for a task that is not mapped."""
    return -1 if ti.map_index is None else int(ti.map_index)


@cache
def git_commit(folder: str) -> str | None:
    """Return the commit that holds the folder, with ``-dirty`` when files differ; None outside a checkout."""
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def _bundle(ti: Any) -> dict[str, Any] | None:
    # Absent under dag.test().
    bundle = getattr(ti, "bundle_instance", None)
    return {"name": bundle.name, "version": bundle.version} if bundle is not None else None


def _dag_version(ti: Any) -> str | None:
    return _text(getattr(ti, "dag_version_id", None))


def _iso(value: Any) -> str | None:
    return value.isoformat() if value is not None else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
