"""What W&B has of a spooled run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider import sdk
from wandb_airflow_provider.exceptions import WandbNotFoundError
from wandb_airflow_provider.spool.manifest import Attempt, Manifest
from wandb_airflow_provider.timeline import TASK_COUNTS

if TYPE_CHECKING:
    from wandb_airflow_provider.connection import WandbConnection

__all__ = ["RemoteRun", "RemoteRuns"]

_PAGE = 10_000
_FAILED_STATES = ("failed", "crashed", "killed", "preempted", "preempting")
_ENDED = ("finished", *_FAILED_STATES)
_OF_ONE_PART = ("airflow/reason", "airflow/reconciled")
# What a task notes of its end in the summary, and in the config of its place.
_END = ("airflow/state", "airflow/seconds")
_PROVENANCE = "airflow"


class RemoteRun(NamedTuple):
    """
    A run that W&B has.

    :param rows: Rows of its history, and ``rows_before``: those before the first step of the spooled part.
    :param last_step: Its last step, -1 without any.
    :param newer: Whether a later opening than the spooled one has written to it.
    """

    state: str
    rows: int
    rows_before: int
    last_step: int
    newer: bool
    summary: Mapping[str, Any]
    tags: Sequence[str]


class RemoteRuns:
    """Compares spooled runs with those that W&B has, through one connection."""

    def __init__(self, connection: WandbConnection) -> None:
        self._connection = connection

    def find(self, manifest: Manifest) -> RemoteRun | None:
        """Return the run, None if W&B does not have it."""
        try:
            run = self._read(manifest)
        except WandbNotFoundError:
            return None
        with sdk.translate_errors(f"count the history of {manifest.run}", self._connection):
            steps = [row["_step"] for row in run.scan_history(keys=["_step"], page_size=_PAGE)]
        before = sum(step < manifest.starting_step for step in steps)
        summary = {key: value for key, value in run.summary_metrics.items() if not key.startswith("_")}
        return RemoteRun(
            str(run.state),
            len(steps),
            before,
            max(steps, default=-1),
            _is_newer(run, manifest),
            summary,
            tuple(run.tags or ()),
        )

    def holds(self, manifest: Manifest) -> bool:
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
        remote = self.find(manifest)
        return remote is not None and remote.rows >= manifest.history_rows and remote.state in _ENDED

    def difference(self, manifest: Manifest, attempt: Attempt) -> str | None:
        """Say in what W&B's run differs from the spooled one, None if in nothing that was counted."""
        remote = self.find(manifest)
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

    def restore(self, manifest: Manifest, attempt: Attempt) -> None:
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


def _uploaded_files(manifest: Manifest) -> set[str]:
    """Return the files of the run itself, as W&B names them."""
    parts = (path.split("/", 3) for path in manifest.files)
    return {rest[3] for rest in parts if len(rest) == 4 and rest[0] == "wandb" and rest[2] == "files"}
