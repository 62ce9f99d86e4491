"""The lock on a data folder: one dev server at a time works with what is in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_NAME = "devserver.lock"


class FolderInUseError(RuntimeError):
    """Another dev server works with the same data."""


class FolderLock:
    """
    Keeps other servers, of this process or another one, off a data folder until it is released.

    It ends with the process, however that ends: the file that stays behind locks nothing.

    :param folder: Created if it does not exist.
    :raises FolderInUseError: another server holds it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise FolderInUseError(
                f"another dev server is running on the data in {str(folder)!r}: stop it, or choose another folder."
            ) from None
        self._descriptor: int | None = descriptor
        _HELD.add(self)

    def release(self) -> None:
        """Let others have the folder; in a process that was forked from the server's, do nothing."""
        _HELD.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_HELD: set[FolderLock] = set()


def _forget_in_child() -> None:
    # A child that outlives its parent would go on holding the folder.
    for lock in list(_HELD):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
