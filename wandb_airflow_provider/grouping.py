"""Whether the tasks of a DAG can share one W&B run: no two of them may write to it at the same time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.hierarchy import opens_run

__all__ = ["Order", "refuse_concurrent_writers", "refuse_unshareable_arguments", "stages"]

_WAYS_OUT = (
    "Chain them inside the `with wandb_pipeline(...)` block, give each task its own run with strategy='nested', or let "
    "them write together with shared=True"
)
_OWN_RUN_ARGUMENTS = ("wandb_conn_id", "entity", "project", "run_name")
# The rules under which a task may start while some of its upstream tasks still work.
_EARLY_RULES = frozenset({"one_success", "one_failed", "one_done"})


class Order:
    """
    Which tasks of a DAG have certainly ended when another one starts, whatever fails or is skipped on the way.

    Being upstream is not enough: ``one_success`` starts before the other upstream tasks have ended, and a task whose
    first upstream task fails is ``upstream_failed`` at once, while its other upstream tasks still work.
    """

    def __init__(self) -> None:
        self._at_start: dict[str, frozenset[str]] = {}
        self._at_end: dict[str, frozenset[str]] = {}

    def before(self, task: Any) -> frozenset[str]:
        """Return the ids of the tasks that have certainly ended when the task starts to execute."""
        if task.task_id not in self._at_start:
            self._at_start[task.task_id] = self._before(task)
        return self._at_start[task.task_id]

    def _before(self, task: Any) -> frozenset[str]:
        rule = str(getattr(task.trigger_rule, "value", task.trigger_rule))
        upstream = list(task.upstream_list)
        if rule == "always" or not upstream:
            return frozenset()
        if rule == "all_success":
            return frozenset().union(*(self.before(up) | {up.task_id} for up in upstream))
        ended = [self._ended_with(up) for up in upstream]
        if rule in _EARLY_RULES:
            # An upstream task that is mapped counts each of its instances, of which the first is enough.
            return frozenset() if any(is_mapped(up) for up in upstream) else _shared_by(ended)
        return frozenset().union(*ended)

    def _ended_with(self, task: Any) -> frozenset[str]:
        """Return the ids of the tasks that have certainly ended when the task has a final state, itself included."""
        if task.task_id not in self._at_end:
            upstream = list(task.upstream_list)
            certain = self.before(task)
            if len(upstream) > 1:
                certain &= _shared_by([self._ended_with(up) for up in upstream])
            self._at_end[task.task_id] = certain | {task.task_id}
        return self._at_end[task.task_id]


def stages(tasks: Iterable[Any]) -> list[Any]:
    """Return those of the tasks that open a W&B run, and so write to the one of a ``single`` pipeline."""
    return [task for task in tasks if opens_run(task)]


def refuse_concurrent_writers(dag_id: str, tasks: Sequence[Any]) -> None:
    """
    Refuse tasks of which two could write to the run of the pipeline at the same time.

    :param tasks: The pipeline's tasks that open a W&B run.
    :raises WandbConfigurationError: names the first two tasks found, and the ways out.
    """
    for task in tasks:
        _refuse_mapped(dag_id, task)
    order = Order()
    for one, other in combinations(tasks, 2):
        if one.task_id not in order.before(other) and other.task_id not in order.before(one):
            raise WandbConfigurationError(
                f"DAG {dag_id!r} keeps all its tasks in one W&B run (strategy='single'), and the tasks {one.task_id!r} "
                f"and {other.task_id!r} could write to it at the same time: neither always ends before the other "
                f"starts. Concurrent writers overwrite each other's history. {_WAYS_OUT}."
            )


def refuse_unshareable_arguments(dag_id: str, tasks: Sequence[Any]) -> None:
    """
    Refuse tasks that ask for what only a run of their own has, and task ids whose metrics would mix.

    :raises WandbConfigurationError: names the task and the argument, or the two tasks.
    """
    for task in tasks:
        arguments = getattr(task, "partial_kwargs", None)
        for name in _OWN_RUN_ARGUMENTS:
            given = arguments.get(name) if arguments is not None else getattr(task, name, None)
            if given is not None:
                raise WandbConfigurationError(
                    f"DAG {dag_id!r} keeps all its tasks in one W&B run (strategy='single'), and task "
                    f"{task.task_id!r} sets {name}={given!r}. Set it on wandb_pipeline(...), or use strategy='nested'."
                )
    for one, other in combinations(sorted(task.task_id for task in tasks), 2):
        if re.fullmatch(re.escape(one) + r"_try\d+", other):
            raise WandbConfigurationError(
                f"DAG {dag_id!r} keeps all its tasks in one W&B run (strategy='single'), where the metrics of a retry "
                f"of {one!r} and those of the task {other!r} would have the same names. Rename one of the two."
            )


def is_mapped(task: Any) -> bool:
    """Say whether a DAG run can have several instances of the task."""
    return bool(getattr(task, "is_mapped", False)) or any(True for _ in task.iter_mapped_task_groups())


def _refuse_mapped(dag_id: str, task: Any) -> None:
    if not is_mapped(task):
        return
    in_group = any(True for _ in task.iter_mapped_task_groups())
    if not in_group and task.max_active_tis_per_dagrun == 1:
        return
    in_turn = "" if in_group else ", run them in turn with max_active_tis_per_dagrun=1"
    raise WandbConfigurationError(
        f"DAG {dag_id!r} keeps all its tasks in one W&B run (strategy='single'), and the instances "
        f"{task.task_id + '[0]'!r} and {task.task_id + '[1]'!r} of a mapped task could write to it at the same time. "
        f"Concurrent writers overwrite each other's history. Give each its own run with strategy='nested'{in_turn}, or "
        "let them write together with shared=True."
    )


def _shared_by(sets: Sequence[frozenset[str]]) -> frozenset[str]:
    return sets[0].intersection(*sets[1:])
