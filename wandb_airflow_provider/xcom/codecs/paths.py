"""Files and folders, by ``pathlib.Path`` or Airflow's ``ObjectStoragePath``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComRefusedError
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.codecs.base import Codec, Staged, is_exactly
from wandb_airflow_provider.xcom.index import check_path
from wandb_airflow_provider.xcom.settings import Limits

__all__ = ["PathCodec"]

_COPY_BYTES = 1 << 20
_LOCAL_PROTOCOLS = ("file", "local")


class PathCodec(Codec):
    """
    The content of a file or folder, with permissions and empty folders, and without symbolic links, which are refused.

    It comes back as a path of the same kind, to a copy on the worker that is there until the task ends.
    """

    name = "path"
    keeps_folder = True

    def accepts(self, value: Any) -> bool:
        """Accept local paths, and those of an object store unless they are passed as URLs."""
        return type(value) is PosixPath or (_is_object_path(value) and settings.copy_object_paths())

    def write(self, value: Any, folder: Path) -> Mapping[str, Any]:
        """Copy from an object store; local files are not copied, see :meth:`stage`."""
        name = value.name or "value"
        for source in sorted(value.rglob("*") if value.is_dir() else [value], key=str):
            if source.is_dir():
                continue
            inner = source.relative_to(value).as_posix() if value.is_dir() else name
            check_path(inner, str(value))
            target = folder / name / inner if value.is_dir() else folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as read, target.open("wb") as written:
                shutil.copyfileobj(read, written, _COPY_BYTES)
        if not any(folder.iterdir()):
            (folder / name).mkdir()
        return {"object": True}

    def stage(self, value: Any, folder: Path) -> Staged:
        """Return the files where they are."""
        if not value.exists():
            raise WandbConfigurationError(
                f"{str(value)!r} does not exist on this worker, so its content cannot be passed. To pass the path "
                "alone, return str(path)."
            )
        of_store = _is_object_path(value)
        if of_store and value.protocol not in _LOCAL_PROTOCOLS:
            self.write(value, folder)
            root = folder / (value.name or "value")
        else:
            root = Path(os.path.abspath(value.path if of_store else value))
            if root.is_symlink():
                raise WandbConfigurationError(
                    f"{str(value)!r} is a symbolic link. Pass what it leads to: path.resolve()."
                )
        meta = {"name": root.name or "value", "folder": root.is_dir(), "object": of_store}
        if not root.is_dir():
            return Staged(root.parent, [root.name], [], meta)
        files, folders = _walk(root, str(value))
        return Staged(root, files, folders, meta)

    def read(self, folder: Path, meta: Mapping[str, Any], limits: Limits) -> Any:
        """Return the path of the copy."""
        name = meta.get("name")
        check_path(str(name), "A stored path")
        if not isinstance(name, str) or "/" in name:
            raise WandbXComRefusedError(f"Refused a stored path: its name is {name!r}.")
        if meta.get("folder"):
            found = folder
            if folder.name != name:
                found = folder.with_name(name)
                folder.rename(found)
        else:
            found = folder / name
            if not found.is_file():
                raise WandbXComRefusedError(f"Refused a stored path: there is no file {name!r}.")
        if not meta.get("object"):
            return found
        from airflow.sdk import ObjectStoragePath

        # As a URL, a name would lose the "#" that it ends with, or keep escapes that it never had.
        return ObjectStoragePath(f"file://{found.parent}") / found.name


def _walk(root: Path, what: str) -> tuple[list[str], list[str]]:
    files: list[str] = []
    folders: list[str] = []
    for base, names, plain in os.walk(root, followlinks=False):
        names.sort()
        for name in (*names, *plain):
            path = (Path(base) / name).relative_to(root).as_posix()
            try:
                path.encode()
            except UnicodeError as error:
                raise WandbConfigurationError(
                    f"{what} has the file name {path!r}, which is no text."
                ) from error
            (folders if name in names else files).append(path)
    for path in (*files, *folders):
        try:
            check_path(path, what)
        except WandbXComRefusedError as error:
            raise WandbConfigurationError(f"{what} cannot be passed: {error}") from error
    return sorted(files), sorted(folders)


def _is_object_path(value: Any) -> bool:
    return is_exactly(value, "airflow.sdk.io.path", "ObjectStoragePath") or is_exactly(
        value, "airflow.sdk", "ObjectStoragePath"
    )
