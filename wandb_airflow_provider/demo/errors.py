"""What can go wrong with the demo and its processes; each message is one sentence that says what to do."""

from __future__ import annotations

__all__ = ["DemoError", "ProcessExitedError", "WaitTimeoutError"]


class DemoError(Exception):
    """The demo cannot go on. The message is for the person at the terminal."""


class ProcessExitedError(DemoError):
    """A process that should keep running has ended."""


class WaitTimeoutError(DemoError):
    """Something did not happen in the time allowed."""
