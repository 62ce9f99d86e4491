"""The address of an alias in a W&B registry. Pure: nothing here talks to W&B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from wandb_airflow_provider.artifacts import validate_alias, validate_artifact_name
from wandb_airflow_provider.exceptions import WandbInvalidNameError

__all__ = ["PROJECT_PREFIX", "RegistryAlias"]

PROJECT_PREFIX = "wandb-registry-"
_SCHEME = "wandb"
_NETLOC = "registry"


@dataclass(frozen=True, order=True)
class RegistryAlias:
    """
    An alias of a registry collection; prints as ``registry/collection:alias``.

    :param registry: Name of the registry as W&B shows it; its project's prefix ``wandb-registry-`` is dropped.
    :param collection: Name of the collection in it.
    :param alias: The alias, ``production`` for example; never a version.
    :raises WandbInvalidNameError: a name that W&B would refuse.
    """

    registry: str
    collection: str
    alias: str

    def __post_init__(self) -> None:
        if isinstance(self.registry, str):
            object.__setattr__(self, "registry", self.registry.removeprefix(PROJECT_PREFIX))
        validate_artifact_name(self.registry)
        validate_artifact_name(self.collection)
        validate_alias(self.alias)

    def __str__(self) -> str:
        return f"{self.registry}/{self.collection}:{self.alias}"

    def uri(self, **query: str) -> str:
        """Return ``wandb://registry/<registry>/<collection>?alias=<alias>``, with further query fields."""
        fields = urlencode(sorted({"alias": self.alias, **query}.items()))
        return f"{_SCHEME}://{_NETLOC}/{quote(self.registry)}/{quote(self.collection)}?{fields}"

    @classmethod
    def from_uri(cls, uri: str) -> RegistryAlias:
        """
        Read the address back from its URI.

        :raises WandbInvalidNameError: not such a URI.
        """
        parts = urlsplit(uri)
        path = [unquote(part) for part in parts.path.strip("/").split("/")]
        alias = parse_qs(parts.query).get("alias", [])
        if (parts.scheme, parts.netloc) != (_SCHEME, _NETLOC) or len(path) != 2 or len(alias) != 1:
            raise WandbInvalidNameError(
                f"{uri!r} is not the URI of a registry alias: expected "
                "'wandb://registry/<registry>/<collection>?alias=<alias>'."
            )
        return cls(path[0], path[1], alias[0])

    def to_json(self) -> dict[str, str]:
        """Return the JSON value."""
        return {"registry": self.registry, "collection": self.collection, "alias": self.alias}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RegistryAlias:
        """Read the address back from its JSON value."""
        return cls(value["registry"], value["collection"], value["alias"])
