"""
What a run has streamed: history, system events and console lines, each line under its offset.

Reading samples evenly, keeps the last line, and gives the same answer each time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from wandb_airflow_provider.devserver.store import register_schema

HISTORY = "history"
EVENTS = "events"
OUTPUT = "output"

register_schema("""
CREATE TABLE IF NOT EXISTS run_lines (
    run INTEGER NOT NULL REFERENCES runs (pk),
    stream TEXT NOT NULL,
    offset INTEGER NOT NULL,
    step INTEGER,
    text TEXT NOT NULL,
    PRIMARY KEY (run, stream, offset)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS run_lines_by_step ON run_lines (run, stream, step) WHERE step IS NOT NULL;
""")

Item = TypeVar("Item")


def write_lines(conn: sqlite3.Connection, run: int, stream: str, offset: int, lines: Sequence[str]) -> None:
    """
    Store lines from an offset on.

    The same lines again change nothing. Other lines at offset 0 mean a new writer that started over, so the whole
    stream is replaced.
    """
    if not lines:
        return
    rows = [_row(run, stream, offset + position, line) for position, line in enumerate(lines)]
    if offset == 0 and stream != OUTPUT:
        first = conn.execute(
            "SELECT text FROM run_lines WHERE run = ? AND stream = ? AND offset = 0", (run, stream)
        ).fetchone()
        if first is not None and first["text"] != rows[0][4]:
            conn.execute("DELETE FROM run_lines WHERE run = ? AND stream = ?", (run, stream))
    conn.executemany("INSERT OR REPLACE INTO run_lines VALUES (?, ?, ?, ?, ?)", rows)


def delete_lines(conn: sqlite3.Connection, run: int) -> None:
    """Delete all that a run has streamed."""
    conn.execute("DELETE FROM run_lines WHERE run = ?", (run,))


def line_count(conn: sqlite3.Connection, run: int, stream: str) -> int:
    """Return how many lines a stream has: where the next one goes."""
    last = conn.execute(
        "SELECT max(offset) FROM run_lines WHERE run = ? AND stream = ?", (run, stream)
    ).fetchone()[0]
    return 0 if last is None else int(last) + 1


def read_lines(
    conn: sqlite3.Connection, run: int, stream: str, start: int = 0, limit: int = -1
) -> list[tuple[int, str]]:
    """Return lines with their offsets from an offset on, in order; all of them if ``limit`` is -1."""
    rows = conn.execute(
        "SELECT offset, text FROM run_lines WHERE run = ? AND stream = ? AND offset >= ? ORDER BY offset LIMIT ?",
        (run, stream, start, limit),
    )
    return [(row["offset"], row["text"]) for row in rows]


def tail(conn: sqlite3.Connection, run: int, stream: str, count: int = 1) -> list[str]:
    """Return the last lines of a stream, in order."""
    rows = conn.execute(
        "SELECT text FROM run_lines WHERE run = ? AND stream = ? ORDER BY offset DESC LIMIT ?",
        (run, stream, count),
    ).fetchall()
    return [row["text"] for row in reversed(rows)]


def read_history(
    conn: sqlite3.Connection,
    run: int,
    min_step: int | None = None,
    max_step: int | None = None,
    samples: int | None = None,
    stream: str = HISTORY,
) -> list[str]:
    """
    Return history lines as JSON text.

    :param min_step: First step, inclusive.
    :param max_step: Last step, **exclusive**.
    :param samples: At most so many lines, spread evenly.
    """
    condition, params = "run = ? AND stream = ?", [run, stream]
    if min_step is not None:
        condition += " AND step >= ?"
        params.append(min_step)
    if max_step is not None:
        condition += " AND step < ?"
        params.append(max_step)
    rows = conn.execute(f"SELECT text FROM run_lines WHERE {condition} ORDER BY offset", params)  # noqa: S608
    return spread([row["text"] for row in rows], samples)


def sampled_history(
    conn: sqlite3.Connection,
    run: int,
    keys: Iterable[str],
    samples: int | None = None,
    min_step: int | None = None,
    max_step: int | None = None,
) -> list[dict[str, Any]]:
    """
    Return the rows that have all of ``keys``, with only these.

    :param max_step: Last step, **inclusive**, unlike in :func:`read_history`.
    """
    wanted = list(dict.fromkeys(keys))
    stop = None if max_step is None else max_step + 1
    rows = (json.loads(text) for text in read_history(conn, run, min_step, stop))
    found = [{key: row[key] for key in wanted} for row in rows if all(key in row for key in wanted)]
    return spread(found, samples)


def history_keys(conn: sqlite3.Connection, run: int) -> dict[str, Any]:
    """Return which keys the history has, of which types and how often, and the last step."""
    keys: dict[str, Any] = {}
    for key, kind, count in conn.execute(
        "SELECT entry.key, entry.type, count(*) FROM run_lines, json_each(run_lines.text) AS entry"
        " WHERE run = ? AND stream = ? GROUP BY entry.key, entry.type ORDER BY entry.key, entry.type",
        (run, HISTORY),
    ):
        counts = keys.setdefault(key, {"typeCounts": []})["typeCounts"]
        counts.append({"type": _TYPES.get(kind, "unknown"), "count": count})
    last = conn.execute(
        "SELECT max(step) FROM run_lines WHERE run = ? AND stream = ?", (run, HISTORY)
    ).fetchone()[0]
    return {"keys": keys, "sets": [], "lastStep": -1 if last is None else last}


_TYPES = {
    "integer": "number",
    "real": "number",
    "text": "string",
    "true": "boolean",
    "false": "boolean",
    "null": "nil",
    "object": "map",
    "array": "list",
}


def spread(items: list[Item], samples: int | None) -> list[Item]:
    """Return at most ``samples`` of the items, spread evenly from the first to the last."""
    if samples is None or samples <= 0 or len(items) <= samples:
        return items
    if samples == 1:
        return items[-1:]
    scale = (len(items) - 1) / (samples - 1)
    return [items[round(position * scale)] for position in range(samples)]


def _row(run: int, stream: str, offset: int, line: str) -> tuple[int, str, int, int | None, str]:
    if stream == OUTPUT:
        return run, stream, offset, None, line
    value = json.loads(line)
    if "NaN" in line or "Infinity" in line:
        line = json.dumps(portable(value), separators=(",", ":"))
    step = value.get("_step") if isinstance(value, dict) else None
    return run, stream, offset, int(step) if isinstance(step, int | float) else None, line


def portable(value: Any) -> Any:
    """Return a JSON value with NaN and the infinities as the text that W&B gives for them."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if isinstance(value, float):
        if value != value:
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
    return value
