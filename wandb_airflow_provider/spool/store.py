"""A spool: a folder, or a prefix in an object store, with one sub-folder for each run that waits."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbUnavailableError
from wandb_airflow_provider.identity import slug
from wandb_airflow_provider.object_storage import open_place
from wandb_airflow_provider.spool.manifest import Manifest

__all__ = ["BrokenEntry", "Spool", "describe_files"]

_MANIFEST = "manifest.json"
_RUN = "run"
_HASH_BYTES = 1 << 20
# What wandb calls its folder, in which links lead to the logs of the latest run, and those logs.
_WANDB_FOLDER = "wandb"
_LOGS = "logs"


class BrokenEntry(NamedTuple):
    """A folder of the spool that cannot be understood, and why."""

    entry: str
    error: str


class Spool:
    """
    The runs that wait at one place.

    :param url: A folder, or an URL that Airflow's object storage knows, such as ``s3://conn_id@bucket/wandb-spool``.
    :raises WandbConfigurationError: nothing installed can read such an URL.
    """

    def __init__(self, url: str) -> None:
        self.url = str(url)
        self._fs, self._root, self._local = open_place(self.url, "spool")

    def new_entry(self, wandb_run_id: str, started_at: datetime) -> str:
        """Return a name for an entry; names sort by time."""
        return f"{started_at:%Y%m%dT%H%M%S%f}-{slug(wandb_run_id, 60)}-{secrets.token_hex(3)}"

    def local_folder(self, entry: str) -> Path | None:
        """Return the folder of an entry's data where the spool is a folder of this machine, else None."""
        return Path(self._path(entry, _RUN)) if self._local else None

    def write(self, manifest: Manifest) -> None:
        """
        Write an entry's manifest.

        :raises WandbUnavailableError: the spool cannot be written.
        """
        with self._errors(f"write the entry {manifest.entry!r}"):
            if self._local:
                Path(self._path(manifest.entry, _RUN)).mkdir(parents=True, exist_ok=True)
                # A reader must never see half of it.
                half = self._path(manifest.entry, f".{_MANIFEST}")
                Path(half).write_text(manifest.to_json(), "utf-8")
                os.replace(half, self._path(manifest.entry, _MANIFEST))
            else:
                self._fs.pipe_file(self._path(manifest.entry, _MANIFEST), manifest.to_json().encode())

    def store(self, manifest: Manifest, folder: Path) -> None:
        """
        Copy an entry's files from a folder, then its manifest, which makes them count.

        :raises WandbUnavailableError: the spool cannot be written.
        """
        own = self.local_folder(manifest.entry)
        if own is None or own.resolve() != folder.resolve():
            with self._errors(f"write the entry {manifest.entry!r}"):
                for path in manifest.files:
                    target = self._path(manifest.entry, _RUN, path)
                    if self._local:
                        Path(target).parent.mkdir(parents=True, exist_ok=True)
                    self._fs.put_file(str(folder / path), target)
        self.write(manifest)

    def entries(self) -> tuple[list[Manifest], list[BrokenEntry]]:
        """
        Return every entry, by name, and those that cannot be understood.

        :raises WandbUnavailableError: the spool cannot be read.
        """
        found, broken = list[Manifest](), list[BrokenEntry]()
        with self._errors("list the entries"):
            # Without this an object store's client answers from what it saw before.
            self._fs.invalidate_cache()
            try:
                names = sorted(
                    row["name"].rstrip("/").rsplit("/", 1)[-1]
                    for row in self._fs.ls(self._root, detail=True)
                    if row["type"] == "directory"
                )
            except FileNotFoundError:
                return [], []
        for name in names:
            try:
                with self._errors(f"read the entry {name!r}"):
                    found.append(Manifest.from_json(self._fs.cat_file(self._path(name, _MANIFEST))))
            except (WandbConfigurationError, WandbUnavailableError) as error:
                broken.append(BrokenEntry(name, str(error)))
        return found, broken

    def fetch(self, manifest: Manifest, folder: Path) -> Path:
        """
        Return a folder with the entry's files: its own on this machine, or a copy below ``folder``.

        :raises WandbConfigurationError: a file is missing, or is not the one that was stored.
        :raises WandbUnavailableError: the spool cannot be read.
        """
        own = self.local_folder(manifest.entry)
        target = own or folder / manifest.entry
        for path, facts in manifest.files.items():
            file = target / path
            if os.path.isabs(path) or ".." in Path(path).parts or file.is_symlink():
                raise WandbConfigurationError(
                    f"Entry {manifest.entry!r} names a file outside of it: {path!r}."
                )
            if own is None:
                file.parent.mkdir(parents=True, exist_ok=True)
                with self._errors(f"read the entry {manifest.entry!r}"):
                    self._fs.get_file(self._path(manifest.entry, _RUN, path), str(file))
            if not file.is_file() or _facts(file) != facts:
                raise WandbConfigurationError(
                    f"Entry {manifest.entry!r} of the spool {self.url}: {path!r} is missing or is not what was stored "
                    "there. Its other files are still there; `wandb sync` may upload what is left of the run."
                )
        return target

    def remove(self, manifest: Manifest) -> None:
        """
        Remove an entry, which is first marked as synced: half removed it is not taken for one that waits.

        :raises WandbUnavailableError: the spool cannot be written.
        """
        if manifest.state != "synced":
            self.write(manifest._replace(state="synced"))
        with self._errors(f"remove the entry {manifest.entry!r}"):
            if self._local:
                shutil.rmtree(self._path(manifest.entry))
                return
            self._fs.invalidate_cache()
            files = self._fs.find(self._path(manifest.entry))
            for path in sorted(files, key=lambda path: path.endswith(f"/{_MANIFEST}")):
                self._fs.rm(path)

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except (WandbConfigurationError, WandbUnavailableError):
            raise
        except Exception as error:
            # Each object store's client has error classes of its own.
            raise WandbUnavailableError(
                f"Could not {action} of the spool {self.url}: {type(error).__name__}: {error}."
            ) from error


def describe_files(folder: Path) -> dict[str, tuple[int, str]]:
    """
    Return size and SHA-256 of each file of a run's folder, by its relative path, but for wandb's own logs.

    ``wandb_run.save()`` leaves links to files of the task: these are replaced by what they lead to.
    """
    found = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != _LOGS]
        for name in names:
            path = Path(root) / name
            if path.parent.name != _WANDB_FOLDER and _own_file(path):
                found[path.relative_to(folder).as_posix()] = _facts(path)
    return found


def _own_file(path: Path) -> bool:
    """Tell whether there is a file, after a link to one was replaced by it."""
    if not path.is_symlink():
        return path.is_file()
    target = path.resolve()
    path.unlink()
    if target.is_file():
        shutil.copyfile(target, path)
    return path.is_file()


def _facts(path: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_BYTES):
            digest.update(chunk)
    return path.stat().st_size, digest.hexdigest()
