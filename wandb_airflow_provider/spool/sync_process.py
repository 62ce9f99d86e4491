"""``wandb sync`` of one run, as a process of its own that alone gets the credentials."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wandb_airflow_provider.credentials import account_environment
from wandb_airflow_provider.exceptions import WandbUnavailableError

if TYPE_CHECKING:
    from wandb_airflow_provider.connection import WandbConnection

__all__ = ["SyncProcess"]

_STOP_SECONDS = 5.0
_LAST_LINES = 5


class SyncProcess:
    """
    Runs ``wandb sync`` for one run after the other.

    :param scratch: A folder for wandb's own files; nothing of the user's W&B is read or written.
    :param timeout: Longest upload of one run in seconds.
    """

    def __init__(self, connection: WandbConnection, scratch: Path, timeout: float) -> None:
        self._connection = connection
        self._scratch = scratch
        self._timeout = timeout
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def upload(self, run_folder: Path, *, continues: bool) -> str:
        """
        Upload one run folder, and return the last lines that wandb wrote.

        Its exit code says little: wandb reports success for runs that it could not upload.

        :param continues: Append to the history that the run has in W&B; without it the history begins anew, so that
            an upload that broke off is repeated and not added again.
        :raises WandbUnavailableError: it took too long, or was stopped.
        """
        command = [sys.executable, "-m", "wandb", "sync", "--yes", "--include-online", "--include-synced"]
        with self._lock:
            if self._stopped:
                raise WandbUnavailableError("The sync was stopped.")
            self._process = subprocess.Popen(
                [*command, str(run_folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=self._scratch,
                env=self._environment(continues=continues),
                start_new_session=True,
            )
        with self._ended(self._process) as process:
            try:
                output, _ = process.communicate(timeout=self._timeout)
            except subprocess.TimeoutExpired as error:
                raise WandbUnavailableError(
                    f"The upload took more than {self._timeout:.0f} s; raise the timeout, or see whether W&B is slow."
                ) from error
        if self._stopped:
            raise WandbUnavailableError("The sync was stopped.")
        return " ".join(line.strip() for line in output.strip().splitlines()[-_LAST_LINES:])

    def stop(self) -> None:
        """End a running upload, and refuse further ones; from any thread."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _end(self._process)

    def _environment(self, *, continues: bool) -> dict[str, str]:
        environment = account_environment(self._scratch, self._connection, self._connection.host)
        # The commit of this folder is not the one that the run was made with.
        environment["WANDB_DISABLE_GIT"] = "true"
        if continues:
            environment["WANDB_RESUME"] = "allow"
        return environment

    @contextmanager
    def _ended(self, process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
        try:
            yield process
        finally:
            _end(process)
            self._process = None


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and its children, wandb's helper among them."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 15)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
