"""The listener that ``[wandb] auto_instrument`` switches on: translates Airflow's hooks, decides which tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import hookimpl

from wandb_airflow_provider import settings
from wandb_airflow_provider.hierarchy import starts_run

if TYPE_CHECKING:
    from wandb_airflow_provider.listeners.instrumented_task import InstrumentedTask

__all__ = ["WandbListener", "is_covered"]

log = logging.getLogger(__name__)

_PACKAGE = f"{__name__.partition('.')[0]}."


class WandbListener:
    """
    Follows the one task of a task process. In every other process it does nothing.

    Airflow says "running" again each time a deferred task resumes, in a new process, and for a task that is marked
    in the UI it says "success" or "failed" in the API server.
    """

    def __init__(self) -> None:
        self._task: InstrumentedTask | None = None

    @hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:
        """Prepare the process, unless the task is not covered."""
        try:
            if self._followed(task_instance) is None and is_covered(task_instance.task):
                self._follow(task_instance)
        except Exception as error:
            # Raised, it would also keep the listeners of others from being called.
            log.warning(
                "[wandb] auto_instrument does not work for this task. %s: %s", type(error).__name__, error
            )

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        """Finish runs left open with exit code 0."""
        self._end(task_instance, 0, "success")

    @hookimpl
    def on_task_instance_skipped(self, previous_state: Any, task_instance: Any) -> None:
        """Finish runs left open with exit code 0."""
        self._end(task_instance, 0, "skipped")

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        """Finish runs left open with exit code 1 and the reason."""
        reason = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error
        self._end(task_instance, 1, "failed", reason)

    @hookimpl
    def before_stopping(self, component: Any) -> None:
        """Leave the process as it was; the task is done with it, for ever or until it resumes."""
        self._leave()

    def _followed(self, ti: Any) -> InstrumentedTask | None:
        return self._task if self._task is not None and self._task.is_for(ti) else None

    def _follow(self, ti: Any) -> None:
        from wandb_airflow_provider.listeners.instrumented_task import InstrumentedTask

        self._leave()
        self._task = InstrumentedTask(ti)
        self._task.begin()

    def _end(self, ti: Any, exit_code: int, state: str, reason: str | None = None) -> None:
        task = self._followed(ti)
        if task is not None:
            from wandb_airflow_provider.listeners.instrumented_task import Ending

            task.end(Ending(exit_code, state, reason))

    def _leave(self) -> None:
        task, self._task = self._task, None
        if task is not None and task.is_here:
            task.leave()


def is_covered(task: Any) -> bool:
    """Return whether the options cover this task; one to whose run this package sees already is not."""
    if starts_run(task) or any(kind.__module__.startswith(_PACKAGE) for kind in type(task).__mro__):
        return False
    names = (task.dag_id, f"{task.dag_id}.{task.task_id}")

    def matches(patterns: Iterable[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)

    return matches(settings.include()) and not matches(settings.exclude())
