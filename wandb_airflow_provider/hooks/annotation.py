"""What is added to a run that has ended, or that another task holds open, through W&B's public API."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider.exceptions import WandbNotFoundError
from wandb_airflow_provider.identity import slug

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.identity import RunRef

__all__ = ["NoteTable", "annotate_run"]

log = logging.getLogger(__name__)

_NOTES = "airflow/notes"
"""Folder of a run's files with the notes of writers, and first part of the summary's keys that tell which it has."""
_ROUNDS = 50
_PAUSE = 0.1
_LONGEST_PAUSE = 1.0


class NoteTable(NamedTuple):
    """
    A table to add, as if the run had logged it.

    :param key: The summary's key of it.
    :param policy: The name under which a redaction policy knows it.
    """

    key: str
    policy: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def annotate_run(
    hook: WandbHook, ref: RunRef, note: str, summary: Mapping[str, Any], table: NoteTable | None = None
) -> None:
    """
    Add keys to the summary of a run, and a table.

    W&B replaces a summary as a whole, so that of two writers at one moment the first would lose its keys. Therefore
    each one first leaves what it adds in a file of its own, and after its write looks again: who writes last finds
    the files of all that wrote before, and puts back what it has overwritten.

    :param note: What is added, as the summary's keys begin: a later note of the same name replaces an earlier one.
    :raises WandbNotFoundError: no such run.
    :raises WandbPermissionError: the key may not write to it.
    """
    with (
        hook.translate_errors(f"add {note!r} to the W&B run {ref}"),
        TemporaryDirectory(prefix="wandb-note-") as folder,
    ):
        api = hook.get_conn()
        api.flush()  # type: ignore[no-untyped-call]
        run = api.run(ref.path)
        added = dict(hook.privacy.mapping("summary", summary))
        if table is not None:
            added[table.key] = _upload_table(hook, run, table, folder)
        own = _Note.new(note)
        content = json.dumps(added, separators=(",", ":")).encode()
        _upload(run, folder, own.file, content)
        for number in range(_ROUNDS):
            api.flush()  # type: ignore[no-untyped-call]
            run = api.run(ref.path)
            newest = _newest(run)
            if number == 0 and own < newest.get(own.name, own):
                # An earlier one, by a machine whose clock is ahead of this one's.
                own = own.after(newest[own.name])
                _upload(run, folder, own.file, content)
            newest[own.name] = max(own, newest.get(own.name, own))
            lost = _lost(run, newest)
            if not lost:
                return
            changes: dict[str, Any] = {}
            for found in lost:
                values = added if found == own else _read(hook, run, found, folder)
                if values is not None:
                    changes |= {**values, found.key: found.stamp}
            if not changes:
                return
            run.summary.update(changes)  # type: ignore[no-untyped-call]
            if number:
                # Others write too: not all again at the same moment.
                time.sleep(random.uniform(0, min(_PAUSE * number, _LONGEST_PAUSE)))  # noqa: S311 -- spreads writes, guards nothing
        log.warning(
            "So many write to the summary of the W&B run %s that it may lack %r; it is in the run's file %r.",
            ref,
            note,
            own.file,
        )


class _Note(NamedTuple):
    """
    What one writer adds.

    :param stamp: Tells which one of a name is the newest.
    """

    name: str
    stamp: str

    @classmethod
    def new(cls, note: str) -> _Note:
        digest = hashlib.sha256(note.encode()).hexdigest()[:8]
        return cls(f"{slug(note)}-{digest}", f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}")

    def after(self, other: _Note) -> _Note:
        """Return a note of this name that is newer than another one."""
        return self._replace(stamp=f"{other.stamp}-{uuid.uuid4().hex[:8]}")

    @property
    def file(self) -> str:
        return f"{_NOTES}/{self.name}/{self.stamp}.json"

    @property
    def key(self) -> str:
        """The key of the summary that says which note of this name is in it."""
        return f"{_NOTES}/{self.name}"


def _newest(run: Any) -> dict[str, _Note]:
    """Return the newest note of each name among the run's files."""
    newest: dict[str, _Note] = {}
    for file in run.files(pattern=f"{_NOTES}/%"):
        parts = str(file.name).removeprefix(f"{_NOTES}/").removesuffix(".json").split("/")
        if len(parts) == 2:
            found = _Note(*parts)
            newest[found.name] = max(found, newest.get(found.name, found))
    return newest


def _lost(run: Any, newest: dict[str, _Note]) -> list[_Note]:
    """Return the notes that are not in the run's summary."""
    summary = run.summary_metrics or {}
    return [note for note in newest.values() if str(summary.get(note.key) or "") < note.stamp]


def _read(hook: WandbHook, run: Any, note: _Note, folder: str) -> dict[str, Any] | None:
    """Return what another writer has left; None while it has not been uploaded, and will be added by that writer."""
    try:
        with hook.translate_errors(f"read the file {note.file!r} of the W&B run {run.id!r}"):
            run.file(note.file).download(root=folder, replace=True).close()
        return dict(json.loads(Path(folder, note.file).read_bytes()))
    except (WandbNotFoundError, ValueError, TypeError):
        return None


def _upload_table(hook: WandbHook, run: Any, given: NoteTable, folder: str) -> dict[str, Any]:
    """Upload the table under the path that the SDK gives one that a run logs, and return the summary's value."""
    table = hook.privacy.table(given.policy, given.columns, given.rows)
    content = json.dumps({"columns": table.columns, "data": table.rows}, separators=(",", ":")).encode()
    digest = hashlib.sha256(content).hexdigest()
    name = f"media/table/{given.key}_{digest[:20]}.table.json"
    _upload(run, folder, name, content)
    return {
        "_type": "table-file",
        "path": name,
        "ncols": len(table.columns),
        "nrows": len(table.rows),
        "sha256": digest,
        "size": len(content),
    }


def _upload(run: Any, folder: str, name: str, content: bytes) -> None:
    file = Path(folder, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    run.upload_file(str(file), root=folder)
