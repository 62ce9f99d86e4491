"""The W&B runs that user code has opened in a task process, and how they end."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb

__all__ = ["OpenRuns"]

log = logging.getLogger(__name__)


class OpenRuns:
    """
    Every run that user code opened, finished or not.

    Ending a run that user code has finished changes nothing.
    """

    def __init__(self) -> None:
        self._runs: list[wandb.Run] = []

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: wandb.Run) -> bool:
        """Remember a run; return False for one that is known or that records nothing (mode ``disabled``)."""
        if run.disabled or any(known is run for known in self._runs):
            return False
        self._runs.append(run)
        return True

    @staticmethod
    def current() -> wandb.Run | None:
        """Return ``wandb.run`` where wandb is imported: also a run whose opening nobody saw."""
        # While wandb is being imported, it has no such attribute yet.
        return getattr(sys.modules.get("wandb"), "run", None)

    def finish(self, exit_code: int, summary: dict[str, Any], *, seconds: float) -> bool:
        """
        Finish what is still open.

        :param seconds: Longest wait, for all runs together.
        :return: False when that was not long enough; what was not sent is in the runs' folders.
        :raises Exception: a run could not be finished; the others are.
        """
        return self._end(lambda run: _finish(run, exit_code, summary), seconds)

    def kill(self, exit_code: int, summary: dict[str, Any], *, seconds: float) -> bool:
        """Like :meth:`finish`, telling W&B first that the run was stopped from outside."""

        def end(run: wandb.Run) -> None:
            run.mark_preempting()
            _finish(run, exit_code, summary)

        return self._end(end, seconds)

    def _end(self, end: Callable[[wandb.Run], None], seconds: float) -> bool:
        failures: list[Exception] = []

        def end_all() -> None:
            from wandb_airflow_provider import sdk

            for run in list(self._runs):
                try:
                    if sdk.is_open(run):
                        end(run)
                except Exception as error:
                    failures.append(error)

        # In a thread of its own: it can be given up, and a signal handler must not wait for locks of wandb's.
        thread = threading.Thread(target=end_all, name="wandb-airflow-end", daemon=True)
        thread.start()
        thread.join(seconds)
        if failures:
            raise failures[0]
        return not thread.is_alive()


def _finish(run: wandb.Run, exit_code: int, summary: dict[str, Any]) -> None:
    run.summary.update(summary)
    run.finish(exit_code=exit_code)
