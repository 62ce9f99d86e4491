"""Files on their way to and from a place: several small ones at a time, large ones in parts, in little memory."""

from __future__ import annotations

import errno
import inspect
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from fsspec.callbacks import Callback

from wandb_airflow_provider.exceptions import WandbXComIntegrityError, WandbXComRefusedError
from wandb_airflow_provider.object_storage import Place
from wandb_airflow_provider.xcom.index import FileFacts, altered, check_content, check_file
from wandb_airflow_provider.xcom.stores import s3

__all__ = [
    "Arrival",
    "answers",
    "check_link",
    "gone",
    "part_of",
    "put_in_place",
    "read_start",
    "receive",
    "send",
    "speaks",
]

_SMALL_BYTES = 4 << 20
_SMALL_AT_A_TIME = 8
_IN_MEMORY_BYTES = 1 << 20
# What is smaller goes in one request. Of what is larger, some parts at a time are in memory.
_WHOLE_BYTES = 48 << 20
_PART_BYTES = 5 << 20
_PARTS_AT_A_TIME = 5
_MOST_PARTS = 9000


class Arrival(NamedTuple):
    """
    A file that is fetched.

    :param facts: What it must be.
    """

    source: str
    target: Path
    facts: FileFacts


def send(place: Place, files: Iterable[tuple[Path, str]]) -> dict[str, Mapping[str, Any]]:
    """
    Copy files of this machine to a place; a file that is there is replaced.

    :returns: What a listing would say of them, by target, of those whose store has answered with it.
    """
    known: dict[str, Mapping[str, Any]] = {}

    def copy(source: Path, target: str) -> None:
        if place.local:
            put_in_place(target, lambda half: shutil.copyfile(source, half))
            return
        if not speaks(place, "s3"):
            place.fs.put_file(str(source), target)
            return
        size = source.stat().st_size
        if size < _WHOLE_BYTES and answers(place):
            known[target] = s3.put_file(place.fs, source, target)
            return
        options = _known(place.fs.put_file, chunksize=part_of(size), max_concurrency=_PARTS_AT_A_TIME)
        place.fs.put_file(str(source), target, **options)

    _each(place, [(source.stat().st_size, copy, (source, target)) for source, target in files])
    return known


def part_of(size: int) -> int:
    """Return the size of the parts in which a large file is sent."""
    return max(_PART_BYTES, -(-size // _MOST_PARTS))


def put_in_place(target: str, write: Callable[[Path], Any]) -> None:
    """Write a file of this machine beside its place, and move it there: a reader sees the old one or all of it."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    # Not longer by the file's own name, which may have all the length that names can have.
    half = Path(target).with_name(f"{uuid4().hex}.half")
    try:
        write(half)
        os.replace(half, target)
    finally:
        half.unlink(missing_ok=True)


def receive(place: Place, files: Iterable[Arrival], what: str) -> None:
    """
    Copy files of a place to this machine, and check each.

    :param what: The value that they belong to, for messages.
    :raises WandbXComIntegrityError: one is gone, or is not what was stored; not much more than that is read of it.
    """

    def copy(arrival: Arrival) -> None:
        source, target, facts = arrival
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not place.local and 0 < facts.size <= _IN_MEMORY_BYTES:
                content = read_start(place.fs, source, facts.size + 1)
                if len(content) > facts.size:
                    raise altered(target.name, _found(place, source), facts, what)
                check_content(content, target.name, facts, what)
                target.write_bytes(content)
                return
            if place.local:
                check_link(place, source, what)
            options: dict[str, Any] = {}
            if speaks(place, "s3"):
                # What is not larger than a part is written as it comes; so do releases of s3fs without these.
                part = _WHOLE_BYTES if facts.size <= _WHOLE_BYTES else _PART_BYTES
                options = _known(place.fs.get_file, chunksize=part, max_concurrency=_PARTS_AT_A_TIME)
                # The answer says how large the file is; to ask before would be another request.
                options["callback"] = _AtMost(facts.size)
            elif int(place.fs.info(source)["size"]) > facts.size:
                raise altered(target.name, _found(place, source), facts, what)
            try:
                place.fs.get_file(source, str(target), **options)
            except _TooLargeError as error:
                raise altered(target.name, _found(place, source), facts, what) from error
        except FileNotFoundError as error:
            raise gone(source, what) from error
        check_file(target, facts, what)

    _each(place, [(arrival.facts.size, copy, (arrival,)) for arrival in files])


class _TooLargeError(Exception):
    pass


class _AtMost(Callback):  # type: ignore[misc]
    """Ends a transfer that is of more than so many bytes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def set_size(self, size: int | None) -> None:
        super().set_size(size)
        if size is not None and size > self._most:
            raise _TooLargeError

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.value > self._most:
            raise _TooLargeError


def answers(place: Place) -> bool:
    """Say whether a place is one of S3 that can be asked without fsspec's caution."""
    return speaks(place, "s3") and hasattr(place.fs, "call_s3") and not place.fs.version_aware


def read_start(fs: Any, path: str, most: int) -> bytes:
    """Return the first bytes of a file of a store, of an empty one too, which has no range to ask for."""
    try:
        return bytes(fs.cat_file(path, start=0, end=most))
    except Exception as error:
        # s3fs says which argument was wrong, others give the status of the answer.
        status = [getattr(error, name, None) for name in ("code", "status", "status_code")]
        no_range = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE in status
        no_range = no_range or getattr(error, "errno", None) == errno.EINVAL
        if not no_range or fs.info(path)["size"]:
            raise
        return b""


def check_link(place: Place, path: str, what: str) -> None:
    """
    Refuse a file that is somewhere else than its path says.

    :raises WandbXComRefusedError: it is.
    """
    root = Path(place.root).resolve()
    if Path(path).is_symlink() or not Path(path).resolve().is_relative_to(root):
        raise WandbXComRefusedError(f"{what}: {path!r} is a symbolic link out of its folder.")


def gone(source: str, what: str) -> WandbXComIntegrityError:
    """Return the error for a file that is not there."""
    return WandbXComIntegrityError(
        f"{what}: {source!r} is gone. It was removed, or never written completely; clear the task that pushed it."
    )


def speaks(place: Place, *schemes: str) -> bool:
    """Say whether a place is of one of these kinds."""
    found = place.fs.protocol
    return bool({found} & set(schemes)) if isinstance(found, str) else bool(set(found) & set(schemes))


def _each(place: Place, copies: list[tuple[int, Callable[..., None], tuple[Any, ...]]]) -> None:
    """Make copies: small ones some at a time where that spares waiting, the others one after another."""
    small = [(copy, args) for size, copy, args in copies if size <= _SMALL_BYTES]
    if len(small) > 1 and getattr(place.fs, "async_impl", False):
        with ThreadPoolExecutor(_SMALL_AT_A_TIME) as pool:
            for done in [pool.submit(copy, *args) for copy, args in small]:
                done.result()
        copies = [item for item in copies if item[0] > _SMALL_BYTES]
    for _, copy, args in copies:
        copy(*args)


def _known(method: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Return the options that a method has."""
    parameters = inspect.signature(method).parameters
    return {name: value for name, value in options.items() if name in parameters}


def _found(place: Place, source: str) -> tuple[int, str | None]:
    """Return size and digest of a file that is larger than it must be; no digest if it is much larger."""
    size = int(place.fs.info(source)["size"])
    if size > 2 * _WHOLE_BYTES:
        return size, None
    return size, sha256(place.fs.cat_file(source)).hexdigest()
