"""The task instances of a DAG run as a tree: task groups, tasks, map indexes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["TaskEntry", "task_tree"]

# What a group says of itself is what a person should look at first.
_STATES = (
    "failed",
    "upstream_failed",
    "up_for_retry",
    "up_for_reschedule",
    "running",
    "restarting",
    "deferred",
    "awaiting_input",
    "queued",
    "scheduled",
    None,
    "success",
    "skipped",
    "removed",
)


class TaskEntry(NamedTuple):
    """
    One task instance.

    :param state: Airflow's own; None for one that the scheduler has not come to.
    :param start: Epoch seconds; None for one that never started.
    :param end: Epoch seconds; now for one that is at work.
    :param url: Of its W&B run.
    """

    task_id: str
    map_index: int = -1
    state: str | None = None
    start: float | None = None
    end: float | None = None
    try_number: int = 0
    url: str | None = None
    metrics: Mapping[str, float] = {}


def task_tree(entries: Iterable[TaskEntry]) -> list[dict[str, Any]]:
    """
    Return the entries as nested JSON values, in the order in which they started.

    Groups are read from the dots in task ids, so that those with ``prefix_group_id=False`` have no node.
    """
    return _level("", sorted(entries, key=lambda entry: (entry.task_id, entry.map_index)))


def _level(prefix: str, entries: Sequence[TaskEntry]) -> list[dict[str, Any]]:
    parts: dict[tuple[str, bool], list[TaskEntry]] = {}
    for entry in entries:
        name, dot, _ = entry.task_id.removeprefix(prefix).partition(".")
        parts.setdefault((name, bool(dot)), []).append(entry)
    nodes = []
    for (name, is_group), members in parts.items():
        if is_group:
            nodes.append(_parent(name, "group", members, _level(f"{prefix}{name}.", members)))
        elif members[0].map_index < 0:
            nodes.append(_node(name, "task", members[0]))
        else:
            indexes = [_node(f"{name}[{entry.map_index}]", "index", entry) for entry in members]
            nodes.append(_parent(name, "mapped", members, indexes))
    return sorted(nodes, key=lambda node: (node["start"] is None, node["start"] or 0.0, node["label"]))


def _node(label: str, kind: str, entry: TaskEntry) -> dict[str, Any]:
    return {
        "label": label,
        "kind": kind,
        "state": entry.state,
        "start": entry.start,
        "seconds": _seconds(entry.start, entry.end),
        "task_id": entry.task_id,
        "map_index": entry.map_index,
        "try_number": entry.try_number,
        "url": entry.url,
        "metrics": dict(entry.metrics),
        "children": [],
    }


def _parent(
    label: str, kind: str, members: Sequence[TaskEntry], children: list[dict[str, Any]]
) -> dict[str, Any]:
    states = {entry.state for entry in members}
    start = min((entry.start for entry in members if entry.start is not None), default=None)
    end = max((entry.end for entry in members if entry.end is not None), default=None)
    return {
        "label": label,
        "kind": kind,
        "state": next(
            (state for state in _STATES if state in states), min(filter(None, states), default=None)
        ),
        "start": start,
        "seconds": _seconds(start, end),
        "children": children,
    }


def _seconds(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(max(0.0, end - start), 3)
