"""What is different between two versions of an artifact: metadata and files. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wandb_airflow_provider.devserver.artifacts.queries import EntryRecord
from wandb_airflow_provider.devserver.pages.values import flat, natural


@dataclass(frozen=True)
class ValueChange:
    """A metadata key that differs, nested keys joined by dots; None where it is absent."""

    key: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Comparison:
    """
    The differences.

    :param before: The number of the version that it is compared with.
    :param metadata: By key.
    :param files: By path: what happened to each, ``added``, ``changed`` or ``removed``.
    """

    before: int
    metadata: list[ValueChange]
    files: list[tuple[str, str]]


def compare(
    before: int,
    old_metadata: Mapping[str, Any],
    new_metadata: Mapping[str, Any],
    old_entries: Sequence[EntryRecord],
    new_entries: Sequence[EntryRecord],
) -> Comparison:
    """Return what a version has that another, whose number is ``before``, has not, and the other way round."""
    old, new = dict(flat(old_metadata)), dict(flat(new_metadata))
    keys = sorted({*old, *new}, key=natural)
    metadata = [ValueChange(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]
    old_digests = {entry.path: entry.digest for entry in old_entries}
    new_digests = {entry.path: entry.digest for entry in new_entries}
    files = [
        (path, _word(old_digests.get(path), new_digests.get(path)))
        for path in sorted({*old_digests, *new_digests}, key=natural)
        if old_digests.get(path) != new_digests.get(path)
    ]
    return Comparison(before, metadata, files)


def _word(before: str | None, after: str | None) -> str:
    if before is None:
        return "added"
    return "removed" if after is None else "changed"
