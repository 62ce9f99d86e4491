"""Ask until the answer is there, or the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from wandb_airflow_provider.demo.errors import WaitTimeoutError

__all__ = ["wait_for"]

T = TypeVar("T")


def wait_for(
    what: str,
    probe: Callable[[], T | None],
    *,
    timeout: float,
    interval: float = 0.25,
    check: Callable[[], None] | None = None,
) -> T:
    """
    Call ``probe`` until it returns something other than None, and return that.

    :param what: What is being waited for, as the error says it.
    :param timeout: Seconds.
    :param interval: Seconds between two calls.
    :param check: Called before each probe; raises when waiting has become pointless.
    :raises WaitTimeoutError: nothing came in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        if check is not None:
            check()
        if (answer := probe()) is not None:
            return answer
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"Waited {timeout:.0f} s in vain for {what}.")
        time.sleep(interval)
