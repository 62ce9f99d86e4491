"""
Which keys a run's history has, of which types and how often.

The counts are kept while lines arrive: counting them anew for each reading of a run would parse its whole history.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wandb_airflow_provider.devserver.store import register_schema

register_schema("""
CREATE TABLE IF NOT EXISTS run_history_keys (
    run INTEGER NOT NULL REFERENCES runs (pk),
    key TEXT NOT NULL,
    type TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (run, key, type)
) WITHOUT ROWID;
""")

ABSENT = object()


def count(conn: sqlite3.Connection, run: int, rows: Iterable[Any]) -> None:
    """Add rows to the counts of a run."""
    counts: Counter[tuple[str, str]] = Counter()
    # Most rows of a run are alike, so each kind of row is looked into once.
    alike: Counter[tuple[tuple[str, type], ...]] = Counter()
    for row in rows:
        if not isinstance(row, dict):
            continue
        shape = tuple([(key, value.__class__) for key, value in row.items()])
        if any(kind is dict for _, kind in shape):
            counts.update(_keys(row))
        else:
            alike[shape] += 1
    for shape, number in alike.items():
        for key, kind in shape:
            counts[key, _TYPES[kind]] += number
    conn.executemany(
        "INSERT INTO run_history_keys VALUES (?, ?, ?, ?)"
        " ON CONFLICT (run, key, type) DO UPDATE SET count = count + excluded.count",
        [(run, key, kind, number) for (key, kind), number in counts.items()],
    )


def recount(conn: sqlite3.Connection, run: int, lines: Iterable[str]) -> None:
    """Replace the counts of a run by those of some lines, given as JSON text."""
    conn.execute("DELETE FROM run_history_keys WHERE run = ?", (run,))
    count(conn, run, map(json.loads, lines))


def read(conn: sqlite3.Connection, run: int) -> dict[str, Any]:
    """Return the counts of a run, by key, as the API tells them."""
    keys: dict[str, Any] = {}
    rows = conn.execute("SELECT * FROM run_history_keys WHERE run = ? ORDER BY key, type", (run,))
    for row in rows:
        counts = keys.setdefault(row["key"], {"typeCounts": []})["typeCounts"]
        counts.append({"type": row["type"], "count": row["count"]})
    return keys


def value_at(row: Mapping[str, Any], key: str) -> Any:
    """Return the value of a row under a key, or under the steps of a dotted key; else ``ABSENT``."""
    if key in row:
        return row[key]
    head, _, rest = key.partition(".")
    inner = row.get(head) if rest else None
    return value_at(inner, rest) if isinstance(inner, Mapping) else ABSENT


def _keys(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in row.items():
        # A mapping with a type is one value: an image, a table.
        if isinstance(value, dict) and value and "_type" not in value:
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _TYPES[value.__class__]


# Of the values that JSON text can have.
_TYPES: dict[type, str] = {
    type(None): "nil",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "list",
    dict: "map",
}
