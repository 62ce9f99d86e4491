"""Values in the user's object store, each at a place that its content names."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from wandb_airflow_provider.exceptions import (
    WandbError,
    WandbUnavailableError,
    WandbXComRefusedError,
)
from wandb_airflow_provider.object_storage import Place, address_of, open_place
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.codecs.base import Staged
from wandb_airflow_provider.xcom.index import INDEX_NAME, MAX_INDEX_BYTES, FileFacts, Index, digest_of
from wandb_airflow_provider.xcom.reference import StoredReference
from wandb_airflow_provider.xcom.settings import Limits
from wandb_airflow_provider.xcom.stores import s3
from wandb_airflow_provider.xcom.stores.intact import Counterpart, are_intact
from wandb_airflow_provider.xcom.stores.stored_file import StoredFile, stored_file
from wandb_airflow_provider.xcom.stores.transfer import (
    Arrival,
    answers,
    check_link,
    gone,
    put_in_place,
    read_start,
    receive,
    send,
)
from wandb_airflow_provider.xcom.workspace import passing_folder

__all__ = ["ObjectStore", "StoredObject"]

log = logging.getLogger(__name__)

_NOTES = ".notes"
_IN_USE = "in-use"
# What is younger is not removed for its age, so that who uses it need not say so.
_FRESH = timedelta(hours=1)
# What a listing says of a file that is another one when the file was written again.
_VERSIONED = ("size", "ETag", "etag", "LastModified", "last_modified", "updated", "mtime", "created")


class StoredObject(NamedTuple):
    """
    A value that is in the store, or half of one.

    :param producers: The XComs that were noted beside it: those it was stored for while W&B was away, and those that
        pass it on. A note that cannot be read is empty.
    :param state: What the listing says of its files and notes, to see whether any was written since.
    """

    location: str
    changed_at: datetime
    producers: tuple[Mapping[str, Any], ...] = ()
    state: frozenset[tuple[str, ...]] = frozenset()

    @property
    def own(self) -> str:
        """Collection and digest: the location without its scope."""
        return self.location.partition("/")[2]


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

    def put(
        self, location: str, staged: Staged, index: Index, content: bytes, *, check: bool = True
    ) -> dict[str, StoredFile]:
        """
        Store a value, unless it is there already, and return its files as they are in the store.

        :param check: Compare the content of what is there, and write it again if it was altered; else sizes alone.
        :raises WandbUnavailableError: the store cannot be written.
        """
        sizes = {path: facts.size for path, facts in index.files.items()} | {INDEX_NAME: len(content)}
        with self._errors(f"write {location!r}"):
            found = self._find(location, sizes)
            if found is not None and check and not self._is_intact(location, found, staged, index, content):
                log.warning(
                    "The stored XCom %s/%s was altered, and is written again.", self.address, location
                )
                found = None
            if found is not None and self._may_be_removed(found):
                # Who removes what no XCom refers to looks for this, and this looks whether it came too late.
                self._write(self._path(_NOTES, location, _IN_USE), b"")
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
            self._write(self._path(_NOTES, location, f"{label}.json"), json.dumps(dict(producer)).encode())

    def stored(self, scopes: Iterable[str]) -> Iterator[StoredObject]:
        """
        Yield what is in the store of some scopes, half-written values too.

        :raises WandbUnavailableError: the store cannot be read.
        """
        for scope in scopes:
            yield from self._below(scope)

    def remove(self, seen: StoredObject) -> bool:
        """
        Remove a value, its index first, so that the rest does not count any more.

        :returns: False if it was written, or noted to be in use, since it was seen; then nothing is removed.
        :raises WandbUnavailableError: the store cannot be written.
        """
        location = seen.location
        now = self.found(location)
        if now is None or now.state != seen.state:
            return now is None
        with self._errors(f"remove {location!r}"):
            for base in (location, f"{_NOTES}/{location}"):
                path = self._path(base)
                files = sorted(self._listed(path), key=lambda name: not name.endswith(f"/{INDEX_NAME}"))
                for name in files:
                    self._fs.rm_file(name)
                if self._place.local and files:
                    self._fs.rm(path, recursive=True)
        return True

    def found(self, location: str) -> StoredObject | None:
        """
        Return one value as it is in the store, or half of it; None if nothing of it is there.

        :raises WandbUnavailableError: the store cannot be read.
        """
        return next((found for found in self._below(location) if found.location == location), None)

    def _below(self, folder: str) -> Iterator[StoredObject]:
        """Yield the values in a scope, or that at a location."""
        changed: dict[str, datetime] = {}
        states: dict[str, set[tuple[str, ...]]] = {}
        producers: dict[str, list[Mapping[str, Any]]] = {}
        with self._errors("list the values"):
            self._fs.invalidate_cache()
            for base in ("", f"{_NOTES}/"):
                root = self._path(f"{base}{folder}")
                for path, facts in self._listed(root).items():
                    parts = f"{folder}/{path.partition(f'{base}{folder}/')[2]}".split("/")
                    if len(parts) < 4:
                        continue
                    location = "/".join(parts[:3])
                    changed[location] = max(_changed_at(facts), changed.get(location, _EARLIEST))
                    state = (base, *parts[3:], *(str(facts.get(name)) for name in _VERSIONED))
                    states.setdefault(location, set()).add(state)
                    if base and path.endswith(".json"):
                        producers.setdefault(location, []).append(self._note(path))
        for location, changed_at in sorted(changed.items()):
            noted = tuple(producers.get(location, ()))
            yield StoredObject(location, changed_at, noted, frozenset(states[location]))

    def _listed(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._fs.find(path, detail=True) if self._fs.exists(path) else {}
        return found

    def _note(self, path: str) -> Mapping[str, Any]:
        try:
            found = json.loads(self._fs.cat_file(path))
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}

    def _is_intact(
        self, location: str, found: Mapping[str, Any], staged: Staged, index: Index, content: bytes
    ) -> bool:
        with passing_folder() as folder:
            (folder / INDEX_NAME).write_bytes(content)
            facts = {
                **index.files,
                INDEX_NAME: FileFacts(len(content), digest_of(content).removeprefix("sha256:"), 0),
            }
            files = [
                Counterpart(
                    (folder if path == INDEX_NAME else staged.root) / path,
                    facts[path],
                    self._path(location, path),
                    listed,
                )
                for path, listed in found.items()
            ]
            return are_intact(self._place, files, f"The stored XCom {self.address}/{location}")

    def _may_be_removed(self, found: Mapping[str, Any]) -> bool:
        """Say whether someone who clears up could take a value for one that is not used any more."""
        newest = max(_changed_at(facts) for facts in found.values())
        return settings.purge() == "delete" or datetime.now(tz=UTC) - newest > _FRESH

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
            content = read_start(self._fs, source, MAX_INDEX_BYTES + 1)
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
