"""A file in an object store, as a W&B artifact refers to it: so that W&B's own download finds and checks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from wandb_airflow_provider.object_storage import Place
from wandb_airflow_provider.xcom.stores.transfer import speaks

__all__ = ["StoredFile", "stored_file"]


class StoredFile(NamedTuple):
    """
    Where a file is.

    :param uri: In the form that wandb knows the store by.
    :param etag: What the store says of its content, and wandb compares; None where wandb has no use for one.
    :param version: Of a bucket that keeps versions.
    """

    uri: str
    size: int
    etag: str | None = None
    version: str | None = None


def stored_file(place: Place, path: str, facts: Mapping[str, Any]) -> StoredFile:
    """
    Return a file as artifacts refer to it.

    :param path: As the file system takes it.
    :param facts: What its listing says.
    """
    etag, version = facts.get("ETag", facts.get("etag")), None
    if speaks(place, "s3"):
        uri, version = f"s3://{path}", facts.get("VersionId")
    elif speaks(place, "gs", "gcs"):
        uri, version = f"gs://{path}", facts.get("generation")
    elif speaks(place, "abfs", "az"):
        uri, version = f"{_azure_account(place.fs)}/{path}", facts.get("version_id")
    else:
        return StoredFile(str(place.fs.unstrip_protocol(path)), int(facts["size"]))
    return StoredFile(
        uri,
        int(facts["size"]),
        str(etag).strip('"') if etag else None,
        str(version) if version and version != "null" else None,
    )


def _azure_account(fs: Any) -> str:
    """Return the URL of an account: a connection string tells it to Azure's client alone. It has no token in it."""
    return f"{fs.service_client.scheme}://{fs.service_client.primary_hostname}"
