"""Values as W&B artifacts: with their files, or with references to an object store that keeps these."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import (
    WandbNotFoundError,
    WandbXComIntegrityError,
    WandbXComRefusedError,
)
from wandb_airflow_provider.hooks.wandb import artifact_ref
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.codecs.base import Staged
from wandb_airflow_provider.xcom.index import INDEX_NAME, MAX_INDEX_BYTES, Index, check_file
from wandb_airflow_provider.xcom.reference import ARTIFACT_TYPE, Producer, StoredReference
from wandb_airflow_provider.xcom.settings import Limits
from wandb_airflow_provider.xcom.workspace import passing_folder

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["add_files", "fetch", "log_value", "new_value"]

_FEW_FILES = 4


def new_value(producer: Producer, metadata: Mapping[str, Any], uris: Mapping[str, str]) -> wandb.Artifact:
    """
    Return the artifact of a value, which nothing has logged yet.

    :param uris: Where the object store has the files; none for a value that W&B keeps, see :func:`add_files`.
    """
    from wandb_airflow_provider import sdk

    name = producer.artifact_name
    artifact = sdk.new_artifact(name, ARTIFACT_TYPE, description=None, metadata=dict(metadata))
    if settings.purge() == "ttl":
        artifact.ttl = timedelta(days=settings.ttl_days())
    for path, uri in uris.items():
        # The place names the content already, so that nothing has to be read for a digest.
        artifact.add_reference(uri, name=path, checksum=False)
    return artifact


def add_files(artifact: wandb.Artifact, staged: Staged, index: bytes, folder: Path) -> None:
    """
    Add the files of a value that W&B keeps.

    :param folder: For the index; it must be there until the artifact is logged.
    """
    (folder / INDEX_NAME).write_bytes(index)
    artifact.add_file(str(folder / INDEX_NAME), policy="immutable", skip_cache=True)
    for path in staged.files:
        artifact.add_file(str(staged.root / path), name=path, policy="immutable", skip_cache=True)


def log_value(wandb_run: wandb.Run, artifact: wandb.Artifact, producer: Producer) -> ArtifactRef:
    """
    Log a value in a run, and wait until W&B has committed it; content that W&B has gives its existing version.

    :raises WandbUnavailableError: W&B cannot be reached. Retried.
    """
    from wandb_airflow_provider import sdk

    with sdk.translate_run_errors(f"log the XCom {producer.artifact_name!r}", wandb_run):
        aliases = [producer.alias] if producer.alias else None
        logged = wandb_run.log_artifact(artifact, aliases=aliases).wait()
        return artifact_ref(logged, source_run=f"{wandb_run.entity}/{wandb_run.project}/{wandb_run.id}")


def fetch(hook: WandbHook, ref: StoredReference, folder: Path, limits: Limits) -> Index:
    """
    Download a value that W&B keeps into a folder, and check all of it.

    :raises WandbXComIntegrityError: it is gone, or is not what was stored.
    :raises WandbXComRefusedError: it is no value of this backend, or more than ``limits`` allow.
    :raises WandbUnavailableError: W&B cannot be reached. Retried.
    """
    what = f"The stored XCom {ref}"
    try:
        with hook.translate_errors(f"read the stored XCom {ref}"):
            artifact = hook.get_conn().artifact(str(ref.artifact))
            entries = artifact.manifest.entries
    except WandbNotFoundError as error:
        raise WandbXComIntegrityError(
            f"{what} is gone from W&B: it was removed, or its time was over. Clear the task that pushed it. ({error})"
        ) from error
    if artifact.type != ARTIFACT_TYPE:
        raise WandbXComRefusedError(f"{what} is an artifact of the type {artifact.type!r}, and no XCom.")
    elsewhere = [path for path, entry in entries.items() if entry.ref is not None]
    if elsewhere:
        raise WandbXComRefusedError(f"{what} leads to {elsewhere[:5]} outside of W&B.")
    if INDEX_NAME not in entries or (entries[INDEX_NAME].size or 0) > MAX_INDEX_BYTES:
        raise WandbXComRefusedError(
            f"{what} has no index that could be read, and so is none of this backend."
        )
    with hook.translate_errors(f"download the stored XCom {ref}"), passing_folder() as beside:
        path = artifact.get_entry(INDEX_NAME).download(root=str(beside), skip_cache=True)
        index = Index.from_bytes(Path(path).read_bytes(), ref.digest, limits, what)
    sizes = {path: entry.size or 0 for path, entry in entries.items() if path != INDEX_NAME}
    wrong = sorted(path for path in index.files.keys() | sizes if sizes.get(path) != _size(index, path))
    if wrong:
        path = wrong[0]
        raise WandbXComIntegrityError(
            f"{what}: {path!r} has {sizes.get(path)} bytes in W&B (digest {_digest(entries, path)}), and its index "
            f"says {_size(index, path)} (digest {index.files[path].sha256 if path in index.files else None})."
        )
    with hook.translate_errors(f"download the stored XCom {ref}"):
        if len(index.files) <= _FEW_FILES:
            for name in index.files:
                artifact.get_entry(name).download(root=str(folder), skip_cache=True)
        else:
            artifact.download(root=str(folder), skip_cache=True)
            (folder / INDEX_NAME).unlink()
    for name in index.folders:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, facts in index.files.items():
        check_file(folder / name, facts, what)
    return index


def _size(index: Index, path: str) -> int | None:
    return index.files[path].size if path in index.files else None


def _digest(entries: Mapping[str, Any], path: str) -> str | None:
    return str(entries[path].digest) if path in entries else None
