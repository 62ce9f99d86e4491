"""Values in the user's object store, each at a place that its content names."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from wandb_airflow_provider.exceptions import (
    WandbError,
    WandbUnavailableError,
    WandbXComIntegrityError,
    WandbXComRefusedError,
)
from wandb_airflow_provider.object_storage import Place, address_of, open_place
from wandb_airflow_provider.xcom.codecs.base import Staged
from wandb_airflow_provider.xcom.index import INDEX_NAME, MAX_INDEX_BYTES, Index, check_file
from wandb_airflow_provider.xcom.reference import StoredReference
from wandb_airflow_provider.xcom.settings import Limits

__all__ = ["ObjectStore", "StoredObject"]

_WITHOUT_ARTIFACT = ".without-artifact"
_WHOLE_BYTES = 32 << 20
_PART_BYTES = 5 << 20
_MOST_PARTS = 9000


class StoredObject(NamedTuple):
    """
    A value that is in the store.

    :param producers: Which XComs it was stored for while W&B was away; with an artifact, that has them.
    """

    location: str
    changed_at: datetime
    producers: tuple[Mapping[str, Any], ...] = ()


class ObjectStore:
    """
    Values below one URL.

    The index of a value is written last, and what has no index does not exist; so half a value is never seen.

    :param url: A folder, or an URL that Airflow's object storage knows, such as ``s3://conn_id@bucket/xcom``.
    :raises WandbConfigurationError: nothing installed can read such an URL.
    """

    def __init__(self, url: str) -> None:
        self.address = address_of(url)
        self._place: Place = open_place(url, "XCom storage")
        self._fs = self._place.fs

    def uris(self, location: str, index: Index) -> dict[str, str]:
        """Return the URLs of the files of a value, as others read them."""
        return {path: f"{self.address}/{location}/{path}" for path in (INDEX_NAME, *index.files)}

    def put(self, location: str, staged: Staged, index: Index, content: bytes) -> bool:
        """
        Store a value, unless it is there already; return whether it was not.

        :raises WandbUnavailableError: the store cannot be written.
        """
        with self._errors(f"write {location!r}"):
            if self._is_complete(location, index, content):
                return False
            for path in index.files:
                self._send(staged.root / path, self._path(location, path))
            self._write(self._path(location, INDEX_NAME), content)
        return True

    def fetch(self, ref: StoredReference, folder: Path, limits: Limits) -> Index:
        """
        Copy a value into a folder, and check all of it.

        :raises WandbXComIntegrityError: it is gone, or is not what was stored.
        :raises WandbXComRefusedError: it is more than ``limits`` allow.
        :raises WandbUnavailableError: the store cannot be read.
        """
        what = f"The stored XCom {self.address}/{ref.location}"
        with self._errors(f"read {ref.location!r}"):
            content = self._read_index(self._path(ref.location, INDEX_NAME), what)
            index = Index.from_bytes(content, ref.digest, limits, what)
            for path in index.folders:
                (folder / path).mkdir(parents=True, exist_ok=True)
            for path, facts in index.files.items():
                source, target = self._path(ref.location, path), folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                found = self._size(source, what)
                if found > facts.size:
                    raise WandbXComIntegrityError(
                        f"{what}: {path!r} has {found} bytes, and its index says {facts.size} with "
                        f"sha256:{facts.sha256}. It was altered; clear the task that pushed it."
                    )
                self._receive(source, target)
                check_file(target, facts, what)
        return index

    def note_producer(self, location: str, producer: Mapping[str, Any], label: str) -> None:
        """
        Leave word of an XCom that refers to a value without an artifact, so that the value is not taken for an orphan.

        :raises WandbUnavailableError: the store cannot be written.
        """
        with self._errors(f"write the producer of {location!r}"):
            self._write(
                self._path(_WITHOUT_ARTIFACT, location, f"{label}.json"), json.dumps(dict(producer)).encode()
            )

    def stored(self) -> Iterator[StoredObject]:
        """
        Yield what is in the store, half-written values too.

        :raises WandbUnavailableError: the store cannot be read.
        """
        with self._errors("list the values"):
            self._fs.invalidate_cache()
            found = self._fs.find(self._place.root, detail=True) if self._fs.exists(self._place.root) else {}
        changed: dict[str, datetime] = {}
        producers: dict[str, list[Mapping[str, Any]]] = {}
        prefix = len(self._place.root) + 1
        for path, facts in found.items():
            parts = path[prefix:].split("/")
            noted = parts[0] == _WITHOUT_ARTIFACT
            location = "/".join(parts[1:3] if noted else parts[:2])
            if len(parts) < (4 if noted else 3):
                continue
            changed[location] = max(_changed_at(facts), changed.get(location, _EARLIEST))
            if noted:
                with self._errors(f"read {path!r}"):
                    producers.setdefault(location, []).append(json.loads(self._fs.cat_file(path)))
        for location, changed_at in sorted(changed.items()):
            yield StoredObject(location, changed_at, tuple(producers.get(location, ())))

    def remove(self, location: str) -> None:
        """
        Remove a value, its index first, so that the rest does not count any more.

        :raises WandbUnavailableError: the store cannot be written.
        """
        with self._errors(f"remove {location!r}"):
            self._fs.invalidate_cache()
            for base in (location, f"{_WITHOUT_ARTIFACT}/{location}"):
                path = self._path(base)
                if not self._fs.exists(path):
                    continue
                files = sorted(self._fs.find(path), key=lambda name: not name.endswith(f"/{INDEX_NAME}"))
                for name in files:
                    self._fs.rm_file(name)
                if self._place.local:
                    self._fs.rm(path, recursive=True)

    def _is_complete(self, location: str, index: Index, content: bytes) -> bool:
        """Say whether a value is there with files of the right size: one that was cut off is written anew."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(self._path(location), detail=True)
        except FileNotFoundError:
            return False
        sizes = {path: facts["size"] for path, facts in found.items()}
        wanted = {self._path(location, path): facts.size for path, facts in index.files.items()}
        wanted[self._path(location, INDEX_NAME)] = len(content)
        return all(sizes.get(path) == size for path, size in wanted.items())

    def _send(self, source: Path, target: str) -> None:
        if self._place.local:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        chunks = {}
        if "s3" in self._protocols():
            # Ten parts at a time are in memory, of 50 MB each unless told; a store takes no more than 10,000. What is
            # smaller than two parts goes as one request.
            size = source.stat().st_size
            part = size // 2 + 1 if size < _WHOLE_BYTES else _PART_BYTES
            chunks["chunksize"] = max(part, -(-size // _MOST_PARTS))
        self._fs.put_file(str(source), target, **chunks)

    def _receive(self, source: str, target: Path) -> None:
        chunks = {}
        if "s3" in self._protocols() and "chunksize" in inspect.signature(self._fs.get_file).parameters:
            # As on the way there; releases of s3fs without it read piece by piece.
            chunks["chunksize"] = _PART_BYTES
        self._fs.get_file(source, str(target), **chunks)

    def _protocols(self) -> tuple[str, ...]:
        found = self._fs.protocol
        return (found,) if isinstance(found, str) else tuple(found)

    def _write(self, target: str, content: bytes) -> None:
        if not self._place.local:
            self._fs.pipe_file(target, content)
            return
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        half = f"{target}.{os.getpid()}.half"
        Path(half).write_bytes(content)
        os.replace(half, target)

    def _read_index(self, source: str, what: str) -> bytes:
        if self._place.local:
            self._check_link(source, what)
        try:
            content = bytes(self._fs.cat_file(source, start=0, end=MAX_INDEX_BYTES + 1))
        except FileNotFoundError as error:
            raise _gone(source, what) from error
        if len(content) > MAX_INDEX_BYTES:
            raise WandbXComRefusedError(f"{what}: its index has more than {MAX_INDEX_BYTES} bytes.")
        return content

    def _size(self, path: str, what: str) -> int:
        if self._place.local:
            self._check_link(path, what)
        try:
            return int(self._fs.info(path)["size"])
        except FileNotFoundError as error:
            raise _gone(path, what) from error

    def _check_link(self, path: str, what: str) -> None:
        root = Path(self._place.root).resolve()
        if Path(path).is_symlink() or not Path(path).resolve().is_relative_to(root):
            raise WandbXComRefusedError(f"{what}: {path!r} is a symbolic link out of its folder.")

    def _path(self, *parts: str) -> str:
        return "/".join((self._place.root, *parts))

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except WandbError:
            raise
        except Exception as error:
            # Each object store's client has error classes of its own.
            raise WandbUnavailableError(
                f"Could not {action} in the XCom storage {self.address}: {type(error).__name__}: {error}. A retry can "
                "help."
            ) from error


_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def _gone(path: str, what: str) -> WandbXComIntegrityError:
    return WandbXComIntegrityError(
        f"{what}: {path!r} is gone. It was removed, or never written completely; clear the task that pushed it."
    )


def _changed_at(facts: Mapping[str, Any]) -> datetime:
    found = (
        facts.get("LastModified") or facts.get("last_modified") or facts.get("updated") or facts.get("mtime")
    )
    if isinstance(found, datetime):
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    if isinstance(found, int | float):
        return datetime.fromtimestamp(found, tz=UTC)
    if isinstance(found, str):
        return datetime.fromisoformat(found)
    # Unknown: then it is as young as can be, and is not removed.
    return datetime.now(tz=UTC)
