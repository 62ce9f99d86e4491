"""What was asked for that nothing here knows."""

from __future__ import annotations

import logging
import threading
from collections import Counter

_log = logging.getLogger(__name__)


class UnknownNames:
    """Counts the fields that answered null because nothing here knows them, and the refused root fields."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fields: Counter[str] = Counter()
        self._operations: Counter[str] = Counter()

    def count_field(self, name: str) -> None:
        """Note one answer of null for ``Type.field``."""
        with self._lock:
            self._fields[name] += 1

    def count_operation(self, name: str, message: str) -> None:
        """
        Note one refused ``Operation.rootField``; the first of a name is logged.

        :param message: What it was refused with.
        """
        with self._lock:
            self._operations[name] += 1
            is_first = self._operations[name] == 1
        if is_first:
            # A name that a client made up must not begin a line of its own.
            _log.warning("%s", message.encode("unicode_escape").decode())

    def fields(self) -> dict[str, int]:
        """Return how often each unknown ``Type.field`` was asked for."""
        with self._lock:
            return dict(self._fields)

    def operations(self) -> dict[str, int]:
        """Return how often each unknown ``Operation.rootField`` was refused."""
        with self._lock:
            return dict(self._operations)

    def clear(self) -> None:
        """Forget all counts."""
        with self._lock:
            self._fields.clear()
            self._operations.clear()
