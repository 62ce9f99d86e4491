"""A task's place among the runs of its DAG run: its pipeline, its parent run and its upstream runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from wandb_airflow_provider.identity import RunRef

if TYPE_CHECKING:
    from wandb_airflow_provider.outage import OnUnavailable
    from wandb_airflow_provider.redaction import RedactionPolicy

__all__ = [
    "ROOT_JOB_TYPE",
    "PipelineSettings",
    "Upstream",
    "find_pipeline",
    "known_pipelines",
    "nearest_runs",
    "upstream_run_tasks",
]

OPEN_TASK_ID = "wandb_pipeline_open"
CLOSE_TASK_ID = "wandb_pipeline_close"
ROOT_JOB_TYPE = "pipeline"
"""``job_type`` of the pipeline run."""

_MOST_TASKS_ASKED = 50


class PipelineSettings(NamedTuple):
    """
    What ``wandb_pipeline(...)`` sets for all tasks of its DAG; a task's own arguments win.

    :param stages: With ``single``: the ids of the tasks that write to the pipeline run instead of runs of their own.
    """

    open_task_id: str
    close_task_id: str
    wandb_conn_id: str
    entity: str | None = None
    project: str | None = None
    tags: tuple[str, ...] = ()
    wandb_retries: Literal["new", "resume"] = "new"
    config: Mapping[str, Any] = MappingProxyType({})
    strategy: Literal["nested", "single"] = "nested"
    shared: bool = False
    stages: frozenset[str] = frozenset()
    on_unavailable: OnUnavailable = "fail"
    spool: str | None = None
    redaction: RedactionPolicy | None = None


known_pipelines: dict[str, PipelineSettings] = {}
"""The pipelines of the DAG files that this process has read, by DAG id: where there is no task at hand to ask."""


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


def starts_run(task: Any) -> bool:
    """Say whether a task, mapped or not, starts a process that opens the task's W&B run."""
    kwargs = getattr(task, "partial_kwargs", None)
    hook = kwargs.get("pre_execute") if kwargs is not None else task._pre_execute_hook
    return bool(getattr(hook, "starts_wandb_run", False))


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
        if opens_run(candidate) or starts_run(candidate):
            found[candidate.task_id] = Upstream(candidate.task_id, _share_a_mapped_group(task, candidate))
        else:
            waiting.extend(candidate.upstream_list)
    return [found[task_id] for task_id in sorted(found)]


def nearest_runs(task: Any, runs_of: Callable[[Upstream], list[RunRef]]) -> list[RunRef]:
    """
    Return the runs of the nearest upstream tasks that have any, looking through those that have none.

    For tasks whose operators do not tell whether they open a run, so that each is asked for. One whose operator
    does tell is not looked through where it was skipped, as in :func:`upstream_run_tasks`.

    :param runs_of: Returns the runs of one task; a request, so at most 50 tasks are asked, the nearest first.
    """
    found: list[RunRef] = []
    seen: set[str] = set()
    waiting = sorted(task.upstream_list, key=lambda upstream: str(upstream.task_id))
    while waiting and len(seen) < _MOST_TASKS_ASKED:
        candidate = waiting.pop(0)
        if candidate.task_id in seen:
            continue
        seen.add(candidate.task_id)
        # The pipeline's own task has the run that is the parent of all.
        is_pipeline = hasattr(candidate, "wandb_pipeline_settings")
        runs = (
            []
            if is_pipeline
            else runs_of(Upstream(candidate.task_id, _share_a_mapped_group(task, candidate)))
        )
        found.extend(runs)
        if not runs and not opens_run(candidate) and not starts_run(candidate):
            waiting.extend(sorted(candidate.upstream_list, key=lambda upstream: str(upstream.task_id)))
    return found


def runs_from_xcom(values: Any) -> Iterator[RunRef]:
    """Yield the runs among pulled XCom values; a skipped task leaves a hole there."""
    for value in values if isinstance(values, list) else [values]:
        if value is not None:
            yield RunRef.from_json(value)


def _share_a_mapped_group(task: Any, other: Any) -> bool:
    # By id: the task that executes is an unmapped copy of the one in the DAG.
    groups = {group.group_id for group in task.iter_mapped_task_groups()}
    return any(group.group_id in groups for group in other.iter_mapped_task_groups())
