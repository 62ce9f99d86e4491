"""Artifacts inside an open run: log files, folders and references; download with a lineage edge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.artifacts import (
    MAX_METADATA_KEYS,
    PENDING_VERSION,
    ArtifactRef,
    split_artifact_path,
    validate_alias,
    validate_artifact_name,
    validate_artifact_type,
)
from wandb_airflow_provider.exceptions import (
    WandbArtifactNotFoundError,
    WandbConfigurationError,
    WandbNotFoundError,
)
from wandb_airflow_provider.hooks.wandb import artifact_ref

if TYPE_CHECKING:
    import wandb

__all__ = ["download_artifact", "log_artifact"]

StrPath = str | PathLike[str]


def log_artifact(
    wandb_run: wandb.Run,
    name: str,
    *,
    type: str,
    paths: StrPath | Iterable[StrPath] = (),
    references: str | Iterable[str] = (),
    aliases: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    description: str | None = None,
    timeout: float | None = None,
) -> ArtifactRef:
    """
    Log files, folders and references as one artifact of the run, and wait until W&B has committed it.

    Content that W&B has already gives its existing version; aliases then move to that one. A folder's content
    goes to the artifact's top; references (``s3://``, ``gs://``, ``https://``, ``file://``) record address and
    digest, not the bytes.

    :param name: Letters, digits, ``_``, ``-`` and ``.``; at most 128.
    :param paths: Local files and folders.
    :param aliases: Beside ``latest``, which W&B moves by itself.
    :param metadata: At most 100 keys.
    :param timeout: Longest wait for the upload in seconds; None waits until it is done.
    :return: The committed version with its digest. In a run that is offline, or not recorded, because W&B was
        unavailable: a reference with the version ``pending``, which no other task accepts.
    :raises WandbConfigurationError: a name, type or alias that W&B refuses, a path or reference that does not
        exist, metadata that is no JSON, or nothing to log. Nothing has been sent.
    """
    from wandb_airflow_provider import sdk
    from wandb_airflow_provider.privacy import PrivacyGate

    aliases = list(aliases)
    found, uris = check_artifact(
        name, type=type, paths=paths, references=references, aliases=aliases, metadata=metadata
    )
    privacy = PrivacyGate()
    about = None if description is None else privacy.text(description)
    artifact = _with_metadata(name, type, about, privacy.mapping("metadata", metadata or {}))
    for path in found:
        if path.is_dir():
            artifact.add_dir(str(path))
        else:
            artifact.add_file(str(path))
    for uri in uris:
        _add_reference(artifact, name, uri)
    if not artifact.manifest.entries:
        raise WandbConfigurationError(
            f"Artifact {name!r} has nothing to log: there is no file in {[str(path) for path in found] + uris}."
        )
    with sdk.translate_run_errors(f"log the artifact {name!r}", wandb_run):
        logged = wandb_run.log_artifact(artifact, aliases=aliases or None)
        if wandb_run.offline or wandb_run.disabled:
            return _pending(wandb_run, artifact)
        logged.wait(timeout=None if timeout is None else round(timeout))
        return artifact_ref(logged, source_run=f"{wandb_run.entity}/{wandb_run.project}/{wandb_run.id}")


def check_artifact(
    name: str,
    *,
    type: str,
    paths: StrPath | Iterable[StrPath],
    references: str | Iterable[str],
    aliases: Iterable[str],
    metadata: Mapping[str, Any] | None,
) -> tuple[list[Path], list[str]]:
    """
    Refuse what :func:`log_artifact` could not log, without asking W&B, and return the paths and references.

    :raises WandbConfigurationError: a name, type or alias that W&B refuses, a missing path, too many metadata keys,
        or nothing to log.
    """
    validate_artifact_name(name)
    validate_artifact_type(type)
    for alias in aliases:
        validate_alias(alias)
    found = [Path(path) for path in _listed(paths)]
    uris = [str(uri) for uri in _listed(references)]
    if not found and not uris:
        raise WandbConfigurationError(f"Artifact {name!r} has nothing to log: pass paths or references.")
    missing = [str(path) for path in found if not path.exists()]
    if missing:
        raise WandbConfigurationError(f"Artifact {name!r}: {missing} do not exist on this worker.")
    if len(metadata or {}) > MAX_METADATA_KEYS:
        raise WandbConfigurationError(
            f"Artifact {name!r} has {len(metadata or {})} metadata keys; W&B keeps at most {MAX_METADATA_KEYS}."
        )
    return found, uris


def download_artifact(
    wandb_run: wandb.Run,
    artifact: str | ArtifactRef | Mapping[str, Any],
    folder: StrPath,
    *,
    part: str | None = None,
) -> Path:
    """
    Record that the run uses an artifact version, and download it into a folder.

    :param artifact: A reference from XCom, or ``[[entity/]project/]name:alias``.
    :param folder: Created when missing.
    :param part: Download only the paths that start with this prefix.
    :return: The folder.
    :raises WandbArtifactNotFoundError: no such artifact, version or alias.
    :raises WandbConfigurationError: the content differs from the reference's digest.
    """
    from wandb_airflow_provider import sdk

    ref = None if isinstance(artifact, str) else as_ref(artifact)
    path = ref.path if ref is not None else str(artifact)
    split_artifact_path(path)
    action = f"download the artifact {path!r}"
    try:
        with sdk.translate_run_errors(action, wandb_run):
            used = wandb_run.use_artifact(path)
    except WandbNotFoundError as error:
        raise WandbArtifactNotFoundError(str(error)) from error
    with sdk.translate_run_errors(action, wandb_run):
        if ref is not None and used.digest != ref.digest:
            raise WandbConfigurationError(
                f"Artifact {path!r} has the digest {used.digest!r} in W&B, and {ref.digest!r} in the reference given: "
                "they are not the same content."
            )
        return Path(used.download(root=str(folder), path_prefix=part))


def _pending(wandb_run: wandb.Run, artifact: wandb.Artifact) -> ArtifactRef:
    """Return the reference of an artifact that has no version yet: W&B gives it one when the run is synced."""
    path = f"{wandb_run.entity}/{wandb_run.project}/{wandb_run.id}"
    return ArtifactRef(
        entity=str(wandb_run.entity),
        project=str(wandb_run.project),
        name=artifact.name.partition(":")[0],
        version=PENDING_VERSION,
        digest=artifact.digest,
        type=artifact.type,
        size_bytes=artifact.size,
        source_run=path if wandb_run.offline else None,
    )


def as_ref(value: ArtifactRef | Mapping[str, Any]) -> ArtifactRef:
    """Accept a reference or its JSON value."""
    return value if isinstance(value, ArtifactRef) else ArtifactRef.from_json(value)


def _with_metadata(
    name: str, type: str, description: str | None, metadata: Mapping[str, Any]
) -> wandb.Artifact:
    from wandb_airflow_provider import sdk

    try:
        return sdk.new_artifact(name, type, description=description, metadata=dict(metadata))
    except (TypeError, ValueError) as error:
        raise WandbConfigurationError(f"Artifact {name!r} has metadata that is no JSON: {error}.") from error


def _add_reference(artifact: wandb.Artifact, name: str, uri: str) -> None:
    try:
        artifact.add_reference(uri)
    except (ValueError, FileNotFoundError) as error:
        raise WandbConfigurationError(f"Artifact {name!r} cannot refer to {uri!r}: {error}") from error


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | PathLike) else list(value)
