"""What a spool says about one run that waits in it. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.identity import RunRef

__all__ = ["Attempt", "Manifest", "digest_of", "in_upload_order", "scalars"]

_VERSION = 1


class Attempt(NamedTuple):
    """
    What W&B had before the first upload of an entry; written down before it, so that a second one adds nothing twice.

    :param continues: The run existed already, so its history is continued.
    :param base_rows: Rows of history that it had.
    :param summary: Its summary, and ``tags``: its tags. Uploading what was logged without knowing them replaces them.
    """

    continues: bool
    base_rows: int
    summary: Mapping[str, Any] = MappingProxyType({})
    tags: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value."""
        return {**self._asdict(), "summary": dict(self.summary), "tags": list(self.tags)}


class Manifest(NamedTuple):
    """
    One run, or one opening of a run, that waits in a spool.

    :param entry: Name of its folder in the spool; names sort by the time of opening.
    :param state: ``open`` while the task writes (or after it was killed outright), ``closed`` when complete,
        ``synced`` once W&B has all of it.
    :param mode: ``offline``: W&B received nothing of it. ``online``: it may have received a part.
    :param started_at: ISO time with zone.
    :param task_state: What the task wrote as ``airflow/state``.
    :param task: ``dag_id``, ``dag_run_id``, ``task_id``, ``map_index``, ``try_number`` and ``started_at``; and
        ``stage``, the name under which the task wrote to a run that others write to as well.
    :param files: Size in bytes and SHA-256 of each file, by its path below the entry's folder ``run``.
    :param folder: Where the task had that folder: paths within the run's data point there.
    :param summary: The run's last summary values, as far as they are plain values.
    """

    entry: str
    state: Literal["open", "closed", "synced"]
    run: RunRef
    mode: Literal["offline", "online"]
    started_at: str
    folder: str
    host: str
    why: str = ""
    group: str = ""
    task: Mapping[str, Any] = MappingProxyType({})
    parent_run: str | None = None
    ended_at: str | None = None
    exit_code: int | None = None
    task_state: str | None = None
    reason: str | None = None
    resumed: bool = False
    starting_step: int = 0
    history_rows: int = 0
    artifacts: tuple[str, ...] = ()
    summary: Mapping[str, Any] = MappingProxyType({})
    files: Mapping[str, tuple[int, str]] = MappingProxyType({})
    attempt: Attempt | None = None

    @property
    def prefix(self) -> str:
        """What the keys begin with that the task wrote."""
        stage = self.task.get("stage")
        return f"{stage}/" if stage else ""

    def to_json(self) -> str:
        """Return the text of ``manifest.json``."""
        value = self._asdict() | {
            "version": _VERSION,
            "run": self.run.to_json(),
            "task": dict(self.task),
            "summary": dict(self.summary),
            "files": {path: list(facts) for path, facts in self.files.items()},
            "attempt": self.attempt.to_json() if self.attempt is not None else None,
            "digest": digest_of(self.files),
        }
        return json.dumps(value, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """
        Rebuild a manifest.

        :raises WandbConfigurationError: it is none, of a newer version, or its list of files was changed.
        """
        try:
            value = json.loads(text)
            version, digest = value.pop("version"), value.pop("digest")
            if version != _VERSION:
                raise ValueError(f"it has version {version!r}, and this package reads {_VERSION}")
            value["run"] = RunRef.from_json(value["run"])._replace(offline=True)
            value["artifacts"] = tuple(value["artifacts"])
            value["files"] = {
                path: (int(size), str(sha256)) for path, (size, sha256) in value["files"].items()
            }
            value["attempt"] = Attempt(**value["attempt"]) if value["attempt"] is not None else None
            manifest = cls(**value)
            if digest != digest_of(manifest.files):
                raise ValueError("its digest does not match its list of files")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WandbConfigurationError(f"This manifest cannot be read: {error}.") from error
        return manifest


def digest_of(files: Mapping[str, tuple[int, str]]) -> str:
    """Return one digest over the paths, sizes and contents of files."""
    lines = (f"{path}\0{size}\0{sha256}\n" for path, (size, sha256) in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def scalars(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary values that can be compared after a journey through JSON; wandb's own ``_`` keys left out."""
    return {
        key: value
        for key, value in summary.items()
        if not key.startswith("_")
        and (
            isinstance(value, str | bool | int)
            or value is None
            or (isinstance(value, float) and math.isfinite(value))
        )
    }


def in_upload_order(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return parents before their children, roots first; within one depth by the time of opening."""
    found = sorted(manifests, key=lambda manifest: (manifest.started_at, manifest.entry))
    parents = {manifest.run.path: manifest.parent_run for manifest in found}

    def depth(path: str) -> int:
        seen = {path}
        parent = parents.get(path)
        while parent in parents and parent not in seen:
            seen.add(parent)
            parent = parents[parent]
        return len(seen)

    return sorted(found, key=lambda manifest: depth(manifest.run.path))
