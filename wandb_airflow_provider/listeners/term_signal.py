"""What to do when Airflow asks a task process to end, besides what Airflow does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["TermSignal"]


class TermSignal:
    """
    Calls back on SIGTERM, beside the handler that it finds: Airflow's, which calls the task's ``on_kill``.

    No listener is told of a task that is killed: ``execute`` is not interrupted, and SIGKILL follows in 5 seconds.

    :param received: Called in a thread of its own, so that neither waits for the other.
    :param seconds: Longest time that the signal's handler waits for it.
    """

    def __init__(self, received: Callable[[], None], seconds: float) -> None:
        self._received = received
        self._seconds = seconds
        self._pid = os.getpid()
        self._previous: Any = None
        # One object: each access to a bound method makes another.
        self._handler = self._handle

    def watch(self) -> None:
        """Handle the signal, where the process has a handler in Python already and this is its main thread."""
        previous = signal.getsignal(signal.SIGTERM)
        if callable(previous) and threading.current_thread() is threading.main_thread():
            self._previous = previous
            signal.signal(signal.SIGTERM, self._handler)

    def release(self) -> None:
        """Put the handler back that was found, unless somebody else has set one since."""
        if self._previous is not None and signal.getsignal(signal.SIGTERM) is self._handler:
            signal.signal(signal.SIGTERM, self._previous)
        self._previous = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous
        if os.getpid() != self._pid:
            previous(number, frame)
            return
        thread = threading.Thread(target=self._received, name="wandb-airflow-term", daemon=True)
        thread.start()
        try:
            previous(number, frame)
        finally:
            thread.join(self._seconds)
