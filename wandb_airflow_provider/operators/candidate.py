"""The version a gate judges and a promotion moves: from a template's value to what W&B has now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.artifacts import ArtifactRef, split_artifact_path
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["parse_json", "parse_path", "read_candidate"]


def parse_json(value: Any) -> Any:
    """Return the value, decoded when a template rendered it to JSON text; other text is left as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise WandbConfigurationError(
            f"Expected JSON, got {value[:200]!r}. Pass the upstream task's output itself, or render it with "
            "'| tojson'."
        ) from error


def parse_path(value: Any, argument: str) -> ArtifactRef | str:
    """
    Read an argument that names an artifact version, without asking W&B.

    :param value: The JSON value of an :class:`ArtifactRef`, what ``by_reference`` gave, or
        ``[[entity/]project/]name:alias``.
    :raises WandbConfigurationError: neither of the two.
    """
    from wandb_airflow_provider.xcom.stored_value import StoredValue

    value = value.artifact_path if isinstance(value, StoredValue) else parse_json(value)
    if isinstance(value, ArtifactRef):
        return value
    if isinstance(value, Mapping):
        return ArtifactRef.from_json(value)
    if isinstance(value, str) and value.strip():
        split_artifact_path(value)
        return value
    raise WandbConfigurationError(
        f"Argument {argument!r} names no artifact: got {value!r}. Pass the output of the task that logged it, or "
        "'entity/project/name:version'."
    )


def read_candidate(hook: WandbHook, given: ArtifactRef | str) -> ArtifactRef:
    """
    Return the version as W&B has it now, digest included.

    :raises WandbArtifactNotFoundError: no such version or alias.
    """
    if isinstance(given, ArtifactRef):
        return hook.get_artifact(given)
    entity, project, name, alias = split_artifact_path(given)
    return hook.get_artifact(f"{entity or hook.entity}/{project or hook.project}/{name}:{alias}")
