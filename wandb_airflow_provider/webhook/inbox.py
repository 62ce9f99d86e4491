"""The notices that wait to be looked into: few, each once, and tried again while W&B or the database is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from wandb_airflow_provider.exceptions import WandbPermanentError
from wandb_airflow_provider.watching.notice import Key, Notice

__all__ = ["SPACING_SECONDS", "Inbox", "InboxFullError"]

log = logging.getLogger(__name__)

SPACING_SECONDS = 1.0
"""How often an alias is looked into at most."""
_FIRST_PAUSE_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 60.0
_ATTEMPTS = 10


class InboxFullError(Exception):
    """No further notice can wait."""


@dataclass
class _Waiting:
    notice: Notice
    due: float
    attempts: int = 0
    result: Future[str] = field(default_factory=Future)


class Inbox:
    """
    Notices, handled one after the other by a thread of its own.

    A notice about an alias that already waits joins it; the same alias is looked into at most once a second, so that a
    captured request that is sent again and again costs W&B next to nothing.

    :param handle: Handles a notice and says what came of it.
    :param limit: Most notices that wait.
    """

    def __init__(self, handle: Callable[[Notice], str], limit: int) -> None:
        self._handle = handle
        self._limit = limit
        self._waiting: dict[Key, _Waiting] = {}
        self._started: dict[Key, float] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, notice: Notice) -> Future[str]:
        """
        Have a notice handled.

        :return: What comes of it: what ``handle`` returns, or ``failed``.
        :raises InboxFullError: as many as may wait do.
        """
        key = notice.key
        with self._changed:
            now = time.monotonic()
            waiting = self._waiting.get(key)
            if waiting is None:
                if len(self._waiting) >= self._limit:
                    raise InboxFullError
                self._started = {k: at for k, at in self._started.items() if at + SPACING_SECONDS > now}
                due = max(now, self._started.get(key, now - SPACING_SECONDS) + SPACING_SECONDS)
                waiting = self._waiting[key] = _Waiting(notice, due)
            else:
                waiting.notice = notice
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wandb-webhooks", daemon=True)
                self._thread.start()
            self._changed.notify()
            return waiting.result

    def waits(self, notice: Notice) -> bool:
        """Return whether a notice about the same alias waits, which this one would join."""
        with self._changed:
            return notice.key in self._waiting

    def close(self) -> None:
        """End the thread; what still waits is left to pollers."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(5.0)

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            key, waiting = taken
            try:
                outcome = self._handle(waiting.notice)
            except WandbPermanentError as error:
                log.error("The webhook about %s cannot be followed up: %s", waiting.notice, error)
                outcome = "failed"
            except Exception as error:
                if self._again(key, waiting, error):
                    continue
                outcome = "failed"
            waiting.result.set_result(outcome)

    def _take(self) -> tuple[Key, _Waiting] | None:
        """Wait for the notice that is due first, and take it out; None when the inbox is closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                key = min(self._waiting, key=lambda key: self._waiting[key].due, default=None)
                if key is not None and self._waiting[key].due <= now:
                    self._started[key] = now
                    return key, self._waiting.pop(key)
                self._changed.wait(None if key is None else self._waiting[key].due - now)
            return None

    def _again(self, key: Key, waiting: _Waiting, error: Exception) -> bool:
        """Have a notice wait for another attempt, unless it had enough of them."""
        waiting.attempts += 1
        what = f"{type(error).__name__}: {error}"
        if waiting.attempts >= _ATTEMPTS:
            log.error(
                "The webhook about %s is given up after %d attempts; a poller will report the change. %s",
                waiting.notice,
                waiting.attempts,
                what,
            )
            return False
        pause = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** (waiting.attempts - 1))
        log.warning(
            "The webhook about %s could not be followed up yet, and is tried again in %.0f s. %s",
            waiting.notice,
            pause,
            what,
        )
        with self._changed:
            newer = self._waiting.get(key)
            if newer is None:
                waiting.due = time.monotonic() + pause
                self._waiting[key] = waiting
            else:
                newer.result.add_done_callback(lambda done: waiting.result.set_result(done.result()))
        return True
