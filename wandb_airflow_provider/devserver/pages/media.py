"""Media of a run: tables, HTML and images that were logged, found among its files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wandb_airflow_provider.devserver import json_text
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.pages.values import flat, is_number
from wandb_airflow_provider.devserver.queries import FileRecord, RunRecord

SHOWN_ROWS = 50
_MOST_MEDIA = 20
_LARGEST_TABLE_BYTES = 32_000_000
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
# The SDK puts W&B's own style sheet into the HTML it logs; these pages load nothing from elsewhere.
_FOREIGN_STYLE = re.compile(
    rb'<link rel="stylesheet" type="text/css" href="https?://[^"]*normalize\.css" ?/?>'
)


@dataclass(frozen=True)
class Table:
    """
    The beginning of a logged table.

    :param problem: Why it is not shown, or None.
    """

    title: str
    file: FileRecord
    columns: list[str]
    rows: list[list[Any]]
    row_count: int
    problem: str | None = None

    @property
    def numeric(self) -> set[int]:
        """The positions of the columns that hold nothing but numbers."""
        return {
            position
            for position in range(len(self.columns))
            if self.rows and all(len(row) > position and is_number(row[position]) for row in self.rows)
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the rows by column name."""
        for row in self.rows:
            yield dict(zip(self.columns, row, strict=False))


@dataclass(frozen=True)
class Media:
    """A file to show, under the key that it was logged as; ``caption`` is the text that was given with it."""

    title: str
    file: FileRecord
    caption: str | None = None


def find_tables(backend: Backend, run: RunRecord, files: Sequence[FileRecord]) -> list[Table]:
    """Return the tables of a run: those logged last, by key, then earlier ones by file name."""
    found = _media(run, files, "media/table/", ".table.json")
    return [_read_table(backend, item) for item in found[:_MOST_MEDIA]]


def find_table(backend: Backend, run: RunRecord, files: Sequence[FileRecord], key: str) -> Table | None:
    """Return the table that a run logged last under a key, or None."""
    for item in _media(run, files, "media/table/", ".table.json"):
        if item.title == key:
            return _read_table(backend, item)
    return None


def find_html(run: RunRecord, files: Sequence[FileRecord]) -> list[Media]:
    """Return the HTML that a run logged."""
    return _media(run, files, "media/html/", ".html")[:_MOST_MEDIA]


def find_images(run: RunRecord, files: Sequence[FileRecord]) -> list[Media]:
    """Return the images that a run logged, of formats that cannot hold scripts."""
    return [item for item in _media(run, files, "media/images/", "") if item.file.mimetype in _IMAGES][
        :_MOST_MEDIA
    ]


def read_html(backend: Backend, file: FileRecord) -> Iterator[bytes]:
    """
    Yield logged HTML in pieces, without the reference to a style sheet elsewhere that the SDK adds near its beginning.

    :raises FileNotFoundError: nothing of it is stored.
    """
    with backend.blobs.chunks(file.md5) as pieces:
        yield _FOREIGN_STYLE.sub(b"", next(pieces, b""), count=1)
        yield from pieces


def _media(run: RunRecord, files: Sequence[FileRecord], folder: str, ending: str) -> list[Media]:
    told = dict(_told(run))
    found = [file for file in files if file.name.startswith(folder) and file.name.endswith(ending)]
    found.sort(key=lambda file: (file.name not in told, file.name))
    media = []
    for file in found:
        title, caption = told.get(file.name, (file.name.removeprefix(folder), None))
        media.append(Media(title, file, caption))
    return media


def _told(run: RunRecord) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Yield what a run's summary says of its media: file name, key, caption."""
    for key, value in flat(run.summary):
        if not isinstance(value, Mapping):
            continue
        if isinstance(value.get("path"), str):
            caption = value.get("caption")
            yield value["path"], (key, caption if isinstance(caption, str) else None)
        names, captions = value.get("filenames"), value.get("captions")
        for position, name in enumerate(names if isinstance(names, list) else []):
            caption = captions[position] if isinstance(captions, list) and position < len(captions) else None
            yield str(name), (key, caption if isinstance(caption, str) else None)


def _read_table(backend: Backend, item: Media) -> Table:
    if item.file.size > _LARGEST_TABLE_BYTES:
        return Table(item.title, item.file, [], [], 0, "The table is too large to show here.")
    try:
        content = json_text.parse("it", backend.blobs.read(item.file.md5).decode())
        columns, rows = [str(name) for name in content["columns"]], content["data"]
        shown = [list(row) for row in rows[:SHOWN_ROWS]]
    except (GraphQLError, ValueError, KeyError, TypeError) as error:
        return Table(
            item.title, item.file, [], [], 0, f"The file is not a table as the SDK writes it: {error}."
        )
    return Table(item.title, item.file, columns, shown, len(rows))
