"""Uploading a spool: in order, each run once, and removed only when W&B has all of it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider import sdk
from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbError,
    WandbUnavailableError,
)
from wandb_airflow_provider.spool.continued_log import continued_folder
from wandb_airflow_provider.spool.manifest import Attempt, Manifest, in_upload_order
from wandb_airflow_provider.spool.remote_run import RemoteRuns
from wandb_airflow_provider.spool.store import Spool
from wandb_airflow_provider.spool.sync_process import SyncProcess
from wandb_airflow_provider.spool.transaction_log import TransactionLogError

if TYPE_CHECKING:
    from wandb_airflow_provider.connection import WandbConnection

__all__ = ["SpoolUpload", "SyncReport"]

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 30.0
_POLL_SECONDS = 1.0
_FOLDER_PREFIX = "wandb-airflow-"


class SyncReport(NamedTuple):
    """
    What became of the entries of a spool.

    :param synced: Runs that W&B has completely, in the order of upload.
    :param failed: Why an entry could not be uploaded, by its name; all of these are kept.
    :param waiting: Entries that a task may still be writing.
    """

    synced: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    waiting: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that lands in XCom."""
        return {
            "synced": list(self.synced),
            "failed": dict(self.failed),
            "waiting": list(self.waiting),
        }


class SpoolUpload:
    """
    Upload what waits in a spool.

    :param keep: Keep entries that are uploaded, marked as such.
    :param include_unfinished: Also upload entries that no task has closed: those of tasks killed outright. W&B shows
        them as failed. Only right when no task is writing to the spool.
    :param timeout: Longest upload of one run in seconds.
    :param on_progress: Called with the number of entries done, their total and a line about the last one.
    """

    def __init__(
        self,
        spool: Spool,
        connection: WandbConnection,
        *,
        keep: bool = False,
        include_unfinished: bool = False,
        timeout: float = 3600.0,
        on_progress: Callable[[int, int, str], None] = lambda done, total, line: None,
    ) -> None:
        self._spool = spool
        self._connection = connection
        self._remote = RemoteRuns(connection)
        self._keep = keep
        self._include_unfinished = include_unfinished
        self._timeout = timeout
        self._on_progress = on_progress
        self._process: SyncProcess | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the upload under way; what is not complete stays in the spool."""
        self._stopped.set()
        if self._process is not None:
            self._process.stop()

    def run(self) -> SyncReport:
        """
        Upload every entry, parents first; one that fails is kept and does not hold up others.

        :raises WandbUnavailableError: W&B or the spool cannot be reached. Nothing is lost.
        :raises WandbAuthenticationError: W&B does not accept the key.
        """
        entries, broken = self._spool.entries()
        failed = [(entry.entry, entry.error) for entry in broken]
        waiting = [e.entry for e in entries if e.state == "open" and not self._include_unfinished]
        for leftover in (e for e in entries if e.state == "synced" and not self._keep):
            self._spool.remove(leftover)
        to_do = in_upload_order(e for e in entries if e.state != "synced" and e.entry not in waiting)
        synced: list[str] = []
        if to_do:
            sdk.client(self._connection)
        held_up = {e.run.path for e in entries if e.entry in waiting}
        with tempfile.TemporaryDirectory(prefix="wandb-airflow-sync-") as scratch:
            self._process = SyncProcess(self._connection, Path(scratch), self._timeout)
            for number, manifest in enumerate(to_do, 1):
                if self._stopped.is_set():
                    raise WandbUnavailableError(
                        "The sync was stopped; what is not uploaded is still in the spool."
                    )
                error = self._error_of(manifest, Path(scratch), held_up)
                if error is None:
                    synced.append(manifest.run.path)
                    line = f"{manifest.run.path}: {manifest.history_rows} rows of history"
                else:
                    held_up.add(manifest.run.path)
                    failed.append((manifest.entry, error))
                    line = f"{manifest.run.path} failed: {error}"
                self._on_progress(number, len(to_do), line)
        return SyncReport(tuple(synced), tuple(failed), tuple(waiting))

    def _error_of(self, manifest: Manifest, scratch: Path, held_up: set[str]) -> str | None:
        if manifest.run.path in held_up:
            return "An earlier part of the same run is still in the spool; this one continues it."
        try:
            self._upload(manifest, scratch)
        except WandbAuthenticationError:
            raise
        except (WandbError, OSError) as error:
            return str(error)
        except Exception as error:
            # A damaged entry, of which no other must suffer.
            log.exception("Entry %s cannot be uploaded.", manifest.entry)
            return f"{type(error).__name__}: {error}"
        return None

    def _upload(self, manifest: Manifest, scratch: Path) -> None:
        if manifest.attempt is None and self._remote.holds(manifest):
            self._settle(manifest, scratch)
            return
        manifest = self._with_attempt(manifest)
        attempt = manifest.attempt or Attempt(continues=False, base_rows=0)
        error = self._remote.difference(manifest, attempt)
        if error is not None:
            last_step = self._refuse_twice(manifest, attempt)
            folder = self._spool.fetch(manifest, scratch)
            with _at(manifest.folder, folder):
                runs = sorted(folder.glob("wandb/*run-*"))
                if not runs:
                    raise WandbConfigurationError(f"Entry {manifest.entry!r} holds no run.")
                run_folder = runs[-1]
                if last_step is not None and manifest.mode == "offline":
                    run_folder = _continued(run_folder, last_step, scratch / manifest.entry)
                said = self._sync(run_folder, attempt)
            error = self._settled_difference(manifest, attempt)
            if error is not None:
                raise WandbUnavailableError(f"W&B does not have all of the run: {error}. wandb said: {said}")
        if attempt.continues:
            self._remote.restore(manifest, attempt)
        self._settle(manifest, scratch)

    def _settle(self, manifest: Manifest, scratch: Path) -> None:
        """Mark an entry as uploaded, or remove it."""
        if self._keep:
            self._spool.write(manifest._replace(state="synced"))
        else:
            self._spool.remove(manifest)
        shutil.rmtree(scratch / manifest.entry, ignore_errors=True)

    def _sync(self, run_folder: Path, attempt: Attempt) -> str:
        if self._process is None:
            raise RuntimeError("The upload has not begun.")
        return self._process.upload(run_folder, continues=attempt.continues)

    def _with_attempt(self, manifest: Manifest) -> Manifest:
        """Note, before the first upload, what W&B has of the run, so that a second one can tell."""
        if manifest.attempt is not None:
            return manifest
        remote = self._remote.find(manifest)
        if remote is None or (manifest.mode == "online" and not manifest.resumed):
            attempt = Attempt(continues=False, base_rows=0)
        elif manifest.mode == "online":
            attempt = Attempt(continues=True, base_rows=remote.rows_before)
        else:
            attempt = Attempt(True, remote.rows, remote.summary, remote.tags)
        if remote is not None and remote.newer and manifest.history_rows:
            raise WandbConfigurationError(
                f"The W&B run {manifest.run} was continued after this part of it was spooled: uploading it now would "
                f"put its {manifest.history_rows} rows of history behind newer ones, and its summary over theirs. Its "
                "data is kept; `wandb sync --id NEW_ID` uploads it as a run of its own."
            )
        manifest = manifest._replace(attempt=attempt)
        self._spool.write(manifest)
        return manifest

    def _refuse_twice(self, manifest: Manifest, attempt: Attempt) -> int | None:
        """
        Refuse to add rows a second time to a run whose history must be continued; others are simply repeated.

        Returns the last step of a history that is continued.
        """
        remote = self._remote.find(manifest) if attempt.continues else None
        if remote is not None and remote.rows > attempt.base_rows:
            raise WandbConfigurationError(
                f"An earlier upload of this part of the W&B run {manifest.run} broke off: W&B has "
                f"{remote.rows - attempt.base_rows} of its {manifest.history_rows} rows of history, and would add them "
                "again. Its data is kept; `wandb sync --id NEW_ID` uploads it as a run of its own."
            )
        return remote.last_step if remote is not None else None

    def _settled_difference(self, manifest: Manifest, attempt: Attempt) -> str | None:
        # W&B shows what it was sent with some delay.
        until = time.monotonic() + _SETTLE_SECONDS
        while True:
            error = self._remote.difference(manifest, attempt)
            if error is None or self._remote.find(manifest) is None or time.monotonic() > until:
                return error
            if self._stopped.wait(_POLL_SECONDS):
                return error


def _continued(run_folder: Path, last_step: int, scratch: Path) -> Path:
    """Return what to upload of a run's folder, so that its steps come after those that W&B has."""
    try:
        return continued_folder(run_folder, last_step, scratch)
    except TransactionLogError as error:
        raise WandbConfigurationError(f"What was logged cannot be continued: {error}") from error


@contextmanager
def _at(recorded: str, folder: Path) -> Iterator[None]:
    """
    Let the run's data be found where the task had it: paths of artifact files in it lead there.

    Only a folder that this package made in a temporary folder is stood in for, and never one that exists.
    """
    link = Path(recorded)
    made = False
    if link.name.startswith(_FOLDER_PREFIX) and link.is_absolute() and link != folder:
        with suppress(OSError):
            os.symlink(folder, link, target_is_directory=True)
            made = True
    try:
        yield
    finally:
        if made:
            link.unlink(missing_ok=True)
