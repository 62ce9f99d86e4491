"""One opening of a run under its outage policy: online if W&B can be reached, else offline, or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from wandb_airflow_provider import sdk
from wandb_airflow_provider.exceptions import WandbError, WandbOfflineError, WandbUnavailableError
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.spool.manifest import Manifest, scalars
from wandb_airflow_provider.spool.store import Spool, describe_files
from wandb_airflow_provider.spool.transaction_log import RunLog, TransactionLogError, read_transaction_log

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.connection import WandbConnection

__all__ = ["Opening", "spooled_runs"]

log = logging.getLogger(__name__)

# Nothing is lost by giving up, so a task need not wait for as long as it would otherwise.
_FINISH_TIMEOUT_FACTOR = 10.0
_DATA_DIR = "WANDB_DATA_DIR"
_READS = ("use_artifact", "use_model")
_LINKS = ("link_artifact", "link_model")


class Opening:
    """
    Opens a run, and puts into the spool what W&B did not receive.

    :param folder: Temporary folder of this opening; :meth:`settle` removes it once nothing in it is needed.
    :ivar mode: ``online``, ``offline``, or ``disabled`` for a run that is not recorded.
    """

    def __init__(self, connection: WandbConnection, spec: sdk.RunSpec, folder: str) -> None:
        self._connection = connection
        self._folder = Path(folder)
        self._manifest: Manifest | None = None
        self._staging_before: str | None = None
        self.mode: Literal["online", "offline", "disabled"] = "online"
        self._policy = spec.on_unavailable
        self._spool: Spool | None = None
        if self._policy == "offline":
            self._spool = Spool(str(spec.spool))
            longest = connection.timeout * _FINISH_TIMEOUT_FACTOR
            spec = spec._replace(finish_timeout=min(spec.finish_timeout or longest, longest))
        self.spec = spec._replace(folder=folder)

    def open(self, *, alone: bool) -> wandb.Run:
        """
        Open the run as W&B and the policy allow.

        :param alone: No other run is open in this process.
        :raises WandbUnavailableError: W&B cannot be reached and the policy is ``fail``, or the spool cannot be written.
        """
        if self._spool is not None:
            self._stage_artifacts_in(self._folder)
        try:
            return sdk.init_run(self._connection, self.spec)
        except WandbUnavailableError as error:
            # The helper process keeps the id of a run that it could not open; other runs of this task still need it.
            if self._policy == "fail" or not alone:
                raise
            why = str(error)
        sdk.release(1)
        if self._spool is None:
            self.mode = "disabled"
            log.warning(
                "W&B is unavailable, and the task runs without its W&B run %s (on_unavailable='skip'): nothing of it "
                "is recorded. %s",
                self.spec.wandb_run_id,
                why,
            )
            return _without_reads(sdk.init_run(self._connection, self.spec, mode="disabled"), self.mode)
        return self._open_offline(self._spool, why)

    def _open_offline(self, spool: Spool, why: str) -> wandb.Run:
        self.mode = "offline"
        self._manifest = manifest = self._new_manifest(spool, why)
        spool.write(manifest)
        # What the opening that failed has left would be taken for the run.
        shutil.rmtree(self._folder / "wandb", ignore_errors=True)
        # Within the spool where that is possible, so that even a killed worker leaves what was logged.
        own = spool.local_folder(manifest.entry)
        if own is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = own
            self._manifest = manifest._replace(folder=str(own))
            spool.write(self._manifest)
            self._stage_artifacts_in(own)
            self.spec = self.spec._replace(folder=str(own))
        log.warning(
            "W&B is unavailable, and the W&B run %s is written to the spool %s (on_unavailable='offline'). "
            "WandbSyncOperator or `wandb-airflow sync` uploads it later. %s",
            manifest.run,
            spool.url,
            why,
        )
        return _without_reads(sdk.init_run(self._connection, self.spec, mode="offline"), self.mode)

    def settle(self, exit_code: int, summary: Mapping[str, Any], unsent: BaseException | None) -> None:
        """
        Put the run into the spool if W&B did not receive it, and tidy up. The run is finished and its file written.

        :param unsent: Why a run that was opened online could not be finished.
        """
        self._restore_staging()
        if self._spool is None:
            if unsent is None:
                shutil.rmtree(self._folder, ignore_errors=True)
            return
        if self.mode == "online" and unsent is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        started = self._manifest or self._new_manifest(self._spool, f"{type(unsent).__name__}: {unsent}")
        manifest = self._closed(started, exit_code, summary)
        try:
            self._spool.store(manifest, self._folder)
        except WandbError as error:
            log.error(
                "The W&B run %s could not be put into the spool (%s). What was logged is in %s on %s; `wandb sync` "
                "uploads it.",
                self.spec.wandb_run_id,
                error,
                self._folder,
                socket.gethostname(),
            )
            return
        if self._folder != self._spool.local_folder(manifest.entry):
            shutil.rmtree(self._folder, ignore_errors=True)
        log.warning(
            "The W&B run %s waits in the spool %s as %r, with %d rows of history.",
            manifest.run,
            self._spool.url,
            manifest.entry,
            manifest.history_rows,
        )

    def abandon(self) -> None:
        """Forget a run that could not be opened."""
        self._restore_staging()
        if self._manifest is not None and self._spool is not None:
            try:
                self._spool.remove(self._manifest)
            except WandbError as error:
                log.warning("An entry of the spool without a run is left behind: %s", error)

    def _new_manifest(self, spool: Spool, why: str) -> Manifest:
        spec, now = self.spec, datetime.now(UTC)
        provenance = _provenance(spec)
        return Manifest(
            entry=spool.new_entry(spec.wandb_run_id, now),
            state="open",
            run=RunRef(str(spec.entity), str(spec.project), spec.wandb_run_id, offline=True),
            mode="offline" if self.mode == "offline" else "online",
            started_at=now.isoformat(),
            folder=str(self._folder),
            host=socket.gethostname(),
            why=why,
            group=spec.group,
            task={
                name: provenance.get(name)
                for name in ("dag_id", "dag_run_id", "task_id", "map_index", "try_number", "started_at")
            }
            | ({} if spec.stage is None else {"stage": spec.stage}),
            parent_run=provenance.get("parent_run"),
        )

    def _closed(self, manifest: Manifest, exit_code: int, summary: Mapping[str, Any]) -> Manifest:
        logged = _read_log(self._folder)
        return manifest._replace(
            state="closed",
            ended_at=datetime.now(UTC).isoformat(),
            exit_code=exit_code if logged.exit_code is None else logged.exit_code,
            resumed=logged.resumed,
            starting_step=logged.starting_step,
            history_rows=logged.history_rows,
            artifacts=logged.artifacts,
            summary=scalars(summary),
            files=describe_files(self._folder),
        )

    def _stage_artifacts_in(self, folder: Path) -> None:
        """Let wandb copy files of artifacts to where the spool takes them from, and not to the worker's home."""
        if self._staging_before is None:
            self._staging_before = os.environ.get(_DATA_DIR, "")
        os.environ[_DATA_DIR] = str(folder / "data")

    def _restore_staging(self) -> None:
        if self._staging_before is None:
            return
        if self._staging_before:
            os.environ[_DATA_DIR] = self._staging_before
        else:
            os.environ.pop(_DATA_DIR, None)
        self._staging_before = None


def spooled_runs(spool: str, group: str) -> Iterator[Manifest]:
    """
    Yield what waits in a spool of the runs of a group, in the order of opening.

    :raises WandbUnavailableError: the spool cannot be read.
    """
    found, _ = Spool(spool).entries()
    yield from (manifest for manifest in found if manifest.group == group and manifest.state != "synced")


def _provenance(spec: sdk.RunSpec) -> Mapping[str, Any]:
    key = "airflow" if spec.stage is None else f"{spec.stage}/airflow"
    found = spec.config.get(key)
    return found if isinstance(found, Mapping) else {}


def _read_log(folder: Path) -> RunLog:
    files = sorted(folder.glob("wandb/*run-*/run-*.wandb"))
    if not files:
        return RunLog()
    try:
        return read_transaction_log(files[-1])
    except TransactionLogError as error:
        log.warning("What was logged cannot be counted: %s", error)
        return RunLog()


def _without_reads(run: wandb.Run, mode: str) -> wandb.Run:
    """Let what needs an answer from W&B say so, where wandb would raise something obscure or return None."""

    def refuse(name: str) -> Any:
        def refused(*args: Any, **kwargs: Any) -> NoReturn:
            raise WandbOfflineError(
                f"wandb_run.{name}() needs W&B, which was unavailable when the W&B run {run.id!r} was opened "
                f"(the run is {mode}). Retry or clear the task once W&B is back; give a task that cannot work without "
                "W&B on_unavailable='fail' and retries."
            )

        return refused

    for name in _READS if mode == "disabled" else (*_READS, *_LINKS):
        setattr(run, name, refuse(name))
    return run
