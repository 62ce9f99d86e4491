"""
Which keys a run's history has, of which types and how often, and the latest number of each.

All this is kept while lines arrive: finding it anew for each reading of a run would parse its whole history.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wandb_airflow_provider.devserver.store import dumps, register_schema

register_schema("""
CREATE TABLE IF NOT EXISTS run_history_keys (
    run INTEGER NOT NULL REFERENCES runs (pk),
    key TEXT NOT NULL,
    type TEXT NOT NULL,
    count INTEGER NOT NULL,
    latest TEXT,
    PRIMARY KEY (run, key, type)
) WITHOUT ROWID;
""")

ABSENT = object()
_NUMBER = "number"

_Shape = tuple[tuple[str, type], ...]


def count(conn: sqlite3.Connection, run: int, rows: Iterable[Any]) -> None:
    """Add rows to the counts of a run, in the order in which they were logged."""
    counts: Counter[tuple[str, str]] = Counter()
    latest: dict[tuple[str, str], tuple[int, Any]] = {}
    # Most rows of a run are alike, so each kind of row is looked into once.
    alike: Counter[_Shape] = Counter()
    last_of: dict[_Shape, tuple[int, dict[str, Any]]] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            continue
        shape = tuple([(key, value.__class__) for key, value in row.items()])
        if any(kind is dict for _, kind in shape):
            for key, value in _leaves(row):
                found = key, _TYPES[value.__class__]
                counts[found] += 1
                latest[found] = number, value
        else:
            alike[shape] += 1
            last_of[shape] = number, row
    for shape, (number, row) in last_of.items():
        for key, kind in shape:
            found = key, _TYPES[kind]
            counts[found] += alike[shape]
            latest[found] = max(latest.get(found, (-1, None)), (number, row[key]), key=_place)
    conn.executemany(
        "INSERT INTO run_history_keys VALUES (?, ?, ?, ?, ?) ON CONFLICT (run, key, type)"
        " DO UPDATE SET count = count + excluded.count, latest = excluded.latest",
        [
            (run, key, kind, times, dumps(latest[key, kind][1]) if kind == _NUMBER else None)
            for (key, kind), times in counts.items()
        ],
    )


def recount(conn: sqlite3.Connection, run: int, lines: Iterable[str]) -> None:
    """Replace the counts of a run by those of some lines, given as JSON text."""
    conn.execute("DELETE FROM run_history_keys WHERE run = ?", (run,))
    count(conn, run, map(json.loads, lines))


def read(conn: sqlite3.Connection, run: int) -> dict[str, Any]:
    """Return the counts and latest numbers of a run, by key, as the API tells them."""
    keys: dict[str, Any] = {}
    rows = conn.execute("SELECT * FROM run_history_keys WHERE run = ? ORDER BY key, type", (run,))
    for row in rows:
        told = keys.setdefault(row["key"], {"typeCounts": []})
        told["typeCounts"].append({"type": row["type"], "count": row["count"]})
        if row["latest"] is not None:
            told["previousValue"] = json.loads(row["latest"])
    return keys


def value_at(row: Mapping[str, Any], key: str) -> Any:
    """Return the value of a row under a key, or under the steps of a dotted key; else ``ABSENT``."""
    if key in row:
        return row[key]
    head, _, rest = key.partition(".")
    inner = row.get(head) if rest else None
    return value_at(inner, rest) if isinstance(inner, Mapping) else ABSENT


def _leaves(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        # A mapping with a type is one value: an image, a table.
        if isinstance(value, dict) and value and "_type" not in value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _place(found: tuple[int, Any]) -> int:
    return found[0]


# Of the values that JSON text can have.
_TYPES: dict[type, str] = {
    type(None): "nil",
    bool: "boolean",
    int: _NUMBER,
    float: _NUMBER,
    str: "string",
    list: "list",
    dict: "map",
}
