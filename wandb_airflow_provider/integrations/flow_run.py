"""The run of a flow, below the task that started it, open for as long as the flow goes on."""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.integrations import process_sdk
from wandb_airflow_provider.integrations.step_log import FOLDER_VARIABLE, StepLog
from wandb_airflow_provider.process_context import (
    ProcessContext,
    context_of,
    is_cut_off,
    put_in_place,
)

if TYPE_CHECKING:
    import wandb

__all__ = ["JOB_TYPE", "FlowRun", "flow_run", "in_flow"]

log = logging.getLogger(__name__)

JOB_TYPE = "flow"
"""``job_type`` of the runs of flows."""

_FLOW_VARIABLE = "WANDB_AIRFLOW_FLOW"
_KILLED = 128 + signal.SIGTERM


def in_flow() -> bool:
    """Say whether this process belongs to a flow that has its run already."""
    return bool(os.environ.get(_FLOW_VARIABLE))


class FlowRun:
    """
    The run of a flow, and the place of its steps in the environment of this process and its children.

    :param context: The place that the task gave this process.
    :param name: What the flow is called.
    :param config: What else is in the run's config.
    """

    def __init__(self, context: ProcessContext, name: str, config: Mapping[str, Any]) -> None:
        self.name = name
        self._context = context
        self._config = context.config_of(config)
        self._wandb_run_id = (
            f"{re.sub(r'[^a-zA-Z0-9_.-]+', '-', name)[:40].strip('-.') or 'flow'}-{secrets.token_hex(8)}"
        )
        self.path = context.path(self._wandb_run_id)
        self._run: wandb.Run | None = None
        self._began_at = time.monotonic()

    def begin(self, folder: Path) -> None:
        """Open the run, and put the steps below it."""
        place = {"WANDB_JOB_TYPE": JOB_TYPE, "WANDB_NAME": self.name, "WANDB_RUN_ID": self._wandb_run_id}
        put_in_place(os.environ, self._config, place)
        with process_sdk.attempt(f"open the W&B run {self.path!r} of the flow {self.name!r}"):
            self._run = process_sdk.open_run()
        # Without its run, the steps are below the task.
        below = self._context.below(self._wandb_run_id) if self._run is not None else self._context
        self._steps = StepLog(folder)
        put_in_place(
            os.environ,
            below.config_of({}),
            {
                "WANDB_JOB_TYPE": self.name,
                _FLOW_VARIABLE: self.path if self._run is not None else str(self._context.parent),
                FOLDER_VARIABLE: str(folder),
            },
        )

    def end(self, state: str, reason: str | None, exit_code: int) -> None:
        """Close the steps that died, and finish the run; the environment is as it would be without the flow."""
        _leave_lost_folder()
        steps = self._steps.steps()
        for step in steps:
            if step.state == "running":
                gone = {"airflow/state": state if state == "killed" else "failed"}
                with process_sdk.attempt(f"close the W&B run {step.path!r} of a step that died"):
                    process_sdk.fail_run(step.path, gone)
        failed = [step for step in steps if step.state != "success"]
        if self._run is None:
            return
        summary: dict[str, Any] = {
            "airflow/state": state,
            "airflow/seconds": round(time.monotonic() - self._began_at, 3),
            "airflow/steps": len(steps),
            "airflow/steps_failed": len(failed),
        }
        if reason is not None:
            summary["airflow/reason"] = reason
        with process_sdk.attempt(f"finish the W&B run {self.path!r} of the flow {self.name!r}"):
            self._run.summary.update(summary)
            self._run.finish(exit_code=exit_code)
        process_sdk.release()

    @property
    def lost_steps(self) -> bool:
        """Whether a step failed or died, also where the tool raises nothing for that."""
        return any(step.state != "success" for step in self._steps.steps())


@contextmanager
def flow_run(name: str, config: Mapping[str, Any], *, lenient: bool = False) -> Iterator[None]:
    """
    Open a run for the flow that the body runs, give it the body's outcome, and close what its steps left open.

    Does nothing outside of a task's process. Where the task went offline, nothing of the flow is recorded. SIGTERM
    ends the body with ``SystemExit(143)``, so that the runs are closed as killed.

    :param lenient: The tool may return although a step failed; the run has failed then.
    """
    context = context_of(os.environ)
    if in_flow() or (context is None and not is_cut_off(os.environ)):
        yield
        return
    if context is None:
        with _kept() as environment:
            log.warning("W&B is unavailable: nothing of the flow %r is recorded.", name)
            # Each of its processes would write a run of the task's id, and only one of those can be uploaded.
            environment["WANDB_MODE"] = "disabled"
            yield
        return
    with tempfile.TemporaryDirectory(prefix="wandb-airflow-steps-") as folder, _kept(), _sigterm_raises():
        flow = FlowRun(context, name, config)
        flow.begin(Path(folder))
        try:
            yield
        except BaseException as error:
            flow.end(*_outcome(error))
            raise
        else:
            lost = lenient and flow.lost_steps
            flow.end(*(("failed", "A step failed.", 1) if lost else ("success", None, 0)))


def _outcome(error: BaseException) -> tuple[str, str | None, int]:
    if not isinstance(error, SystemExit):
        return "failed", type(error).__name__, 1
    if error.code in (None, 0):
        return "success", None, 0
    if error.code == _KILLED:
        return "killed", "The flow was stopped from outside (SIGTERM).", _KILLED
    return "failed", f"The flow ended with exit code {error.code if isinstance(error.code, int) else 1}.", 1


def _leave_lost_folder() -> None:
    """Go elsewhere if the working folder is gone: a task whose time is up removes it, and wandb asks where it is."""
    try:
        Path.cwd()
    except FileNotFoundError:
        os.chdir(tempfile.gettempdir())


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM unwind the stack, where nothing else in this process handles it."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) not in (
        signal.SIG_DFL,
        None,
    ):
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(_KILLED)

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _kept() -> Iterator[MutableMapping[str, str]]:
    """Give the environment, and put wandb's variables back afterwards."""
    before = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    try:
        yield os.environ
    finally:
        for name in [name for name in os.environ if name.startswith("WANDB_") and name not in before]:
            del os.environ[name]
        os.environ.update(before)
