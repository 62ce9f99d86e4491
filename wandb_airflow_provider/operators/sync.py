"""Upload the runs that wait in a spool since W&B was unavailable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbSyncError
from wandb_airflow_provider.hooks.wandb import WandbHook

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.spool.upload import SpoolUpload

__all__ = ["WandbSyncOperator"]


class WandbSyncOperator(BaseOperator):
    """
    Upload a spool to W&B: pipeline runs first, parents before children, else in the order in which runs were opened.

    An entry is removed once W&B has it completely: rows of history, summary, files, artifacts and the final state. One
    that could not be uploaded stays, does not hold up others, and fails the task at its end. Running it again adds
    nothing twice. An empty spool is a success, so that it can run on a schedule; give its DAG ``max_active_runs=1``.

    Returns ``{"synced": [run paths], "failed": {entry: why}, "waiting": [entries still being written]}``.

    :param spool: The folder or URL that the tasks write to. (templated)
    :param wandb_conn_id: Airflow connection. (templated)
    :param keep: Keep what is uploaded in the spool; it is not uploaded again.
    :param include_unfinished: Also upload what tasks left that were killed outright; W&B shows it as failed. Only right
        while no task writes to the spool.
    :param upload_timeout: Longest upload of one run in seconds.
    :raises WandbSyncError: an entry could not be uploaded. Retried.
    :raises WandbUnavailableError: W&B or the spool cannot be reached. Retried.
    :raises WandbAuthenticationError: W&B does not accept the key. Not retried.
    """

    template_fields: Sequence[str] = ("spool", "wandb_conn_id")
    ui_color = "#fff3c9"

    def __init__(
        self,
        *,
        spool: str,
        wandb_conn_id: str = DEFAULT_CONN_ID,
        keep: bool = False,
        include_unfinished: bool = False,
        upload_timeout: float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if upload_timeout <= 0:
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: upload_timeout is {upload_timeout!r}; expected a positive number of seconds."
            )
        self.spool = spool
        self.wandb_conn_id = wandb_conn_id
        self.keep = keep
        self.include_unfinished = include_unfinished
        self.upload_timeout = upload_timeout
        self._upload: SpoolUpload | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Upload what waits, and say what became of it."""
        from wandb_airflow_provider.hooks.runs import release_when_idle
        from wandb_airflow_provider.spool.store import Spool
        from wandb_airflow_provider.spool.upload import SpoolUpload

        self._upload = SpoolUpload(
            Spool(self.spool),
            WandbHook(self.wandb_conn_id).connection,
            keep=self.keep,
            include_unfinished=self.include_unfinished,
            timeout=self.upload_timeout,
            on_progress=lambda done, total, line: self.log.info("%d of %d: %s", done, total, line),
        )
        try:
            report = self._upload.run()
        finally:
            release_when_idle()
        for entry in report.waiting:
            self.log.warning("Entry %r was not closed: its task still runs, or was killed outright.", entry)
        if report.failed:
            named = "; ".join(f"{entry!r}: {why}" for entry, why in report.failed)
            raise WandbSyncError(
                f"{len(report.failed)} entries of the spool {self.spool} could not be uploaded, and are kept "
                f"({len(report.synced)} were uploaded): {named}"
            )
        return report.to_json()

    def on_kill(self) -> None:
        """End the upload under way; the next run continues it."""
        if self._upload is not None:
            self._upload.stop()
