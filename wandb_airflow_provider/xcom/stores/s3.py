"""What S3 says and takes in fewer requests than fsspec makes of it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["has_etag", "listed", "put_content", "put_file"]


class _Body(io.BufferedReader):
    """A file that is sent from its start by each attempt."""


def listed(fs: Any, folder: str) -> dict[str, dict[str, Any]] | None:
    """
    Return what a listing says of the files of a folder, by their paths below it; None if it is one of several pages.

    Of a folder that is not there, fsspec would ask three times.
    """
    bucket, key, _ = fs.split_path(folder)
    prefix = f"{key}/"
    found = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **fs.req_kw)
    if found.get("IsTruncated"):
        return None
    return {
        item["Key"].removeprefix(prefix): {
            "size": item["Size"],
            "ETag": item.get("ETag"),
            "LastModified": item.get("LastModified"),
        }
        for item in found.get("Contents", ())
    }


def put_content(fs: Any, content: bytes, target: str) -> dict[str, Any]:
    """Send bytes, and return what a listing would say of them."""
    return _put(fs, content, len(content), target)


def put_file(fs: Any, source: Path, target: str) -> dict[str, Any]:
    """
    Send a file while it is read, and return what a listing would say of it.

    What s3fs sends by itself it holds in memory, twice.
    """
    from fsspec.asyn import sync

    bucket, _, _ = fs.split_path(target)
    fs.connect()
    client = sync(fs.loop, fs.get_s3, bucket)
    # An attempt after a timeout begins with what s3fs was given, which the one before has read.
    client.meta.events.register("before-parameter-build.s3.PutObject", _rewind, unique_id=__name__)
    with _Body(io.FileIO(source)) as body:
        return _put(fs, body, source.stat().st_size, target)


def has_etag(etag: str, source: Path, part: int) -> bool:
    """
    Say whether an ETag is that of a file: its MD5, or the MD5 of those of its parts, with their number.

    False tells nothing where the bucket encrypts with keys of its own, or where another size of parts was used.

    :param part: In bytes, what a large file was sent in.
    """
    own, _, number = etag.strip('"').partition("-")
    with source.open("rb") as file:
        if not number:
            return hashlib.file_digest(file, _md5).hexdigest() == own
        whole = _md5()
        for content in iter(lambda: file.read(part), b""):
            whole.update(_md5(content).digest())
        return number == str(-(-source.stat().st_size // part)) and whole.hexdigest() == own


def _md5(content: bytes = b"") -> Any:
    return hashlib.md5(content, usedforsecurity=False)


def _put(fs: Any, body: bytes | _Body, size: int, target: str) -> dict[str, Any]:
    bucket, key, _ = fs.split_path(target)
    answer = fs.call_s3("put_object", Bucket=bucket, Key=key, Body=body)
    return {"size": size, "ETag": answer["ETag"]}


def _rewind(params: Mapping[str, Any], **_: Any) -> None:
    body = params.get("Body")
    if isinstance(body, _Body):
        body.seek(0)
