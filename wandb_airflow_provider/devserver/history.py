"""
What a run has streamed: history, system events and console lines, each line under its offset.

A run's own lines count from offset 0; what it has inherited from a run that it was forked from is below 0. Reading
samples evenly, keeps the last line, and gives the same answer each time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeGuard, TypeVar

from wandb_airflow_provider.devserver import history_keys
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.json_text import encodable, has_surrogates, parse_object, stored_text
from wandb_airflow_provider.devserver.store import dumps, register_schema

HISTORY = "history"
EVENTS = "events"
OUTPUT = "output"
_LARGEST_STEP = 2**63 - 1

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
CREATE TABLE IF NOT EXISTS run_writers (
    run INTEGER NOT NULL REFERENCES runs (pk),
    stream TEXT NOT NULL,
    writer TEXT NOT NULL,
    received INTEGER NOT NULL,
    PRIMARY KEY (run, stream, writer)
) WITHOUT ROWID;
""")

Item = TypeVar("Item")


def write_lines(
    conn: sqlite3.Connection,
    run: int,
    stream: str,
    offset: int,
    lines: Sequence[str],
    writer: str | None = None,
) -> None:
    """
    Store lines from an offset on.

    The same lines again change nothing. Other lines at offset 0 mean a new writer that started over, so the whole
    stream is replaced.

    :param writer: Which of several processes that write to one run at the same time this is. Each counts its own
        offsets; their lines are kept in the order in which they arrive.
    :raises GraphQLError: a line of history or of events is not JSON.
    """
    known = line_count(conn, run, stream)
    if writer is not None:
        offset, lines = _after_others(conn, run, stream, offset, lines, writer, known)
    if not lines:
        return
    values = [_parsed(stream, offset + position, line) for position, line in enumerate(lines)]
    if stream == HISTORY and writer is not None:
        lines = _numbered(lines, values, last_step(conn, run))
    rows = [
        _row(run, stream, offset + position, line, value)
        for position, (line, value) in enumerate(zip(lines, values, strict=True))
    ]
    if offset == 0 and known and stream != OUTPUT and _first(conn, run, stream) != rows[0][4]:
        conn.execute("DELETE FROM run_lines WHERE run = ? AND stream = ? AND offset >= 0", (run, stream))
        known = 0
        if stream == HISTORY:
            history_keys.recount(conn, run, read_history(conn, run))
    conn.executemany("INSERT OR REPLACE INTO run_lines VALUES (?, ?, ?, ?, ?)", rows)
    if stream == HISTORY:
        history_keys.count(conn, run, values[max(known - offset, 0) :])


def _after_others(
    conn: sqlite3.Connection,
    run: int,
    stream: str,
    offset: int,
    lines: Sequence[str],
    writer: str,
    known: int,
) -> tuple[int, Sequence[str]]:
    """Return where lines of one of several writers go, and those of them that are new."""
    row = conn.execute(
        "SELECT received FROM run_writers WHERE run = ? AND stream = ? AND writer = ?", (run, stream, writer)
    ).fetchone()
    received = 0 if row is None else int(row["received"])
    new = lines[max(received - offset, 0) :]
    conn.execute(
        "INSERT OR REPLACE INTO run_writers VALUES (?, ?, ?, ?)",
        (run, stream, writer, max(received, offset + len(lines))),
    )
    return known, new


def has_writers(conn: sqlite3.Connection, run: int) -> bool:
    """Tell whether several processes may have written to a run at the same time."""
    return conn.execute("SELECT 1 FROM run_writers WHERE run = ? LIMIT 1", (run,)).fetchone() is not None


def delete_lines(conn: sqlite3.Connection, run: int) -> None:
    """Delete all that a run has streamed."""
    conn.execute("DELETE FROM run_lines WHERE run = ?", (run,))
    conn.execute("DELETE FROM run_writers WHERE run = ?", (run,))
    history_keys.recount(conn, run, [])


def copy_history(conn: sqlite3.Connection, source: int, run: int, last_step: int) -> None:
    """Give a run the history of another one up to a step, inclusive, before its own lines."""
    conn.execute(
        "INSERT INTO run_lines SELECT ?, stream, row_number() OVER (ORDER BY step DESC, offset DESC) * -1, step, text"
        " FROM run_lines WHERE run = ? AND stream = ? AND step <= ?",
        (run, source, HISTORY, last_step),
    )
    history_keys.recount(conn, run, read_history(conn, run))


def cut_history(conn: sqlite3.Connection, run: int, last_step: int) -> dict[str, Any]:
    """Delete the history after a step and return the summary as it was there: the last value of each key."""
    conn.execute("DELETE FROM run_lines WHERE run = ? AND stream = ? AND step > ?", (run, HISTORY, last_step))
    texts = read_history(conn, run)
    history_keys.recount(conn, run, texts)
    summary: dict[str, Any] = {}
    for text in texts:
        summary |= json.loads(text)
    return summary


def last_step(conn: sqlite3.Connection, run: int) -> int:
    """Return the last step of a run's history; -1 if it has none."""
    step = conn.execute(
        "SELECT max(step) FROM run_lines WHERE run = ? AND stream = ?", (run, HISTORY)
    ).fetchone()[0]
    return -1 if step is None else int(step)


def line_count(conn: sqlite3.Connection, run: int, stream: str) -> int:
    """Return how many lines of its own a stream has: where the next one goes."""
    last = conn.execute(
        "SELECT max(offset) FROM run_lines WHERE run = ? AND stream = ?", (run, stream)
    ).fetchone()[0]
    return 0 if last is None else max(int(last) + 1, 0)


def read_lines(
    conn: sqlite3.Connection, run: int, stream: str, start: int = 0, limit: int = -1
) -> list[tuple[int, str]]:
    """Return lines with their offsets from an offset on, in order; all of them if ``limit`` is -1."""
    rows = conn.execute(
        "SELECT offset, text FROM run_lines WHERE run = ? AND stream = ? AND offset >= ? ORDER BY offset LIMIT ?",
        (run, stream, start, limit),
    )
    return [(row["offset"], row["text"]) for row in rows]


def stored_lines(conn: sqlite3.Connection, run: int, stream: str) -> int:
    """Return how many lines of a stream are here; lines that never arrived are not counted."""
    query = "SELECT count(*) FROM run_lines WHERE run = ? AND stream = ?"
    return int(conn.execute(query, (run, stream)).fetchone()[0])


def walk_lines(conn: sqlite3.Connection, run: int, stream: str) -> Iterator[str]:
    """Yield the lines of a stream in order, never all in memory; use it before the connection is given back."""
    query = "SELECT text FROM run_lines WHERE run = ? AND stream = ? ORDER BY offset"
    return (row["text"] for row in conn.execute(query, (run, stream)))


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
    condition, params, order = "run = ? AND stream = ?", [run, stream], "offset"
    if min_step is not None:
        condition += " AND step >= ?"
        params.append(min_step)
    if max_step is not None:
        condition += " AND step < ?"
        params.append(max_step)
    if len(params) > 2:
        # The order of the index: by offset, each page of a scan would walk through all lines.
        order = "step, offset"
    rows = conn.execute(f"SELECT text FROM run_lines WHERE {condition} ORDER BY {order}", params)  # noqa: S608
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
    Return the rows that have all of ``keys``, with only these; ``a.b`` also reaches into a logged mapping ``a``.

    :param max_step: Last step, **inclusive**, unlike in :func:`read_history`.
    """
    wanted = list(dict.fromkeys(keys))
    stop = None if max_step is None else max_step + 1
    found = []
    for text in read_history(conn, run, min_step, stop):
        row = json.loads(text)
        values = {key: history_keys.value_at(row, key) for key in wanted}
        if history_keys.ABSENT not in values.values():
            found.append(values)
    return spread(found, samples)


def spread(items: list[Item], samples: int | None) -> list[Item]:
    """Return at most ``samples`` of the items, spread evenly from the first to the last."""
    if samples is None or samples <= 0 or len(items) <= samples:
        return items
    if samples == 1:
        return items[-1:]
    scale = (len(items) - 1) / (samples - 1)
    return [items[round(position * scale)] for position in range(samples)]


def _first(conn: sqlite3.Connection, run: int, stream: str) -> str | None:
    row = conn.execute(
        "SELECT text FROM run_lines WHERE run = ? AND stream = ? AND offset = 0", (run, stream)
    ).fetchone()
    return None if row is None else row["text"]


def _parsed(stream: str, offset: int, line: str) -> Any:
    if stream == OUTPUT:
        return None
    what = f"line {offset} of the {stream} of a run"
    value = parse_object(what, line)
    if has_surrogates(line):
        value = json.loads(encodable(dumps(value)))
    step = value.get("_step")
    if step is not None and not is_step(step):
        raise GraphQLError(
            f"{what} has the _step {str(step)[:80]!r}: a step is a whole number of at most 64 bits."
        )
    return value


def is_step(value: Any) -> TypeGuard[int | float]:
    """Tell whether a JSON value can number a line of history."""
    return isinstance(value, int | float) and -_LARGEST_STEP <= value <= _LARGEST_STEP


def _numbered(lines: Sequence[str], values: Sequence[Any], last: int) -> list[str]:
    """Give rows without a step the next one: one of several writers cannot know it, and wandb 0.30 leaves it out."""
    numbered = []
    for line, value in zip(lines, values, strict=True):
        if "_step" not in value:
            value["_step"] = last + 1
            line = json.dumps(value, separators=(",", ":"))
        if value["_step"] is not None:
            last = max(last, int(value["_step"]))
        numbered.append(line)
    return numbered


def _row(run: int, stream: str, offset: int, line: str, value: Any) -> tuple[int, str, int, int | None, str]:
    if value is None:
        return run, stream, offset, None, line
    if "NaN" in line or "Infinity" in line or has_surrogates(line):
        line = stored_text(value)
    step = value.get("_step")
    return run, stream, offset, None if step is None else int(step), line
