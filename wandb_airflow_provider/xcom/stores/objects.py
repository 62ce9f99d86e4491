"""Values in the user's object store, each at a place that its content names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from wandb_airflow_provider.exceptions import (
    WandbError,
    WandbUnavailableError,
    WandbXComRefusedError,
)
from wandb_airflow_provider.object_storage import Place, address_of, open_place
from wandb_airflow_provider.xcom.codecs.base import Staged
from wandb_airflow_provider.xcom.index import INDEX_NAME, MAX_INDEX_BYTES, Index
from wandb_airflow_provider.xcom.reference import StoredReference
from wandb_airflow_provider.xcom.settings import Limits
from wandb_airflow_provider.xcom.stores import s3
from wandb_airflow_provider.xcom.stores.stored_file import StoredFile, stored_file
from wandb_airflow_provider.xcom.stores.transfer import (
    Arrival,
    answers,
    check_link,
    gone,
    put_in_place,
    receive,
    send,
)

__all__ = ["ObjectStore", "StoredObject"]

_WITHOUT_ARTIFACT = ".without-artifact"


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

    def put(self, location: str, staged: Staged, index: Index, content: bytes) -> dict[str, StoredFile]:
        """
        Store a value, unless it is there already, and return its files as they are in the store.

        :raises WandbUnavailableError: the store cannot be written.
        """
        sizes = {path: facts.size for path, facts in index.files.items()} | {INDEX_NAME: len(content)}
        with self._errors(f"write {location!r}"):
            found = self._find(location, sizes)
            if found is None:
                targets = {path: self._path(location, path) for path in sizes}
                known = send(self._place, ((staged.root / path, targets[path]) for path in index.files))
                known |= self._write(targets[INDEX_NAME], content)
                # A store that answers with what it has written need not be asked.
                found = (
                    {path: known[target] for path, target in targets.items()}
                    if known.keys() == set(targets.values())
                    else self._find(location, sizes)
                )
            if found is None:
                raise OSError("what was written is not all there")
        return {path: stored_file(self._place, self._path(location, path), found[path]) for path in sizes}

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
            arrivals = (
                Arrival(self._path(ref.location, path), folder / path, facts)
                for path, facts in index.files.items()
            )
            receive(self._place, arrivals, what)
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
        root = f"{self._place.root.strip('/')}/"
        for path, facts in found.items():
            parts = path.partition(root)[2].split("/")
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

    def _find(self, location: str, sizes: Mapping[str, int]) -> dict[str, Any] | None:
        """Return what the store says of the files of a value; None if not all are there in full."""
        self._fs.invalidate_cache()
        files = s3.listed(self._fs, self._path(location)) if answers(self._place) else None
        if files is None:
            try:
                listed = self._fs.find(self._path(location), detail=True)
            except FileNotFoundError:
                return None
            # Some file systems begin their paths with a slash, whatever they were asked for.
            files = {name.partition(f"{location}/")[2]: facts for name, facts in listed.items()}
        found = {path: files.get(path) for path in sizes}
        complete = all(facts is not None and facts["size"] == sizes[path] for path, facts in found.items())
        return found if complete else None

    def _write(self, target: str, content: bytes) -> dict[str, Mapping[str, Any]]:
        """Write a file, and return what a listing would say of it, if the store has answered with that."""
        if self._place.local:
            put_in_place(target, lambda half: half.write_bytes(content))
        elif answers(self._place):
            return {target: s3.put_content(self._fs, content, target)}
        else:
            self._fs.pipe_file(target, content)
        return {}

    def _read_index(self, source: str, what: str) -> bytes:
        if self._place.local:
            check_link(self._place, source, what)
        try:
            content = bytes(self._fs.cat_file(source, start=0, end=MAX_INDEX_BYTES + 1))
        except FileNotFoundError as error:
            raise gone(source, what) from error
        if len(content) > MAX_INDEX_BYTES:
            raise WandbXComRefusedError(f"{what}: its index has more than {MAX_INDEX_BYTES} bytes.")
        return content

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
