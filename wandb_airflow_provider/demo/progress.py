"""What changed in a DAG run since it was last looked at, as lines for the terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from wandb_airflow_provider.demo.airflow_records import TaskInstance

__all__ = ["TaskProgress"]

_WAITING_TO_START = frozenset({"none", "scheduled", "queued", "removed"})
_TIMED = frozenset({"success", "failed", "up_for_retry"})
_WORDS = {
    "running": "started",
    "restarting": "restarting",
    "success": "done",
    "failed": "FAILED",
    "skipped": "skipped",
    "upstream_failed": "not run: a task before it failed",
    "up_for_retry": "failed, to be tried again,",
    "up_for_reschedule": "waits",
    "deferred": "waits (deferred)",
    "awaiting_input": "waits for a person",
}


class TaskProgress:
    """
    Turn snapshots of task instances into one line per change.

    :param width: Columns for the task's name.
    """

    def __init__(self, width: int = 34) -> None:
        self._width = width
        self._seen: dict[tuple[str, int], tuple[str, int]] = {}

    def observe(self, elapsed: float, tasks: Iterable[TaskInstance]) -> list[str]:
        """
        Return the lines for what has changed, in the order in which the tasks started.

        :param elapsed: Seconds since the DAG run was started, shown in front.
        """
        lines = []
        for task in sorted(tasks, key=_order):
            key, now = (task.task_id, task.map_index), (task.state, task.try_number)
            if task.state in _WAITING_TO_START or self._seen.get(key) == now:
                continue
            self._seen[key] = now
            lines.append(f"  {elapsed:6.1f} s  {task.label:<{self._width}} {_describe(task)}".rstrip())
        return lines


def _describe(task: TaskInstance) -> str:
    text = _WORDS.get(task.state, task.state)
    if task.state in _TIMED and task.duration is not None:
        text += f" in {task.duration:.1f} s"
    if task.try_number > 1 and task.state != "skipped":
        text += f" (try {task.try_number})"
    return text


def _order(task: TaskInstance) -> tuple[bool, float, str, int]:
    started = task.start_date
    return (started is None, started.timestamp() if started else 0.0, task.task_id, task.map_index)
