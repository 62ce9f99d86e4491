"""What a codec is: a value as files of a safe format, and back."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from wandb_airflow_provider.xcom.settings import Limits

__all__ = ["Codec", "Staged", "is_exactly", "type_name"]


class Staged(NamedTuple):
    """
    A value as files.

    :param root: The folder they are in.
    :param files: Their paths below it.
    :param folders: All folders below it.
    :param meta: What it takes beside them; JSON.
    """

    root: Path
    files: list[str]
    folders: list[str]
    meta: Mapping[str, Any]


class Codec(ABC):
    """
    Writes values of some types to files, and reads them back.

    Register one of your own under the entry-point group ``wandb_airflow_provider.xcom_codecs``; the entry point names
    the class, which is called without arguments. What :meth:`read` is given may come from someone else: it must not run
    code that the files name, and must not unpack more than ``limits`` allows.

    :cvar name: Stored with each value; lower-case letters, digits, ``_``, ``-`` and ``.``. Never change it.
    :cvar keeps_folder: What is read uses the folder after :meth:`read` has returned.
    """

    name: ClassVar[str]
    keeps_folder: ClassVar[bool] = False

    @abstractmethod
    def accepts(self, value: Any) -> bool:
        """Say whether this codec writes the value. Asked for each value; imports nothing."""

    @abstractmethod
    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """
        Write the value to files in the folder, which is empty, and return what it takes beside them, as JSON.

        :raises WandbConfigurationError: the value cannot be written so that the same one is read.
        """

    @abstractmethod
    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """
        Return the value of the files that :meth:`write` wrote. Size and digest of each have been checked.

        :raises WandbXComRefusedError: they hold what this codec would not have written. What else is raised about them
            is turned into one, except for what a worker may lack: a library, memory, space.
        """

    def stage(self, value: Any, folder: Path) -> Staged:
        """Return the value as files: in the folder, or where they already are."""
        meta = self.write(value, folder)
        return Staged(folder, sorted(os.listdir(folder)), [], meta)


def is_exactly(value: Any, module: str, *names: str) -> bool:
    """Say whether a value's type is one of a module's, without importing that."""
    loaded = sys.modules.get(module)
    return loaded is not None and any(type(value) is getattr(loaded, name, None) for name in names)


def type_name(value: Any) -> str:
    """Return the type of a value, for people."""
    return f"{type(value).__module__}.{type(value).__qualname__}"[:200]
