"""The runs of a group over time: a line per task with its attempts, under a scale. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from wandb_airflow_provider.devserver.pages.formats import duration
from wandb_airflow_provider.devserver.pages.tree import Tree, TreeRow

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MOST_TICKS = 6


@dataclass(frozen=True)
class Line:
    """
    What one task did.

    :param attempts: Its runs in order; a run that says of no task where it is from has a line of its own.
    """

    title: str
    attempts: list[TreeRow]


@dataclass(frozen=True)
class Tick:
    """A mark of the scale: where it is, in percent of the group's time, and how long after the start."""

    left: float
    text: str


def build_lines(tree: Tree) -> list[Line]:
    """Return a line per task, in the order of the tree; mapped tasks have one per index."""
    lines: dict[tuple[str, ...], Line] = {}
    for row in tree.rows:
        key, title = _task(row, is_root=row.run is tree.root)
        lines.setdefault(key, Line(title, [])).attempts.append(row)
    return list(lines.values())


def build_ticks(seconds: float) -> list[Tick]:
    """Return the marks of a scale over so many seconds."""
    step = next((step for step in _STEPS if seconds / step <= _MOST_TICKS), seconds / _MOST_TICKS)
    count = int(seconds / step) if step else 0
    # The text of a mark near the end would stand outside.
    places = [number * step for number in range(count + 1) if number * step <= seconds * 0.85]
    return [
        Tick(round(place / seconds * 100, 2) if seconds else 0.0, duration(place) if place else "0")
        for place in places
    ]


def _task(row: TreeRow, *, is_root: bool) -> tuple[tuple[str, ...], str]:
    if row.origin is None:
        return ("run", row.run.path), row.run.display_name
    task = row.origin.text("task_id")
    if task is None:
        dag = row.origin.text("dag_id") if is_root else None
        return ("run", row.run.path), dag or row.run.display_name
    index = row.origin.whole("map_index")
    is_mapped = index is not None and index >= 0
    return ("task", task, str(index if is_mapped else "")), f"{task}[{index}]" if is_mapped else task
