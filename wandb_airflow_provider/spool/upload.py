"""Uploading a spool: in order, each run once, and removed only when W&B has all of it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider import sdk
from wandb_airflow_provider.exceptions import (
    WandbAuthenticationError,
    WandbConfigurationError,
    WandbError,
    WandbNotFoundError,
    WandbUnavailableError,
)
from wandb_airflow_provider.spool.continued_log import continued_folder
from wandb_airflow_provider.spool.manifest import Attempt, Manifest, in_upload_order
from wandb_airflow_provider.spool.store import Spool
from wandb_airflow_provider.spool.sync_process import SyncProcess
from wandb_airflow_provider.spool.transaction_log import TransactionLogError
from wandb_airflow_provider.timeline import TASK_COUNTS

if TYPE_CHECKING:
    from wandb_airflow_provider.connection import WandbConnection

__all__ = ["SpoolUpload", "SyncReport"]

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 30.0
_POLL_SECONDS = 1.0
_PAGE = 10_000
_FAILED_STATES = ("failed", "crashed", "killed", "preempted", "preempting")
_ENDED = ("finished", *_FAILED_STATES)
_OF_ONE_PART = ("airflow/reason", "airflow/reconciled")
# What a task notes of its end in the summary, and in the config of its place.
_END = ("airflow/state", "airflow/seconds")
_PROVENANCE = "airflow"
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


class _Remote(NamedTuple):
    state: str
    rows: int
    rows_before: int
    last_step: int
    newer: bool
    summary: Mapping[str, Any]
    tags: Sequence[str]


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
        return None

    def _upload(self, manifest: Manifest, scratch: Path) -> None:
        if manifest.attempt is None and self._is_there(manifest):
            self._settle(manifest, scratch)
            return
        manifest = self._with_attempt(manifest)
        attempt = manifest.attempt or Attempt(continues=False, base_rows=0)
        error = self._difference(manifest, attempt)
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
            self._restore(manifest, attempt)
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

    def _is_there(self, manifest: Manifest) -> bool:
        """
        Tell whether W&B has this very part already, from another copy of the spool.

        A part that was uploaded whole has written when it began, how long it took, to a millisecond, and how it ended.
        """
        try:
            run = self._read(manifest)
        except WandbNotFoundError:
            return False
        place = dict(run.config).get(f"{manifest.prefix}{_PROVENANCE}") or {}
        began, found = manifest.task.get("started_at"), run.summary_metrics
        end = [manifest.prefix + name for name in _END]
        if not began or place.get("started_at") != began or any(key not in manifest.summary for key in end):
            return False
        if any(found.get(key) != manifest.summary[key] for key in end):
            return False
        remote = self._remote(manifest)
        return remote is not None and remote.rows >= manifest.history_rows and remote.state in _ENDED

    def _with_attempt(self, manifest: Manifest) -> Manifest:
        """Note, before the first upload, what W&B has of the run, so that a second one can tell."""
        if manifest.attempt is not None:
            return manifest
        remote = self._remote(manifest)
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
        remote = self._remote(manifest) if attempt.continues else None
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
            error = self._difference(manifest, attempt)
            if error is None or self._remote(manifest) is None or time.monotonic() > until:
                return error
            if self._stopped.wait(_POLL_SECONDS):
                return error

    def _difference(self, manifest: Manifest, attempt: Attempt) -> str | None:
        """Say in what W&B's run differs from the spooled one, None if in nothing that was counted."""
        remote = self._remote(manifest)
        if remote is None:
            return "the run does not exist"
        superseded = remote.newer and not manifest.history_rows
        if superseded:
            # Opened again since, with the same config: there is nothing that the later opening has not written.
            return None
        expected = ("finished",) if manifest.exit_code == 0 else _FAILED_STATES
        if remote.state not in expected:
            return f"it is {remote.state!r}, expected {' or '.join(map(repr, expected[:1]))}"
        if remote.rows != attempt.base_rows + manifest.history_rows:
            wanted = f"{attempt.base_rows} and {manifest.history_rows} more"
            return f"it has {remote.rows} rows of history, expected {wanted}"
        run = self._read(manifest)
        found = run.summary_metrics
        wrong = sorted(key for key, value in manifest.summary.items() if found.get(key) != value)
        if wrong and manifest.history_rows:
            # What was logged for a step of the caller's choice is written when the run is finished, after its summary
            # was noted.
            rows = list(run.scan_history(min_step=run.lastHistoryStep))
            wrong = [
                key for key in wrong if not any(key in row and row[key] == found.get(key) for row in rows)
            ]
        if wrong:
            return f"its summary differs in {wrong}"
        missing = _uploaded_files(manifest) - {file.name for file in run.files(per_page=1000)}
        if missing:
            return f"its files {sorted(missing)} are missing"
        if manifest.artifacts:
            logged = {f"{artifact.type}/{artifact.collection.name}" for artifact in run.logged_artifacts()}
            if set(manifest.artifacts) - logged:
                return f"its artifacts {sorted(set(manifest.artifacts) - logged)} are missing"
        return None

    def _remote(self, manifest: Manifest) -> _Remote | None:
        try:
            run = self._read(manifest)
        except WandbNotFoundError:
            return None
        with sdk.translate_errors(f"count the history of {manifest.run}", self._connection):
            steps = [row["_step"] for row in run.scan_history(keys=["_step"], page_size=_PAGE)]
        before = sum(step < manifest.starting_step for step in steps)
        summary = {key: value for key, value in run.summary_metrics.items() if not key.startswith("_")}
        return _Remote(
            str(run.state),
            len(steps),
            before,
            max(steps, default=-1),
            _is_newer(run, manifest),
            summary,
            tuple(run.tags or ()),
        )

    def _restore(self, manifest: Manifest, attempt: Attempt) -> None:
        """Give a run that was continued back what its earlier parts had noted and this part did not know."""
        run = self._read(manifest)
        # Why an earlier part failed is no reason for this one.
        lost = {
            key: value
            for key, value in attempt.summary.items()
            if key not in run.summary_metrics and key not in _OF_ONE_PART and not key.startswith(TASK_COUNTS)
        }
        tags = list(dict.fromkeys((*attempt.tags, *(run.tags or ()))))
        with sdk.translate_errors(f"complete the summary of {manifest.run}", self._connection):
            if set(tags) != set(run.tags or ()):
                run.tags = tags
                run.update()
            if lost:
                run.summary.update(lost)

    def _read(self, manifest: Manifest) -> Any:
        with sdk.translate_errors(f"read the W&B run {manifest.run}", self._connection):
            api = sdk.client(self._connection)
            api.flush()  # type: ignore[no-untyped-call]
            return api.run(manifest.run.path)


def _is_newer(run: Any, manifest: Manifest) -> bool:
    """Tell whether a later opening than the spooled one has written to the run, by what each notes in the config."""
    found = dict(run.config).get("airflow")
    written = found.get("started_at") if isinstance(found, dict) else None
    own = manifest.task.get("started_at")
    if not written or not own:
        return False
    return datetime.fromisoformat(written) > datetime.fromisoformat(own)


def _continued(run_folder: Path, last_step: int, scratch: Path) -> Path:
    """Return what to upload of a run's folder, so that its steps come after those that W&B has."""
    try:
        return continued_folder(run_folder, last_step, scratch)
    except TransactionLogError as error:
        raise WandbConfigurationError(f"What was logged cannot be continued: {error}") from error


def _uploaded_files(manifest: Manifest) -> set[str]:
    """Return the files of the run itself, as W&B names them."""
    parts = (path.split("/", 3) for path in manifest.files)
    return {rest[3] for rest in parts if len(rest) == 4 and rest[0] == "wandb" and rest[2] == "files"}


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
