"""A task's place among the runs of its DAG run: its pipeline, its parent run and its upstream runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from wandb_airflow_provider.identity import RunRef

__all__ = ["PipelineSettings", "Upstream", "find_pipeline", "upstream_run_tasks"]


class PipelineSettings(NamedTuple):
    """What ``wandb_pipeline(...)`` sets for all tasks of its DAG; a task's own arguments win."""

    open_task_id: str
    close_task_id: str
    wandb_conn_id: str
    entity: str | None = None
    project: str | None = None
    tags: tuple[str, ...] = ()
    wandb_retries: Literal["new", "resume"] = "new"
    config: Mapping[str, Any] = MappingProxyType({})


class Upstream(NamedTuple):
    """
    A task whose runs precede this task's run.

    :param same_map_index: Both are in one mapped task group, so only the run of the same index precedes it.
    """

    task_id: str
    same_map_index: bool = False


def find_pipeline(dag: Any) -> PipelineSettings | None:
    """Return the settings of the DAG's pipeline, or None for a DAG without one."""
    for task in dag.task_dict.values():
        settings = getattr(task, "wandb_pipeline_settings", None)
        if isinstance(settings, PipelineSettings):
            return settings
    return None


def opens_run(task: Any) -> bool:
    """Say whether a task, mapped or not, opens a W&B run of its own when it executes."""
    kind = getattr(task, "operator_class", type(task))
    return bool(getattr(kind, "opens_wandb_run", False))


def upstream_run_tasks(task: Any) -> list[Upstream]:
    """
    Return the nearest upstream tasks that open runs, looking through those that open none.

    A sensor, branch or any other operator without a run is passed through, so that the chain of runs has
    no gap where the DAG has none.
    """
    found: dict[str, Upstream] = {}
    seen: set[str] = set()
    waiting = list(task.upstream_list)
    while waiting:
        candidate = waiting.pop()
        if candidate.task_id in seen:
            continue
        seen.add(candidate.task_id)
        if opens_run(candidate):
            found[candidate.task_id] = Upstream(candidate.task_id, _share_a_mapped_group(task, candidate))
        else:
            waiting.extend(candidate.upstream_list)
    return [found[task_id] for task_id in sorted(found)]


def runs_from_xcom(values: Any) -> Iterator[RunRef]:
    """Yield the runs among pulled XCom values; a skipped task leaves a hole there."""
    for value in values if isinstance(values, list) else [values]:
        if value is not None:
            yield RunRef.from_json(value)


def _share_a_mapped_group(task: Any, other: Any) -> bool:
    # By id: the task that executes is an unmapped copy of the one in the DAG.
    groups = {group.group_id for group in task.iter_mapped_task_groups()}
    return any(group.group_id in groups for group in other.iter_mapped_task_groups())
