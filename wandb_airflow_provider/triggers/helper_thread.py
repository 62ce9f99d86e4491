"""A thread beside the event loop for calls that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["HelperThread"]

T = TypeVar("T")


class HelperThread(Executor):
    """
    Makes blocking calls one after the other, for one event loop.

    Not the loop's own pool of threads: W&B being slow must not keep other triggers from it. A daemon: the process
    can end while W&B does not answer.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._asked: set[asyncio.Future[Any]] = set()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """
        Return what the function returns, or raise what it raises.

        A call whose turn has not come when nobody waits for it any more is not made.
        """
        from asgiref.sync import sync_to_async

        wanted = True

        def work() -> T:
            if not wanted:
                raise RuntimeError("Nobody waits for it any more.")
            try:
                return function(*arguments)
            except Exception:
                raise
            except BaseException as error:
                # wandb raises SystemExit when its helper process ends badly: on the loop it would end the triggerer.
                raise RuntimeError(f"{type(error).__name__}: {error}") from error

        # Airflow 3.1 asks its supervisor, for a connection, on the loop that this remembers; from another thread it
        # would start a loop of its own, and two that read the answers of one socket end the triggerer.
        asked = asyncio.ensure_future(sync_to_async(work, thread_sensitive=False, executor=self)())  # type: ignore[call-overload]
        self._asked.add(asked)
        asked.add_done_callback(self._heard)
        # Whoever waits may be cancelled; an answer that nobody read would be taken for that to the next question.
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            wanted = False
            raise

    def _heard(self, asked: asyncio.Future[Any]) -> None:
        self._asked.discard(asked)
        if not asked.cancelled():
            # Where nobody waits any more, asyncio would report an error as never retrieved.
            asked.exception()

    def submit(self, function: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        """Have the thread make a call."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*arguments, **named))
            except BaseException as error:
                future.set_exception(error)

        self._work.put(work)
        return future

    def end(self, last: Callable[[], None]) -> None:
        """Return at once; the thread makes the calls that wait, then this one, and ends."""
        self._work.put(last)
        self._work.put(None)

    async def ended(self, seconds: float) -> None:
        """Wait until the thread has ended, and no longer than this."""
        await asyncio.to_thread(self._thread.join, seconds)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
