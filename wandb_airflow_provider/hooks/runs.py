"""The life of one W&B run inside one task process: opened, closed with the right exit code, or killed."""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import AirflowSkipException, TaskDeferred

from wandb_airflow_provider import sdk
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.privacy import PrivacyGate

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.connection import WandbConnection
    from wandb_airflow_provider.hooks.outage import Opening

__all__ = [
    "REASON_KEY",
    "RUNNING",
    "SECONDS_KEY",
    "STATE_KEY",
    "RunSession",
    "borrowed_sdk",
    "open_sessions",
    "release_when_idle",
]

STATE_KEY = "airflow/state"
"""Summary key: how the task attempt ended (success, failed, skipped, killed), ``running`` until then."""
SECONDS_KEY = "airflow/seconds"
"""Summary key: for how many seconds the run was open, the last time it was."""
RUNNING = "running"
REASON_KEY = "airflow/reason"
"""Summary key: why it did not go well, in a sentence."""

log = logging.getLogger(__name__)

EXIT_SUCCESS = 0
EXIT_FAILURE = 1
EXIT_KILLED = 128 + signal.SIGTERM

# Airflow sends SIGKILL 5 seconds after SIGTERM.
_KILL_GRACE_SECONDS = 4.0
# Of those, for putting a run into its spool.
_SPOOL_SECONDS = 1.5

_open_sessions: set[RunSession] = set()


class RunSession:
    """
    Context manager around one open run.

    A run that a process leaves unfinished is recorded by W&B as a success, or loses its data; so every way
    out of the block finishes it: success 0, any exception 1, skip 0 with the state noted, kill 143.

    :ivar state_on_success: What the summary ``airflow/state`` says when the block ends well.
    :raises WandbError: the run could not be opened; see :func:`wandb_airflow_provider.sdk.init_run`.
    """

    def __init__(
        self, connection: WandbConnection, spec: sdk.RunSpec, privacy: PrivacyGate | None = None
    ) -> None:
        self._connection = connection
        self._privacy = privacy or PrivacyGate()
        self._spec = spec
        self._closing = threading.Lock()
        self._closed = False
        self._run: wandb.Run | None = None
        self._task_run: wandb.Run | None = None
        self._opening: Opening | None = None
        self._opening_to_settle: Opening | None = None
        self._began_at = time.monotonic()
        self.state_on_success = "success"

    @property
    def run(self) -> wandb.Run:
        """The open run."""
        if self._run is None:
            raise RuntimeError(f"The W&B run {self._spec.wandb_run_id!r} is not open.")
        return self._run

    @property
    def task_run(self) -> wandb.Run:
        """The open run as the task's code uses it: the run itself, or its stage of the run that all tasks share."""
        return self._task_run or self.run

    @property
    def metrics(self) -> dict[str, float]:
        """The figures that the task's work has left in the summary, see :func:`key_metrics`."""
        from wandb_airflow_provider.hooks.stage import StageRun
        from wandb_airflow_provider.key_metrics import key_metrics

        run: Any = self._task_run
        if not isinstance(run, StageRun):
            return key_metrics(self.run.summary)
        run.close_row()
        # How far its axis goes is no figure of the work.
        return {name: value for name, value in key_metrics(run.summary).items() if name != "step"}

    @property
    def ref(self) -> RunRef:
        """The address of the open run, with the URL that W&B gave."""
        if self._opening is not None and self._opening.mode == "offline":
            return RunRef(str(self._spec.entity), str(self._spec.project), self.run.id, offline=True)
        return RunRef(self.run.entity, self.run.project, self.run.id, url=self.run.url)

    @property
    def is_recorded(self) -> bool:
        """False if W&B was unavailable, and nothing is kept of the run (``on_unavailable="skip"``)."""
        return self._opening is None or self._opening.mode != "disabled"

    def __enter__(self) -> RunSession:
        from wandb_airflow_provider.hooks.outage import Opening

        folder = tempfile.mkdtemp(prefix="wandb-airflow-")
        try:
            self._opening = Opening(self._connection, self._spec, folder)
            self._run = self._opening.open(alone=not _open_sessions)
            self._spec = self._opening.spec
            self._opening_to_settle = self._opening
            self._begin(self._run)
        except BaseException:
            # A timeout may strike when W&B has the run already; without an exit code it would count as a success.
            sdk.finish_interrupted(self._spec.wandb_run_id, EXIT_FAILURE)
            release_when_idle(EXIT_FAILURE)
            if self._opening is not None:
                self._opening.abandon()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _open_sessions.add(self)
        if self._opening.mode == "online":
            log.info("W&B run %s: %s", self.ref, self.run.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, AirflowSkipException):
            self.close(EXIT_SUCCESS, "skipped")
        elif isinstance(error, TaskDeferred):
            self.close(EXIT_SUCCESS, "deferred")
        elif error is not None:
            self.close(EXIT_FAILURE, "failed", reason=f"{type(error).__name__}: {error}")
        else:
            self.close(EXIT_SUCCESS, self.state_on_success)

    def guard(self) -> None:
        """
        Let all that is written to the run pass the privacy gate.

        With a redaction policy a run is so from its opening; without one, code of the user's pays nothing for it.
        """
        from wandb_airflow_provider.hooks.guarded_run import guard_run

        guard_run(self.run, self._privacy)

    def log_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log rows of equal keys as a ``wandb.Table``; no rows log nothing."""
        if rows:
            self.run.log({name: sdk.table(rows)})

    def close(self, exit_code: int, state: str, *, reason: str | None = None) -> None:
        """
        Finish the run; further calls do nothing.

        A failing upload is logged and never replaces the outcome of the user's work; what could not be sent
        stays in the run's folder, which the log names.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        seconds = round(time.monotonic() - self._began_at, 3)
        summary: dict[str, Any] = {self._own(STATE_KEY): state, self._own(SECONDS_KEY): seconds}
        if reason is not None:
            summary[self._own(REASON_KEY)] = self._privacy.text(reason)[:1000]
        unsent: BaseException | None = None
        try:
            # What the task has finished by itself is as it said.
            is_open = sdk.is_open(self.run)
            if is_open:
                self.run.summary.update(summary)
            if self._spec.on_unavailable == "offline":
                summary = dict(self.run.summary)
            if is_open:
                sdk.finish_run(self.run, exit_code, self._spec.finish_timeout)
        except Exception as error:
            unsent = error
            log.error(
                "W&B run %s could not be finished (%s). What was not sent is in %s; `wandb sync` uploads it.",
                self._spec.wandb_run_id,
                error,
                self._spec.folder,
            )
        except BaseException as error:
            # Interrupted, by the task's timeout say: then the task fails, and its run must not count as a success.
            exit_code, unsent = EXIT_FAILURE, error
            raise
        finally:
            _open_sessions.discard(self)
            release_when_idle(exit_code)
            self._settle(exit_code, summary, unsent)

    def _settle(self, exit_code: int, summary: Mapping[str, Any], unsent: BaseException | None) -> None:
        """Put away what W&B did not receive, once: the thread of a kill may come to it as well."""
        with self._closing:
            opening, self._opening_to_settle = self._opening_to_settle, None
        if opening is not None:
            opening.settle(exit_code, summary, unsent)

    def _begin(self, run: wandb.Run) -> None:
        """Prepare an open run: what earlier processes left in it, what this task sees of it, and that it is at work."""
        from wandb_airflow_provider.hooks.stage import StageRun, restore_axes

        if self._privacy.policy is not None:
            self.guard()
        self._began_at = time.monotonic()
        stage = self._spec.stage
        if run.resumed:
            restore_axes(run)
            if run.summary.get(self._own(REASON_KEY)) is not None:  # type: ignore[no-untyped-call]
                # Why an earlier attempt failed is no reason for this one.
                del run.summary[self._own(REASON_KEY)]  # type: ignore[no-untyped-call]
        if stage is not None:
            self._task_run = cast("wandb.Run", StageRun(run, stage))
            if self._spec.tags:
                run.tags = tuple(dict.fromkeys((*(run.tags or ()), *self._spec.tags)))
        run.summary.update({STATE_KEY: RUNNING, self._own(STATE_KEY): RUNNING})

    def _own(self, key: str) -> str:
        return key if self._spec.stage is None else f"{self._spec.stage}/{key}"

    def kill(self) -> None:
        """
        Finish the run as killed (exit code 143), within the seconds that Airflow leaves before SIGKILL.

        Runs in a thread of its own: the interrupted code may hold one of wandb's locks, and waiting for it
        in a signal handler would never end.
        """
        if self._closed or self._run is None:
            return

        def finish() -> None:
            # The task may have finished it by itself.
            if sdk.is_open(self.run):
                self.run.mark_preempting()
            self.close(EXIT_KILLED, "killed", reason="The task was stopped from outside (SIGTERM).")

        thread = threading.Thread(target=finish, name="wandb-airflow-kill", daemon=True)
        thread.start()
        if self._spec.on_unavailable == "offline":
            thread.join(_KILL_GRACE_SECONDS - _SPOOL_SECONDS)
            if thread.is_alive():
                # W&B is away: what is on disk is kept, and the helper would go on for minutes.
                sdk.kill_helpers()
                self._settle(EXIT_KILLED, {STATE_KEY: "killed"}, TimeoutError("W&B did not answer in time"))
                return
        thread.join(_KILL_GRACE_SECONDS)
        if thread.is_alive():
            log.error(
                "W&B run %s could not be finished in time; W&B will mark it as crashed.",
                self._spec.wandb_run_id,
            )


def open_sessions() -> list[RunSession]:
    """Return the runs that this process has opened and not finished, in no order."""
    return list(_open_sessions)


@contextmanager
def borrowed_sdk(*, keep: bool = False) -> Iterator[None]:
    """
    Use wandb in the middle of a task, whose own code may use it too: what was at work before goes on after.

    :param keep: The task opens a run of its own soon, which ends wandb's helper process when it is finished.
    """
    busy = sdk.has_helper()
    try:
        yield
    except BaseException:
        keep = False
        raise
    finally:
        if not busy and not keep:
            release_when_idle()


def release_when_idle(exit_code: int = EXIT_SUCCESS) -> None:
    """End wandb's helper process, unless a run of this process still needs it."""
    if not _open_sessions:
        sdk.release(exit_code)
