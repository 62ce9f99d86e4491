"""The run of one step of a flow: there before the step works, with its outcome after it."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wandb_airflow_provider.integrations import process_sdk
from wandb_airflow_provider.integrations.step_log import FOLDER_VARIABLE, Step, StepLog
from wandb_airflow_provider.process_context import ProcessContext, put_in_place

__all__ = ["StepRun", "step_log"]


class StepRun:
    """
    The run that ``wandb.init()`` opens in a step, below the run of its flow.

    :param context: The place below the flow.
    :param key: What tells this attempt of the step from all others of the flow.
    :param task: What the flow calls the step; the ``job_type`` of the run.
    :param name: What people read in W&B.
    :param config: What else is in the run's config.
    :param upstream: ``entity/project/run_id`` of the runs of the steps before it.
    :param previous: Key of the attempt before, if there was one.
    """

    def __init__(
        self,
        context: ProcessContext,
        *,
        key: str,
        task: str,
        name: str,
        config: Mapping[str, Any],
        upstream: Iterable[str] = (),
        previous: str | None = None,
    ) -> None:
        self.task = task
        self.name = name
        self._wandb_run_id = _run_id(context, task, key)
        self.path = context.path(self._wandb_run_id)
        retry_of = context.path(_run_id(context, task, previous)) if previous is not None else None
        self._config = context.config_of(config, upstream_runs=list(upstream), retry_of=retry_of)
        self._began_at = time.monotonic()
        self._log = step_log()

    def begin(self) -> None:
        """Make ``wandb.init()`` of this process open the run, and create it."""
        put_in_place(
            os.environ,
            self._config,
            {
                "WANDB_RUN_ID": self._wandb_run_id,
                "WANDB_NAME": self.name,
                "WANDB_JOB_TYPE": self.task,
                "WANDB_RESUME": "allow",
            },
        )
        self._note("running")
        with process_sdk.attempt(f"create the W&B run {self.path!r} of the step {self.name!r}"):
            process_sdk.reserve_run(self.path, self.name, self.task, self._config)

    def end(self, reason: str | None = None) -> None:
        """
        Give the run the outcome of the step, and finish it.

        :param reason: Why the step failed, without what may be private, as text of an exception is; None: it did not.
        """
        summary: dict[str, Any] = {
            "airflow/state": "success" if reason is None else "failed",
            "airflow/seconds": round(time.monotonic() - self._began_at, 3),
        }
        if reason is not None:
            summary["airflow/reason"] = reason
        with process_sdk.attempt(f"complete the W&B run {self.path!r} of the step {self.name!r}"):
            process_sdk.complete_run(self.path, summary, failed=reason is not None)
        self._note(summary["airflow/state"])

    def _note(self, state: str) -> None:
        if self._log is not None:
            self._log.write(Step(self.task, self.path, state))


def step_log() -> StepLog | None:
    """Return where the flow of this process keeps its steps; None where it is on another machine."""
    folder = Path(os.environ.get(FOLDER_VARIABLE) or "/nonexistent")
    return StepLog(folder) if folder.is_dir() else None


def _run_id(context: ProcessContext, task: str, key: str) -> str:
    # NUL cannot occur in any of them.
    digest = hashlib.sha256(f"{context.parent}\0{task}\0{key}".encode()).hexdigest()[:16]
    return f"{re.sub(r'[^a-zA-Z0-9_.-]+', '-', task)[:40].strip('-.') or 'step'}-{digest}"
