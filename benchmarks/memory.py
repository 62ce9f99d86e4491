"""How much memory a process takes while something else happens."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

_SECONDS_BETWEEN = 0.02


class MemoryGrowth:
    """
    A block during which the resident memory of a process is looked at 50 times a second.

    :param pid: The process, which must not end before the block.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._before = self._peak = 0

    @property
    def peak_bytes(self) -> int:
        """The largest memory that was seen, less what it was at the start of the block."""
        return self._peak - self._before

    def __enter__(self) -> MemoryGrowth:
        self._before = self._peak = self._process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN):
            self._peak = max(self._peak, self._process.memory_info().rss)
