"""The address of an alias in a W&B registry. Pure: nothing here talks to W&B."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from wandb_airflow_provider.artifacts import validate_alias, validate_artifact_name
from wandb_airflow_provider.exceptions import WandbInvalidNameError

__all__ = ["PROJECT_PREFIX", "RegistryAlias"]

PROJECT_PREFIX = "wandb-registry-"
_SCHEME = "wandb"
_NETLOC = "registry"


class _Names(NamedTuple):
    registry: str
    collection: str
    alias: str


class RegistryAlias(_Names):
    """
    An alias of a registry collection; prints as ``registry/collection:alias``.

    :param registry: Name of the registry as W&B shows it; its project's prefix ``wandb-registry-`` is dropped.
    :param collection: Name of the collection in it.
    :param alias: The alias, ``production`` for example; never a version.
    :raises WandbInvalidNameError: a name that W&B would refuse.
    """

    __slots__ = ()

    def __new__(cls, registry: str, collection: str, alias: str) -> Self:
        if isinstance(registry, str):
            registry = registry.removeprefix(PROJECT_PREFIX)
        return super().__new__(
            cls, validate_artifact_name(registry), validate_artifact_name(collection), validate_alias(alias)
        )

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
