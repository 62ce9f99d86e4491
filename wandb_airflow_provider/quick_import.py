"""Importing a large package in a task's process, without the detours that take most of the time there. Pure."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["quick_import"]


@contextmanager
def quick_import() -> Iterator[None]:
    """
    Import much at once, among all that Airflow has imported already.

    Does not look for garbage on the way, of which there is none. And pydantic, which collects the docstrings of each
    model's fields, asks for the module of many frames of the stack: Python's ``inspect`` looks through all modules for
    the file of each, where the frame itself knows its module's name.
    """
    collected, plain = gc.isenabled(), inspect.getmodule
    module_of = _frames_first(plain)
    gc.disable()
    inspect.getmodule = module_of
    try:
        yield
    finally:
        # Another thread may have begun to import later and not ended yet; it puts back what it found.
        if inspect.getmodule is module_of:
            inspect.getmodule = plain
        if collected:
            gc.enable()


def _frames_first(plain: Callable[..., Any]) -> Callable[..., Any]:
    def module_of(object: Any, _filename: str | None = None) -> Any:
        if isinstance(object, FrameType):
            found = sys.modules.get(object.f_globals.get("__name__", ""))
            if found is not None:
                return found
        return plain(object, _filename)

    return module_of
