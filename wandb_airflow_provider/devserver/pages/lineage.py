"""What led to a version and what came of it, as a drawing: runs and versions in columns from left to right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from wandb_airflow_provider.devserver.artifacts.queries import (
    CollectionRecord,
    VersionRecord,
    list_edges,
    list_places,
    list_run_edges,
)
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.pages import addresses
from wandb_airflow_provider.devserver.pages.origin import shown_state
from wandb_airflow_provider.devserver.pages.records import find_run_by_id
from wandb_airflow_provider.devserver.queries import RunRecord

# Versions that the SDK makes by itself, for tables and history.
GENERATED_TYPES = ("run_table", "wandb-history", "wandb-events", "job")

_DEPTH = 4
_MOST_IN_COLUMN = 8
_BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 172, 46, 30, 16, 6
# Letters of title and note that fit; a run's box has round ends.
_LENGTHS = {"run": (19, 22), "artifact": (20, 24)}

Direction = Literal["input", "output"]
Place = tuple[CollectionRecord, VersionRecord]


@dataclass(frozen=True)
class Box:
    """
    A run or a version in the drawing.

    :param kind: ``run`` or ``artifact``.
    :param column: 0 for the version itself, negative for what led to it.
    """

    key: str
    kind: str
    title: str
    note: str
    url: str
    column: int
    row: int
    is_centre: bool = False

    @property
    def short_title(self) -> str:
        """The title, cut to fit."""
        return _cut(self.title, _LENGTHS[self.kind][0])

    @property
    def short_note(self) -> str:
        """The note, cut to fit."""
        return _cut(self.note, _LENGTHS[self.kind][1])


@dataclass
class Lineage:
    """
    The drawing.

    :param cut: How many runs and versions were left out to keep it readable.
    """

    boxes: dict[str, Box] = field(default_factory=dict)
    arrows: list[tuple[str, str]] = field(default_factory=list)
    cut: int = 0

    @property
    def width(self) -> int:
        """Width in pixels."""
        columns = [box.column for box in self.boxes.values()]
        return (max(columns) - min(columns) + 1) * (_BOX_WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN

    @property
    def height(self) -> int:
        """Height in pixels."""
        return (self._tallest() * (_BOX_HEIGHT + _GAP_Y)) - _GAP_Y + 2 * _MARGIN

    @property
    def box_size(self) -> tuple[int, int]:
        """Width and height of a box in pixels."""
        return _BOX_WIDTH, _BOX_HEIGHT

    def position(self, box: Box) -> tuple[float, float]:
        """Return the left upper corner of a box; columns are centred on each other."""
        first = min(other.column for other in self.boxes.values())
        in_column = sum(1 for other in self.boxes.values() if other.column == box.column)
        offset = (self._tallest() - in_column) * (_BOX_HEIGHT + _GAP_Y) / 2
        x = _MARGIN + (box.column - first) * (_BOX_WIDTH + _GAP_X)
        return x, _MARGIN + offset + box.row * (_BOX_HEIGHT + _GAP_Y)

    def paths(self) -> list[str]:
        """Return the arrows as SVG path data, from the right side of one box to the left side of the next."""
        drawn = []
        for source, target in self.arrows:
            x1, y1 = self.position(self.boxes[source])
            x2, y2 = self.position(self.boxes[target])
            x1, y1, y2 = x1 + _BOX_WIDTH, y1 + _BOX_HEIGHT / 2, y2 + _BOX_HEIGHT / 2
            bend = max((x2 - x1) / 2, _GAP_X / 2)
            drawn.append(f"M{x1:g},{y1:g} C{x1 + bend:g},{y1:g} {x2 - bend:g},{y2:g} {x2 - 5:g},{y2:g}")
        return drawn

    def add(self, box: Box) -> bool:
        """Put a box in, unless its column is full."""
        if box.row >= _MOST_IN_COLUMN:
            self.cut += 1
            return False
        self.boxes[box.key] = box
        return True

    def next_row(self, column: int) -> int:
        """Return how many boxes a column has."""
        return sum(1 for box in self.boxes.values() if box.column == column)

    def _tallest(self) -> int:
        return max(self.next_row(column) for column in {box.column for box in self.boxes.values()})


def trace(backend: Backend, place: Place) -> Lineage:
    """Return the lineage of a version: four steps back and four ahead, a step being a run or a version."""
    lineage = Lineage()
    centre = _artifact_box(place, 0, 0, is_centre=True)
    lineage.add(centre)
    _walk(backend, lineage, centre.key, -1)
    _walk(backend, lineage, centre.key, 1)
    return lineage


def _walk(backend: Backend, lineage: Lineage, start: str, side: int) -> None:
    frontier = [start]
    for distance in range(1, _DEPTH + 1):
        column, reached = side * distance, []
        for key in frontier:
            for box in _neighbours(backend, lineage, key, column):
                if box.key not in lineage.boxes and lineage.add(box):
                    reached.append(box.key)
                arrow = (box.key, key) if side < 0 else (key, box.key)
                if box.key in lineage.boxes and arrow not in lineage.arrows:
                    lineage.arrows.append(arrow)
        frontier = reached


def _neighbours(backend: Backend, lineage: Lineage, key: str, column: int) -> Iterable[Box]:
    """Yield what is one step further from a box, as boxes of a column."""
    kind, _, name = key.partition(":")
    if kind == "artifact":
        # Back: the runs that put it out. Ahead: those that used it.
        wanted: Direction = "output" if column < 0 else "input"
        for edge in list_edges(backend, name):
            run = find_run_by_id(backend, edge.run_id) if edge.kind == wanted else None
            if run is not None:
                yield _run_box(run, column, lineage.next_row(column))
    else:
        wanted = "input" if column < 0 else "output"
        for edge in list_run_edges(backend, name):
            place = find_place(backend, edge.artifact_id) if edge.kind == wanted else None
            if place is not None and place[1].type not in GENERATED_TYPES:
                yield _artifact_box(place, column, lineage.next_row(column))


def find_place(backend: Backend, artifact_id: str) -> Place | None:
    """Return where a version was logged, or None if it was deleted."""
    places = list_places(backend, artifact_id)
    return next((place for place in places if not place[1].is_link), places[0] if places else None)


def _run_box(run: RunRecord, column: int, row: int) -> Box:
    job_type = None if run.job_type == run.display_name else run.job_type
    note = " · ".join(part for part in (job_type, shown_state(run)) if part)
    return Box(f"run:{run.id}", "run", run.display_name, note, addresses.run(run), column, row)


def _artifact_box(place: Place, column: int, row: int, *, is_centre: bool = False) -> Box:
    collection, version = place
    note = " · ".join((version.type, *version.aliases))
    return Box(
        f"artifact:{version.artifact_id}",
        "artifact",
        f"{collection.name}:v{version.version}",
        note,
        addresses.version(collection, version.version),
        column,
        row,
        is_centre,
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
