"""The index of a stored value: which files it has, and what each must be. Its digest stands for the whole value."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbXComIntegrityError,
    WandbXComRefusedError,
)
from wandb_airflow_provider.xcom.foreign import brief
from wandb_airflow_provider.xcom.settings import Limits

__all__ = ["INDEX_NAME", "MAX_INDEX_BYTES", "UNPACKED_BYTES", "FileFacts", "Index"]

INDEX_NAME = ".wandb-xcom-index.json"
UNPACKED_BYTES = "unpacked_bytes"
"""Key of a codec's metadata that says what its files unpack to, for a codec that compresses them."""
FORMAT = 1
MAX_INDEX_BYTES = 64 << 20
_MAX_PATH_BYTES = 1000
_MAX_NAME_BYTES = 255
_MAX_BYTES = 1 << 62
_HASHED_AT_A_TIME = 4


class FileFacts(NamedTuple):
    """What a file must be: size in bytes, SHA-256 and permission bits."""

    size: int
    sha256: str
    mode: int


class Index(NamedTuple):
    """
    What a value consists of.

    :param meta: What the codec needs beside the files.
    :param folders: Every folder with its permission bits, so that empty ones come back too.
    """

    codec: str
    meta: Mapping[str, Any]
    files: Mapping[str, FileFacts]
    folders: Mapping[str, int] = MappingProxyType({})

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(facts.size for facts in self.files.values())

    @property
    def unpacked_bytes(self) -> int:
        """All files together as they are read: what limits are for."""
        return max(self.size_bytes, int(self.meta.get(UNPACKED_BYTES, 0)))

    def to_bytes(self) -> bytes:
        """Return the index as it is stored: the same bytes for the same value."""
        content = {
            "format": FORMAT,
            "codec": self.codec,
            "meta": dict(self.meta),
            "files": {path: list(facts) for path, facts in self.files.items()},
            "folders": dict(self.folders),
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def of(
        cls, codec: str, meta: Mapping[str, Any], root: Path, files: Iterable[str], folders: Iterable[str]
    ) -> Index:
        """
        Describe files below a folder.

        :raises WandbConfigurationError: one is a link, or is no plain file.
        """
        names = list(files)
        with ThreadPoolExecutor(_HASHED_AT_A_TIME) as pool:
            facts = list(pool.map(_facts, [root / path for path in names]))
        return cls(
            codec,
            meta,
            dict(zip(names, facts, strict=True)),
            {path: _mode(root / path, stat.S_ISDIR) for path in folders},
        )

    @classmethod
    def from_bytes(cls, content: bytes, digest: str, limits: Limits, what: str) -> Index:
        """
        Read an index.

        :param digest: What the reference says.
        :raises WandbXComIntegrityError: it is not the one that was stored.
        :raises WandbXComRefusedError: it leads out of its folder, or to more than is accepted.
        """
        found = "sha256:" + hashlib.sha256(content).hexdigest()
        if found != digest:
            raise WandbXComIntegrityError(
                f"{what}: its index has the digest {found}, and the XCom says {digest}. It was altered or cut off; "
                "clear the task that pushed it."
            )
        try:
            raw = json.loads(content)
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']!r}")
            index = cls(
                str(raw["codec"]),
                _checked_meta(dict(raw["meta"])),
                {path: _checked_facts(*facts) for path, facts in raw["files"].items()},
                {path: _checked_mode(mode) for path, mode in raw["folders"].items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise WandbXComRefusedError(
                f"{what}: its index cannot be understood ({brief(error)})."
            ) from error
        for path in (*index.files, *index.folders):
            check_path(path, what)
        inside = {
            str(parent) for path in (*index.files, *index.folders) for parent in PurePosixPath(path).parents
        }
        if set(index.files) & (inside | set(index.folders)):
            raise WandbXComRefusedError(f"{what}: its index has a file in the place of a folder.")
        check_limits(index, limits, what)
        return index

    def restore_modes(self, root: Path) -> None:
        """Give files and folders their permissions, the innermost first."""
        for path, facts in self.files.items():
            (root / path).chmod(facts.mode)
        for path in sorted(self.folders, key=lambda path: path.count("/"), reverse=True):
            (root / path).chmod(self.folders[path])


def digest_of(index: bytes) -> str:
    """Return the digest that stands for a value."""
    return "sha256:" + hashlib.sha256(index).hexdigest()


def check_limits(index: Index, limits: Limits, what: str) -> None:
    """
    Refuse what is too large.

    :raises WandbXComRefusedError: more bytes or files than are accepted.
    """
    if index.unpacked_bytes > limits.max_bytes:
        raise WandbXComRefusedError(
            f"{what} has {index.unpacked_bytes} bytes; at most {limits.max_bytes} are accepted ('max_value_bytes' of "
            "[wandb_xcom])."
        )
    if len(index.files) + len(index.folders) > limits.max_files:
        raise WandbXComRefusedError(
            f"{what} has {len(index.files) + len(index.folders)} files and folders; at most {limits.max_files} are "
            "accepted ('max_files' of [wandb_xcom])."
        )


def check_path(path: str, what: str) -> None:
    """
    Refuse a path that is not plainly one below its folder, or that no file system here could have.

    :raises WandbXComRefusedError: it is.
    """
    raw = path.encode("utf-8", "surrogatepass")
    if (
        len(raw) > _MAX_PATH_BYTES
        or any(name in (b"", b".", b"..") or len(name) > _MAX_NAME_BYTES for name in raw.split(b"/"))
        or any(ord(char) < 32 or char == "\\" or "\ud800" <= char <= "\udfff" for char in path)
        or path == INDEX_NAME
    ):
        raise WandbXComRefusedError(f"{what} names {path!r}, which is no path below its own folder.")


def check_file(path: Path, facts: FileFacts, what: str) -> None:
    """
    Compare a file with what it must be.

    :raises WandbXComIntegrityError: it differs; both digests are named.
    """
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise WandbXComIntegrityError(f"{what}: {path.name!r} is not a plain file.")
    found = status.st_size, sha256_of(path)
    if found != (facts.size, facts.sha256):
        raise altered(path.name, found, facts, what)


def check_content(content: bytes, name: str, facts: FileFacts, what: str) -> None:
    """
    Compare the content of a file with what it must be.

    :raises WandbXComIntegrityError: it differs; both digests are named.
    """
    found = len(content), hashlib.sha256(content).hexdigest()
    if found != (facts.size, facts.sha256):
        raise altered(name, found, facts, what)


def altered(name: str, found: tuple[int, str | None], facts: FileFacts, what: str) -> WandbXComIntegrityError:
    """
    Return the error for a file that is not what was stored.

    :param found: Its size, and its digest unless it is much too large to be read for one.
    """
    size, digest = found
    return WandbXComIntegrityError(
        f"{what}: {name!r} has {size} bytes{f' with the digest sha256:{digest}' if digest else ''}, and its index says "
        f"{facts.size} bytes with sha256:{facts.sha256}. It was altered or cut off; clear the task that pushed it."
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts(path: Path) -> FileFacts:
    mode = _mode(path, stat.S_ISREG)
    return FileFacts(path.stat().st_size, sha256_of(path), mode)


def _mode(path: Path, is_kind: Any) -> int:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        raise WandbConfigurationError(
            f"{str(path)!r} is a symbolic link, which may lead out of what is passed. Pass what it leads to."
        )
    if not is_kind(status.st_mode):
        raise WandbConfigurationError(
            f"{str(path)!r} is neither a plain file nor a folder and cannot be passed."
        )
    return stat.S_IMODE(status.st_mode) & 0o777


def _checked_meta(meta: dict[str, Any]) -> dict[str, Any]:
    unpacked = meta.get(UNPACKED_BYTES, 0)
    if not isinstance(unpacked, int) or isinstance(unpacked, bool) or not 0 <= unpacked < _MAX_BYTES:
        raise ValueError(f"{UNPACKED_BYTES} {unpacked!r}")
    return meta


def _checked_facts(size: Any, sha256: Any, mode: Any) -> FileFacts:
    if not isinstance(size, int) or not 0 <= size < _MAX_BYTES or not isinstance(sha256, str):
        raise ValueError(f"a file of size {size!r}")
    return FileFacts(size, sha256, _checked_mode(mode))


def _checked_mode(mode: Any) -> int:
    if not isinstance(mode, int) or not 0 <= mode <= 0o777:
        raise ValueError(f"permissions {mode!r}")
    return mode
