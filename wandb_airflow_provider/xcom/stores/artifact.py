"""Values as W&B artifacts: with their files, or with references to an object store that keeps these."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import (
    WandbNotFoundError,
    WandbXComIntegrityError,
    WandbXComRefusedError,
)
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.codecs.base import Staged
from wandb_airflow_provider.xcom.index import INDEX_NAME, MAX_INDEX_BYTES, Index, check_file
from wandb_airflow_provider.xcom.reference import ARTIFACT_TYPE, Producer, StoredReference, dag_run_of
from wandb_airflow_provider.xcom.settings import Limits
from wandb_airflow_provider.xcom.stores.stored_file import StoredFile
from wandb_airflow_provider.xcom.workspace import passing_folder

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = [
    "DAG_RUNS",
    "TTL_DAYS",
    "add_files",
    "add_references",
    "age_of",
    "fetch",
    "log_value",
    "new_value",
    "prolong",
]

DAG_RUNS = "dag_runs"
"""Key of the metadata for the ids of DAG runs whose aliases do not tell them."""
TTL_DAYS = "ttl_days"
"""Key of the metadata for how long a version lasts after the latest XCom of it."""
# A name that no file of a value has.
_FOLDER_INDEX = f"{INDEX_NAME}/folder"
_FEW_FILES = 4
_NEW = timedelta(minutes=1)


def new_value(producer: Producer, metadata: Mapping[str, Any]) -> wandb.Artifact:
    """Return the artifact of a value, which nothing has logged yet, for :func:`add_files` or :func:`add_references`."""
    from wandb_airflow_provider import sdk

    name = producer.artifact_name
    days = settings.ttl_days() if settings.purge() == "ttl" else None
    about = {**metadata, **({TTL_DAYS: days} if days else {})}
    artifact = sdk.new_artifact(name, ARTIFACT_TYPE, description=None, metadata=about)
    if days:
        artifact.ttl = timedelta(days=days)
    return artifact


def add_references(artifact: wandb.Artifact, files: Mapping[str, StoredFile]) -> None:
    """Add references to the files of a value that the user's object store keeps."""
    for path, file in files.items():
        if file.etag is None:
            local = file.uri.startswith("file:")
            # With the digest that wandb itself gives to a file: under the names of a value that W&B keeps, this one
            # would be the same version to W&B, which then keeps no files of it.
            name = _FOLDER_INDEX if local and path == INDEX_NAME else path
            # A local file is read for its digest, as wandb does when it reads the reference.
            artifact.add_reference(file.uri, name=name, checksum=local)
            continue
        # For a reference to the store itself wandb would set up a client of its own and ask for what is known here,
        # which takes longer than storing 10 MB. So another file is referred to first, this one, and then replaced.
        (entry,) = artifact.add_reference(Path(__file__).as_uri(), name=path, checksum=False)
        facts: dict[str, Any] = {"ref": file.uri, "digest": file.etag, "size": file.size}
        facts["extra"] = {"etag": file.etag} | ({"versionID": file.version} if file.version else {})
        for name, value in facts.items():
            setattr(entry, name, value)


def add_files(artifact: wandb.Artifact, staged: Staged, index: bytes, folder: Path) -> None:
    """
    Add the files of a value that W&B keeps.

    :param folder: For the index; it must be there until the artifact is logged.
    """
    (folder / INDEX_NAME).write_bytes(index)
    artifact.add_file(str(folder / INDEX_NAME), policy="immutable", skip_cache=True)
    for path in staged.files:
        artifact.add_file(str(staged.root / path), name=path, policy="immutable", skip_cache=True)


def log_value(wandb_run: wandb.Run, artifact: wandb.Artifact, producer: Producer) -> tuple[str, str | None]:
    """
    Log a value in a run, and return the artifact's path and URL when W&B has committed it.

    Content that W&B has gives its existing version, which is then kept for this DAG run, too.

    :raises WandbUnavailableError: W&B cannot be reached. Retried.
    """
    from wandb_airflow_provider import sdk

    name = producer.artifact_name
    dag_run_id = artifact.metadata.get("dag_run_id")
    with sdk.translate_run_errors(f"log the XCom {name!r}", wandb_run):
        stored = wandb_run.log_artifact(artifact, aliases=[producer.alias]).wait()
        version = stored.version
        told = _tell_dag_run(stored, producer, dag_run_id)
        if prolong(stored) or told:
            stored.save()
    # The artifact would ask W&B twice for its URL.
    url = (
        f"{wandb_run.project_url}/artifacts/{ARTIFACT_TYPE}/{name}/{version}"
        if wandb_run.project_url
        else None
    )
    return f"{wandb_run.entity}/{wandb_run.project}/{name}:{version}", url


def _tell_dag_run(artifact: wandb.Artifact, producer: Producer, dag_run_id: object) -> bool:
    """
    Write down which DAG run an alias means that is a digest, in a version that another DAG run stored.

    :param dag_run_id: As it may be sent. One that a policy changes would not be found again, and is left out.
    :returns: Whether the artifact has to be saved.
    """
    if dag_run_of(producer.alias, producer.deployment) is not None or dag_run_id != producer.dag_run_id:
        return False
    told = artifact.metadata.get(DAG_RUNS)
    told = told if isinstance(told, dict) else {}
    if dag_run_id in (artifact.metadata.get("dag_run_id"), told.get(producer.alias)):
        return False
    artifact.metadata = {**artifact.metadata, DAG_RUNS: {**told, producer.alias: dag_run_id}}
    return True


def prolong(artifact: wandb.Artifact) -> bool:
    """
    Let a version of which there is a new XCom last as long as a new one would. W&B counts from when it was made.

    :returns: Whether the artifact has to be saved.
    """
    days = artifact.metadata.get(TTL_DAYS)
    if settings.purge() != "ttl":
        if days is None:
            return False
        # It was to have an end, and what is stored now is to have none.
        artifact.ttl = None
        artifact.metadata = {key: value for key, value in artifact.metadata.items() if key != TTL_DAYS}
        return True
    # Without one it was stored to stay, or someone has decided so since; of an inherited one wandb may not tell.
    end = getattr(artifact, "ttl", None) if days is not None else None
    needed = age_of(artifact) + timedelta(days=settings.ttl_days())
    if end is None or needed - end < _NEW:
        return False
    artifact.ttl = needed
    return True


def age_of(artifact: wandb.Artifact) -> timedelta:
    """Return how long ago a version was made."""
    created = datetime.fromisoformat(str(artifact.created_at).replace("Z", "+00:00"))
    return datetime.now(tz=UTC) - (created if created.tzinfo else created.replace(tzinfo=UTC))


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
