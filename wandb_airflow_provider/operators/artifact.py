"""Log and download artifacts as tasks of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from wandb_airflow_provider.artifacts import split_artifact_path
from wandb_airflow_provider.hooks.artifacts import as_ref, check_artifact, download_artifact, log_artifact
from wandb_airflow_provider.operators.base import WandbBaseOperator

if TYPE_CHECKING:
    import wandb
    from airflow.sdk import Context

__all__ = ["WandbDownloadArtifactOperator", "WandbLogArtifactOperator"]


class WandbLogArtifactOperator(WandbBaseOperator):
    """
    Log files, folders and references as one artifact, in a run of its own.

    Returns the committed version as JSON: path, version, digest, type, size in bytes, URL.

    :param name: Artifact name. (templated)
    :param type: Artifact type, such as ``dataset`` or ``model``. (templated)
    :param paths: Files and folders that this worker can read. (templated)
    :param references: Addresses such as ``s3://bucket/key``; only address and digest are stored. (templated)
    :param aliases: Beside ``latest``. (templated)
    :param metadata: At most 100 keys. (templated)
    :param timeout: Longest wait for the upload in seconds; None waits until it is done.
    :raises WandbConfigurationError: a refused name, a missing path, or nothing to log. Not retried.
    :raises WandbUnavailableError: W&B cannot be reached. Retried; content already sent is not sent again.
    """

    template_fields: Sequence[str] = (
        *WandbBaseOperator.template_fields,
        "name",
        "type",
        "paths",
        "references",
        "aliases",
        "metadata",
        "description",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **WandbBaseOperator.template_fields_renderers,
        "metadata": "json",
    }

    def __init__(
        self,
        *,
        name: str,
        type: str,
        paths: str | Iterable[str] = (),
        references: str | Iterable[str] = (),
        aliases: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        description: str | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.type = type
        self.paths = paths
        self.references = references
        self.aliases = aliases
        self.metadata = metadata
        self.description = description
        self.timeout = timeout

    def check(self) -> None:
        """Refuse what could not be logged."""
        check_artifact(
            self.name,
            type=self.type,
            paths=self.paths,
            references=self.references,
            aliases=self.aliases,
            metadata=self.metadata,
        )

    def execute_in_run(self, context: Context, wandb_run: wandb.Run) -> dict[str, Any]:
        """Log the artifact and return its reference."""
        ref = log_artifact(
            wandb_run,
            self.name,
            type=self.type,
            paths=self.paths,
            references=self.references,
            aliases=self.aliases,
            metadata=self.metadata,
            description=self.description,
            timeout=self.timeout,
        )
        self.log.info("Logged %s (digest %s, %d bytes).", ref, ref.digest, ref.size_bytes)
        return ref.to_json()


class WandbDownloadArtifactOperator(WandbBaseOperator):
    """
    Download an artifact version to a folder, and record the use in a run of its own.

    Returns the version as JSON with ``folder`` added. The folder is on this worker: a task on another worker
    sees it only when both mount it; otherwise download inside the task that needs it, with
    :func:`~wandb_airflow_provider.hooks.artifacts.download_artifact`.

    :param artifact: A reference from XCom, ``by_reference`` of a task's output that became an artifact, or
        ``[[entity/]project/]name:alias``. (templated)
    :param folder: Created when missing. (templated)
    :param part: Download only the paths that start with this prefix. (templated)
    :raises WandbArtifactNotFoundError: no such artifact, version or alias. Not retried.
    :raises WandbConfigurationError: the content differs from the reference's digest. Not retried.
    :raises WandbUnavailableError: W&B cannot be reached. Retried.
    """

    template_fields: Sequence[str] = (*WandbBaseOperator.template_fields, "artifact", "folder", "part")

    def __init__(
        self, *, artifact: str | Mapping[str, Any], folder: str, part: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.artifact: Any = artifact
        self.folder = folder
        self.part = part

    def check(self) -> None:
        """Refuse what names no artifact."""
        from wandb_airflow_provider.xcom.stored_value import StoredValue

        if isinstance(self.artifact, StoredValue):
            self.artifact = self.artifact.artifact_path
        split_artifact_path(self.artifact if isinstance(self.artifact, str) else as_ref(self.artifact).path)

    def execute_in_run(self, context: Context, wandb_run: wandb.Run) -> dict[str, Any]:
        """Download and return the reference of the version that was used."""
        if isinstance(self.artifact, str):
            ref = self.hook.get_artifact(self.artifact)
        else:
            ref = as_ref(self.artifact)
        folder = download_artifact(wandb_run, ref, self.folder, part=self.part)
        return {**ref.to_json(), "folder": str(folder)}
