"""The life of one W&B run inside one task process: opened, closed with the right exit code, or killed."""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, TaskDeferred

from wandb_airflow_provider import sdk
from wandb_airflow_provider.identity import RunRef

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.connection import WandbConnection

__all__ = ["REASON_KEY", "STATE_KEY", "RunSession", "release_when_idle"]

STATE_KEY = "airflow/state"
"""Summary key: how the task attempt ended (success, failed, skipped, killed), ``running`` for an open pipeline."""
REASON_KEY = "airflow/reason"
"""Summary key: why it did not go well, in a sentence."""

log = logging.getLogger(__name__)

EXIT_SUCCESS = 0
EXIT_FAILURE = 1
EXIT_KILLED = 128 + signal.SIGTERM

# Airflow sends SIGKILL 5 seconds after SIGTERM.
_KILL_GRACE_SECONDS = 4.0

_open_sessions: set[RunSession] = set()


class RunSession:
    """
    Context manager around one open run.

    A run that a process leaves unfinished is recorded by W&B as a success, or loses its data; so every way
    out of the block finishes it: success 0, any exception 1, skip 0 with the state noted, kill 143.

    :ivar state_on_success: What the summary ``airflow/state`` says when the block ends well.
    :raises WandbError: the run could not be opened; see :func:`wandb_airflow_provider.sdk.init_run`.
    """

    def __init__(self, connection: WandbConnection, spec: sdk.RunSpec) -> None:
        self._connection = connection
        self._spec = spec
        self._closing = threading.Lock()
        self._closed = False
        self._run: wandb.Run | None = None
        self.state_on_success = "success"

    @property
    def run(self) -> wandb.Run:
        """The open run."""
        if self._run is None:
            raise RuntimeError(f"The W&B run {self._spec.wandb_run_id!r} is not open.")
        return self._run

    @property
    def ref(self) -> RunRef:
        """The address of the open run, with the URL that W&B gave."""
        return RunRef(self.run.entity, self.run.project, self.run.id, url=self.run.url)

    def __enter__(self) -> RunSession:
        folder = tempfile.mkdtemp(prefix="wandb-airflow-")
        self._spec = self._spec._replace(folder=folder)
        try:
            self._run = sdk.init_run(self._connection, self._spec)
        except BaseException:
            # A timeout may strike when W&B has the run already; without an exit code it would count as a success.
            sdk.finish_interrupted(self._spec.wandb_run_id, EXIT_FAILURE)
            release_when_idle(EXIT_FAILURE)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _open_sessions.add(self)
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
        summary: dict[str, Any] = {STATE_KEY: state}
        if reason is not None:
            summary[REASON_KEY] = _redacted(reason)[:1000]
        try:
            self.run.summary.update(summary)
            sdk.finish_run(self.run, exit_code, self._spec.finish_timeout)
        except Exception as error:
            log.error(
                "W&B run %s could not be finished (%s). What was not sent is in %s; `wandb sync` uploads it.",
                self._spec.wandb_run_id,
                error,
                self._spec.folder,
            )
        except BaseException:
            # Interrupted, by the task's timeout say: then the task fails, and its run must not count as a success.
            exit_code = EXIT_FAILURE
            raise
        else:
            shutil.rmtree(self._spec.folder, ignore_errors=True)
        finally:
            _open_sessions.discard(self)
            release_when_idle(exit_code)

    def kill(self) -> None:
        """
        Finish the run as killed (exit code 143), within the seconds that Airflow leaves before SIGKILL.

        Runs in a thread of its own: the interrupted code may hold one of wandb's locks, and waiting for it
        in a signal handler would never end.
        """
        if self._closed or self._run is None:
            return

        def finish() -> None:
            self.run.mark_preempting()
            self.close(EXIT_KILLED, "killed", reason="The task was stopped from outside (SIGTERM).")

        thread = threading.Thread(target=finish, name="wandb-airflow-kill", daemon=True)
        thread.start()
        thread.join(_KILL_GRACE_SECONDS)
        if thread.is_alive():
            log.error(
                "W&B run %s could not be finished in time; W&B will mark it as crashed.",
                self._spec.wandb_run_id,
            )


def release_when_idle(exit_code: int = EXIT_SUCCESS) -> None:
    """End wandb's helper process, unless a run of this process still needs it."""
    if not _open_sessions:
        sdk.release(exit_code)


def _redacted(text: str) -> str:
    from airflow.providers.common.compat.sdk import redact

    return str(redact(text))
