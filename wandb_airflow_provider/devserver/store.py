"""
The database: SQLite in WAL mode, one connection per request under way, one writer at a time.

Modules contribute tables with :func:`register_schema` and first rows with :func:`register_seed` when they are
imported; a :class:`Store` creates them when it opens. An acknowledged write survives the death of the process.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

SCHEMAS: list[str] = []
SEEDS: list[Callable[[sqlite3.Connection, str], None]] = []
FUNCTIONS: list[tuple[str, int, Callable[..., Any]]] = []
# Which generation of the data the request under way began with; None outside requests.
GENERATION: ContextVar[int | None] = ContextVar("generation", default=None)

_CORE_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def register_schema(sql: str) -> None:
    """Add ``CREATE ... IF NOT EXISTS`` statements that every database must have."""
    SCHEMAS.append(sql)


def register_seed(
    seed: Callable[[sqlite3.Connection, str], None],
) -> Callable[[sqlite3.Connection, str], None]:
    """
    Add a function ``seed(conn, now)`` that puts the first rows in; ``now`` is an ISO timestamp.

    It runs inside a write transaction at each start and after each reset, so it must tolerate its own rows.
    """
    SEEDS.append(seed)
    return seed


def register_function(name: str, arguments: int, function: Callable[..., Any]) -> None:
    """Make a deterministic Python function callable from SQL."""
    FUNCTIONS.append((name, arguments, function))


class StoreVersionError(RuntimeError):
    """The database has tables of another version."""


class LateRequestError(GraphQLError):
    """A request from before a reset: nothing that it writes may be in the data after it."""

    def __init__(self, status: int = 404) -> None:
        super().__init__(
            "the dev server has been reset since this client started: its runs, its key and its URLs are gone.",
            status,
        )


class Store:
    """
    All rows of one dev server.

    :param path: The database file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._write_lock = threading.RLock()
        self._idle: list[sqlite3.Connection] = []
        self.generation = 0
        with self.read() as connection:
            connection.executescript(_CORE_SCHEMA)
            self._check_schema()
            for schema in SCHEMAS:
                connection.executescript(schema)
        self.generation = int(self.get_meta("generation") or 0)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """
        Yield a connection that this thread has to itself until the end.

        Nested calls in one thread get the same one, so that inside :meth:`write` they see its changes.
        """
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            yield connection
            return
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        self._local.connection = connection
        try:
            yield connection
        finally:
            self._local.connection = None
            self._idle.append(connection)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """
        Make all reads of this thread, until the end, see the data as it is at the first of them.

        Without it, an answer put together by several reads can tell of an alias that moves meanwhile twice or never.
        A write ends the snapshot, so that it works on the newest data.
        """
        with self.read() as connection:
            if connection.in_transaction:
                yield
                return
            connection.execute("BEGIN")
            self._local.snapshot = True
            try:
                yield
            finally:
                if self._local.snapshot:
                    self._local.snapshot = False
                    connection.execute("COMMIT")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """
        Yield a connection inside a transaction: committed at the end, rolled back on an error.

        Nested calls in one thread join the outermost transaction.

        :raises LateRequestError: the request under way began before the data was cleared.
        """
        with self._write_lock, self.read() as connection:
            if GENERATION.get() not in (None, self.generation):
                raise LateRequestError
            if getattr(self._local, "snapshot", False):
                self._local.snapshot = False
                connection.execute("COMMIT")
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _check_schema(self) -> None:
        current = hashlib.sha256("".join(sorted(SCHEMAS)).encode()).hexdigest()
        if self.get_meta("schema") not in (None, current):
            raise StoreVersionError(
                f"the data in {str(self.path.parent)!r} was written by another version of the dev server. Delete that"
                " folder, or choose another one."
            )
        self.set_meta("schema", current)

    def seed(self, now: str) -> None:
        """Put the first rows in."""
        with self.write() as connection:
            for seed in SEEDS:
                seed(connection, now)

    def clear(self) -> None:
        """Delete the rows of every table except ``meta``, and refuse what requests from before still write."""
        with self.write() as connection:
            tables = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'meta'"
            ).fetchall()
            connection.execute("PRAGMA defer_foreign_keys = ON")
            for (name,) in tables:
                connection.execute(f'DELETE FROM "{name}"')  # noqa: S608 - names come from sqlite_master
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
                connection.execute("DELETE FROM sqlite_sequence")
            self.set_meta("generation", str(self.generation + 1))
            self.generation += 1

    def get_meta(self, key: str) -> str | None:
        """Return a value that belongs to the whole server, or None."""
        with self.read() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row["value"])

    def set_meta(self, key: str, value: str) -> None:
        """Store a value that belongs to the whole server."""
        with self.write() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def close(self) -> None:
        """Close the connections; call it when no request is under way."""
        while self._idle:
            self._idle.pop().close()

    def _connect(self) -> sqlite3.Connection:
        # Whichever thread asks next uses a connection, but never two at a time.
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30.0)
        connection.row_factory = sqlite3.Row
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "foreign_keys = ON",
            "cache_size = -16000",
        ):
            connection.execute(f"PRAGMA {pragma}")
        for name, arguments, function in FUNCTIONS:
            connection.create_function(name, arguments, function, deterministic=True)
        return connection


def dumps(value: Any) -> str:
    """Return compact JSON text."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def loads(text: str | None) -> Any:
    """Return the value of JSON text; None for None."""
    return None if text is None else json.loads(text)
