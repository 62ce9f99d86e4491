"""How far each automation has read the streams of each run, and the latest values of its metric there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from wandb_airflow_provider.devserver.automations import conditions, metrics, scopes
from wandb_airflow_provider.devserver.automations.schema import METRIC_EVENTS
from wandb_airflow_provider.devserver.history import EVENTS, HISTORY, line_count, read_lines
from wandb_airflow_provider.devserver.store import dumps

STREAMS = (HISTORY, EVENTS)

ReadRows = Callable[[str, int], list[tuple[int, Any]]]
"""Returns the rows of a stream of one run, with their offsets, from an offset on."""

Position = tuple[str, int, list[float]]
"""A stream, the offset from which it is still to be read, and the latest values of the metric before that."""


def start(conn: sqlite3.Connection, automation: sqlite3.Row) -> None:
    """Make an automation watch from now on: of what runs have logged so far it sees the windows only."""
    conn.execute("DELETE FROM automation_windows WHERE automation = ?", (automation["pk"],))
    if automation["event_type"] not in METRIC_EVENTS:
        return
    for run in _runs(conn, automation["scope_type"], automation["scope_key"]):
        for stream in STREAMS:
            count = line_count(conn, run, stream)
            if count:
                save(conn, automation["pk"], run, stream, count, None)


def evaluate(
    conn: sqlite3.Connection, automation: sqlite3.Row, run: int, read: ReadRows
) -> tuple[bool, list[Position]]:
    """
    Return whether the condition of an automation held for any new value, and how far each stream has been read.

    Writes nothing: :func:`save` takes what is returned.
    """
    condition = conditions.metric(automation["event_filter"])
    fired = False
    positions: list[Position] = []
    for stream in STREAMS:
        row = conn.execute(
            "SELECT * FROM automation_windows WHERE automation = ? AND run = ? AND stream = ?",
            (automation["pk"], run, stream),
        ).fetchone()
        position = 0 if row is None else row["next_offset"]
        if position > line_count(conn, run, stream):
            # The run was started over, and its lines with it.
            position, row = 0, None
        recent = _recent(condition, row, stream, position, read)
        rows = read(stream, position)
        for _, values in rows:
            value = _value(values, condition.name, stream)
            if value is not None and metrics.fires(condition, recent, value):
                fired = True
        if rows:
            positions.append((stream, rows[-1][0] + 1, recent))
    return fired, positions


def save(
    conn: sqlite3.Connection,
    automation: int,
    run: int,
    stream: str,
    next_offset: int,
    recent: list[float] | None,
) -> None:
    """Store how far a stream has been read; ``recent`` is None if its latest values are still to be looked up."""
    text = None if recent is None else dumps(recent)
    conn.execute(
        "INSERT OR REPLACE INTO automation_windows VALUES (?, ?, ?, ?, ?)",
        (automation, run, stream, next_offset, text),
    )


def reader(conn: sqlite3.Connection, run: int) -> ReadRows:
    """Return a function that reads the streams of a run, once however many automations watch it."""
    known: dict[tuple[str, int], list[tuple[int, Any]]] = {}

    def read(stream: str, offset: int) -> list[tuple[int, Any]]:
        if (stream, offset) not in known:
            lines = read_lines(conn, run, stream, offset)
            known[stream, offset] = [(number, json.loads(text)) for number, text in lines]
        return known[stream, offset]

    return read


def _recent(
    condition: metrics.MetricCondition, row: sqlite3.Row | None, stream: str, position: int, read: ReadRows
) -> list[float]:
    if row is None:
        return []
    if row["recent"] is not None:
        stored: list[float] = json.loads(row["recent"])
        return stored
    before = (
        _value(values, condition.name, stream) for offset, values in read(stream, 0) if offset < position
    )
    return [value for value in before if value is not None][-condition.needed :]


def _value(row: Any, name: str, stream: str) -> float | None:
    """Return the number that a line has for a metric, which may be nested; system metrics go without their prefix."""
    value = _lookup(row, name)
    if value is None and stream == EVENTS:
        value = _lookup(row, f"system.{name}")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _lookup(row: Any, name: str) -> Any:
    if isinstance(row, Mapping) and name in row:
        return row[name]
    for part in name.split("."):
        if not isinstance(row, Mapping):
            return None
        row = row.get(part)
    return row


def _runs(conn: sqlite3.Connection, scope_type: str, key: str) -> list[int]:
    condition = {
        scopes.PROJECT: "p.internal_id = CAST(? AS INTEGER)",
        scopes.ENTITY: "? IN (p.entity, (SELECT organization FROM entities WHERE name = p.entity))",
    }.get(scope_type, "0 = ?")
    rows = conn.execute(
        f"SELECT r.pk FROM runs r JOIN projects p ON p.entity = r.entity AND p.name = r.project WHERE {condition}",  # noqa: S608
        (key,),
    )
    return [row["pk"] for row in rows]
