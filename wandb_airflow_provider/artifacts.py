"""Artifact names, and the reference that passes between tasks. Pure: nothing here talks to W&B."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbInvalidNameError

__all__ = [
    "ArtifactRef",
    "split_artifact_path",
    "validate_alias",
    "validate_artifact_name",
    "validate_artifact_type",
]

MAX_ARTIFACT_NAME_LENGTH = 128
MAX_METADATA_KEYS = 100
PROJECT_PREFIX = "wandb-registry-"
"""What the project of a registry is named, before the registry's own name."""
PENDING_VERSION = "pending"
"""Version of an artifact that was logged while W&B was unavailable."""
_NAME = r"[a-zA-Z0-9_\-.]+\Z"
_TYPE = r"[a-zA-Z0-9_\-.]+( +[a-zA-Z0-9_\-.]+)*\Z"
_VERSION = r"v[0-9]+\Z"


class ArtifactRef(NamedTuple):
    """
    One version of an artifact, by value: safe in XCom, in a verdict and in a log.

    For a version linked into a registry, ``entity``, ``project``, ``name`` and ``version`` are the
    registry's own, and ``source`` is the version it links to. ``digest`` is the same on both sides.

    :param version: ``v0``, ``v1``, ...; never an alias, which could move.
    :param digest: W&B's digest over the manifest, equal for identical content.
    :param source: ``entity/project/name:version`` of the version that a run logged.
    :param source_run: ``entity/project/run_id`` of the run that logged it, when W&B knows one.
    :param aliases: The aliases at the time of reading, for people; they may have moved since.
    """

    entity: str
    project: str
    name: str
    version: str
    digest: str
    type: str
    size_bytes: int = 0
    url: str | None = None
    source: str | None = None
    source_run: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """``entity/project/name:version``."""
        return f"{self.entity}/{self.project}/{self.name}:{self.version}"

    def __str__(self) -> str:
        return self.path

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that lands in XCom."""
        return self._asdict() | {"path": self.path, "aliases": list(self.aliases)}

    @classmethod
    def from_json(cls, value: Any) -> ArtifactRef:
        """
        Rebuild a reference from its JSON value.

        :raises WandbConfigurationError: not such a value, or its version is not pinned.
        """
        if not isinstance(value, Mapping):
            raise WandbConfigurationError(
                f"Expected an artifact reference as pushed by this package's operators, got {value!r}."
            )
        given = {k: v for k, v in value.items() if k in cls._fields}
        missing = {"entity", "project", "name", "version", "digest", "type"} - given.keys()
        if missing:
            raise WandbConfigurationError(f"The artifact reference {dict(value)!r} lacks {sorted(missing)}.")
        if given["version"] == PENDING_VERSION:
            raise WandbConfigurationError(
                f"The artifact {given['name']!r} has no version: W&B was unavailable when the run "
                f"{given.get('source_run')} logged it. If the run waits in a spool, sync that; then clear the task "
                "that logged it, or name the version."
            )
        if not re.match(_VERSION, str(given["version"])):
            raise WandbConfigurationError(
                f"The artifact reference names version {given['version']!r}; only a pinned one such as 'v3' is "
                "accepted, because an alias could move between two tasks."
            )
        given["aliases"] = tuple(given.get("aliases") or ())
        return cls(**given)


def validate_artifact_name(name: str) -> str:
    """
    Return the name if W&B accepts it for an artifact or a collection.

    :raises WandbInvalidNameError: empty, longer than 128 characters, or a character other than letters,
        digits, ``_``, ``-`` and ``.``.
    """
    if not isinstance(name, str) or not re.match(_NAME, name) or len(name) > MAX_ARTIFACT_NAME_LENGTH:
        raise WandbInvalidNameError(
            f"W&B refuses the artifact name {name!r}: use 1 to {MAX_ARTIFACT_NAME_LENGTH} letters, digits, "
            "'_', '-' or '.'."
        )
    return name


def validate_artifact_type(type: str) -> str:
    """
    Return the type if W&B accepts it for an artifact that a user logs.

    :raises WandbInvalidNameError: empty, longer than 128 characters, a character other than letters, digits,
        ``_``, ``-``, ``.`` and inner spaces, or a type that W&B keeps for itself.
    """
    if not isinstance(type, str) or not re.match(_TYPE, type) or len(type) > MAX_ARTIFACT_NAME_LENGTH:
        raise WandbInvalidNameError(
            f"W&B refuses the artifact type {type!r}: use 1 to {MAX_ARTIFACT_NAME_LENGTH} letters, digits, '_', '-', "
            "'.' or inner spaces."
        )
    if type == "job" or type.startswith("wandb-"):
        raise WandbInvalidNameError(f"W&B keeps the artifact type {type!r} for itself; use another one.")
    return type


def validate_alias(alias: str) -> str:
    """
    Return the alias if W&B accepts it.

    :raises WandbInvalidNameError: empty, longer than 128 characters, containing ``/`` or ``:``, or in the
        form of a version number, which W&B assigns itself.
    """
    if not isinstance(alias, str) or not alias.strip() or len(alias) > 128 or set(alias) & set("/:"):
        raise WandbInvalidNameError(
            f"W&B refuses the alias {alias!r}: use 1 to 128 characters without '/' or ':'."
        )
    if re.match(_VERSION, alias):
        raise WandbInvalidNameError(
            f"The alias {alias!r} looks like a version number, which W&B assigns itself."
        )
    return alias


def split_artifact_path(path: str) -> tuple[str | None, str | None, str, str]:
    """
    Split ``[[entity/]project/]name[:alias]`` into entity, project, name and alias (default ``latest``).

    :raises WandbInvalidNameError: too many parts, an empty part, or a name that W&B refuses.
    """
    head, _, alias = str(path).partition(":")
    parts = head.split("/")
    if len(parts) > 3 or not all(parts):
        raise WandbInvalidNameError(
            f"{path!r} is not an artifact path: expected '[[entity/]project/]name[:alias]'."
        )
    name = validate_artifact_name(parts[-1])
    entity = parts[0] if len(parts) == 3 else None
    project = parts[-2] if len(parts) >= 2 else None
    alias = alias or "latest"
    if not re.match(_VERSION, alias):
        validate_alias(alias)
    return entity, project, name, alias
