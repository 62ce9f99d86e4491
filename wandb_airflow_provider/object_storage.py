"""A place that keeps files: a folder of this machine, or a prefix in an object store, through an Airflow connection."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from wandb_airflow_provider.exceptions import WandbConfigurationError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Place", "address_of", "open_place"]

_LOCAL_SCHEMES = ("", "file", "local")


class Place(NamedTuple):
    """
    Where files are kept.

    :param root: The folder or prefix, as the file system takes it.
    :param local: It is a folder of this machine, or mounted there.
    """

    fs: AbstractFileSystem
    root: str
    local: bool


def open_place(url: str, what: str) -> Place:
    """
    Open a folder, or an URL that Airflow's object storage knows, such as ``s3://conn_id@bucket/prefix``.

    :param what: What is kept there, as messages shall name it.
    :raises WandbConfigurationError: a relative folder, or nothing installed can read such an URL.
    """
    parts = urlsplit(url)
    if parts.scheme in _LOCAL_SCHEMES:
        from fsspec.implementations.local import LocalFileSystem

        path = parts.path if parts.scheme else url
        if not os.path.isabs(path):
            raise WandbConfigurationError(
                f"The {what} {url!r} is a relative path, which is another folder on each worker; name an absolute "
                "one."
            )
        return Place(LocalFileSystem(), path.rstrip("/"), True)
    return Place(_object_store(url, parts.scheme, what), _path_of(url), False)


def address_of(url: str) -> str:
    """Return the URL of a place as others read it: without the id of an Airflow connection."""
    parts = urlsplit(url)
    if parts.scheme in _LOCAL_SCHEMES:
        return "file://" + (parts.path if parts.scheme else url).rstrip("/")
    return f"{parts.scheme}://{_path_of(url)}"


def _object_store(url: str, scheme: str, what: str) -> AbstractFileSystem:
    import fsspec
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.io import has_fs

    try:
        if has_fs(scheme):
            return ObjectStoragePath(url).fs
        if "@" in urlsplit(url).netloc:
            raise WandbConfigurationError(
                f"The {what} {url!r} names an Airflow connection, and no installed provider opens {scheme}:// with "
                "one. Install the provider of that store, such as apache-airflow-providers-amazon[s3fs]."
            )
        filesystem: Any = fsspec.filesystem(scheme)
    except (ImportError, ValueError) as error:
        raise WandbConfigurationError(
            f"The {what} {url!r} cannot be opened: {error}. Install what reads {scheme}://, or name a folder."
        ) from error
    return filesystem


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
