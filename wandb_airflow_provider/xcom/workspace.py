"""Folders on this worker for values on their way: kept while the process of the task lives."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

__all__ = ["lasting_folder", "passing_folder"]

_PREFIX = "wandb-xcom-"
_roots: dict[int, Path] = {}


@contextmanager
def passing_folder() -> Iterator[Path]:
    """Give a folder for the length of the block."""
    folder = lasting_folder()
    try:
        yield folder
    finally:
        discard(folder)


def lasting_folder() -> Path:
    """
    Return a new folder that is there until the process ends.

    A task process may end without any clean-up of its own; the next one on this worker then removes what it left.
    """
    return Path(tempfile.mkdtemp(dir=_root()))


def discard(folder: Path) -> None:
    """Remove a folder, whatever its permissions have become."""
    for path, _, _ in os.walk(folder):
        with suppress(OSError):
            Path(path).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _root() -> Path:
    pid = os.getpid()
    if pid not in _roots or not _roots[pid].is_dir():
        _remove_abandoned()
        _roots[pid] = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{pid}-"))
        atexit.register(_remove_own, pid)
    return _roots[pid]


def _remove_own(pid: int) -> None:
    if os.getpid() == pid:
        discard(_roots[pid])


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(OSError):
            status = folder.lstat()
            if pid.isdecimal() and status.st_uid == os.getuid() and not psutil.pid_exists(int(pid)):
                discard(folder)
