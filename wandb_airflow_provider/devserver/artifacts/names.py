"""Which names, aliases, tags and metadata are accepted; everything else is refused with status 400."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

NAME_LIMIT = 128
METADATA_KEYS_LIMIT = 100
TAGS_LIMIT = 20
REGISTRY_PREFIX = "wandb-registry-"

_SEQUENCE_NAME = re.compile(r"[a-zA-Z0-9_\-.]+")
_URL_CHARS = frozenset("/\\#?%:\r\n")
_TYPE = re.compile(r"[-\w]+( *[-.\w]+)*")
_TAG = re.compile(r"[-\w]+( +[-\w]+)*")
_VERSION = re.compile(r"v(\d+)")


def check_sequence_name(name: str) -> str:
    """Return the name of an artifact to log, or refuse it."""
    _check_length("Artifact name", name)
    if not _SEQUENCE_NAME.fullmatch(name):
        raise GraphQLError(
            f"Invalid artifact name {name!r}: only letters, digits, dashes, underscores and dots are allowed."
        )
    return name


def check_portfolio_name(name: str) -> str:
    """Return the name of a collection to link to, or refuse it."""
    _check_length("Collection name", name)
    bad = sorted(_URL_CHARS.intersection(name))
    if bad or not name.strip():
        found = f"it contains {', '.join(map(repr, bad))}" if bad else "it is blank"
        raise GraphQLError(f"Invalid collection name {name!r}: {found}.")
    return name


def check_type(name: str) -> str:
    """Return an artifact type, or refuse it."""
    _check_length("Artifact type", name)
    if not _TYPE.fullmatch(name):
        raise GraphQLError(
            f"Invalid artifact type {name!r}: only letters, digits, dashes, underscores, dots and inner spaces "
            "are allowed."
        )
    return name


def check_alias(alias: str) -> str:
    """Return an alias to set, or refuse it; ``v0``, ``v1`` ... always name versions."""
    _check_length("Alias", alias)
    bad = sorted({"/", ":"}.intersection(alias))
    if bad:
        raise GraphQLError(f"Invalid alias {alias!r}: it contains {', '.join(map(repr, bad))}.")
    if _VERSION.fullmatch(alias):
        raise GraphQLError(f"Invalid alias {alias!r}: names like 'v3' are reserved for version numbers.")
    return alias


def check_tags(tags: Iterable[Any] | None) -> list[str]:
    """Return the names out of tag inputs, without repeats, or refuse them."""
    names = list(dict.fromkeys(str(tag["tagName"]) for tag in tags or ()))
    if len(names) > TAGS_LIMIT:
        raise GraphQLError(f"Too many tags: {len(names)} given, at most {TAGS_LIMIT} are allowed.")
    for name in names:
        _check_length("Tag", name)
        if not _TAG.fullmatch(name):
            raise GraphQLError(
                f"Invalid tag {name!r}: only letters, digits, dashes, underscores and inner spaces are allowed."
            )
    return names


def check_metadata(text: str | None) -> str | None:
    """Return the JSON text of an artifact's metadata, or refuse it."""
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise GraphQLError(f"Invalid artifact metadata: {error}.") from error
    if value is None:
        return None
    if not isinstance(value, dict):
        raise GraphQLError(f"Invalid artifact metadata: a JSON object is needed, not {type(value).__name__}.")
    if len(value) > METADATA_KEYS_LIMIT:
        raise GraphQLError(
            f"Invalid artifact metadata: {len(value)} keys given, at most {METADATA_KEYS_LIMIT} are allowed."
        )
    return text


def check_project_name(name: str) -> str:
    """Return the name of a registry's project, or refuse it."""
    _check_length("Registry name", name)
    bad = sorted(_URL_CHARS.intersection(name))
    if bad:
        raise GraphQLError(f"Invalid registry name {name!r}: it contains {', '.join(map(repr, bad))}.")
    if name.startswith(REGISTRY_PREFIX) and name == REGISTRY_PREFIX:
        raise GraphQLError("Invalid registry name: it is empty.")
    return name


def version_number(text: str) -> int | None:
    """Return 3 for ``v3``, None for anything that is not a version."""
    match = _VERSION.fullmatch(text)
    return int(match.group(1)) if match else None


def split_name(name: str) -> tuple[str, str]:
    """Split ``collection:alias``; without an alias, it is ``latest``."""
    collection, _, alias = name.partition(":")
    return collection, alias or "latest"


def is_registry(project: str) -> bool:
    """Tell whether a project name is that of a registry."""
    return project.startswith(REGISTRY_PREFIX) and project != REGISTRY_PREFIX


def _check_length(what: str, value: str) -> None:
    if not value:
        raise GraphQLError(f"{what} is empty.")
    if len(value) > NAME_LIMIT:
        raise GraphQLError(
            f"{what} {value[:40]!r}... has {len(value)} characters, at most {NAME_LIMIT} are allowed."
        )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")
