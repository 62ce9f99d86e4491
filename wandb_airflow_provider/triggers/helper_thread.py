"""A thread beside the event loop for calls that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["HelperThread"]

T = TypeVar("T")


class HelperThread:
    """
    Makes blocking calls one after the other, for one event loop.

    Not the loop's own pool of threads: W&B being slow must not keep other triggers from it. A daemon: the process
    can end while W&B does not answer.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what the function returns, or raise what it raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, failure = None, None
            try:
                result = function(*arguments)
            except Exception as error:
                failure = error
            except BaseException as error:
                # wandb raises SystemExit when its helper process ends badly: on the loop it would end the triggerer.
                failure = RuntimeError(f"{type(error).__name__}: {error}")
            # Nobody waits any more when the loop is closed.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, failure)

        self._work.put(work)
        return await future

    def end(self, last: Callable[[], None]) -> None:
        """Return at once; the thread makes the calls that wait, then this one, and ends."""
        self._work.put(last)
        self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
