"""The address of an alias in a W&B registry or project. Pure: nothing here talks to W&B."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self, TypeAlias
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from wandb_airflow_provider.artifacts import PROJECT_PREFIX, validate_alias, validate_artifact_name
from wandb_airflow_provider.exceptions import WandbInvalidNameError

__all__ = ["PROJECT_PREFIX", "AliasTarget", "ProjectAlias", "RegistryAlias"]

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
        return cls._parsed(uri)[0]

    @classmethod
    def normal_uri(cls, uri: str) -> str:
        """
        Return the one form that all URIs of an alias through a connection have.

        :raises WandbInvalidNameError: not such a URI.
        """
        target, conn = cls._parsed(uri)
        return target.uri(**({"conn": conn} if conn else {}))

    @classmethod
    def _parsed(cls, uri: str) -> tuple[RegistryAlias, str | None]:
        parts = urlsplit(uri)
        path = [unquote(part) for part in parts.path.strip("/").split("/")]
        query = parse_qs(parts.query, keep_blank_values=True)
        alias, conn = query.pop("alias", []), query.pop("conn", [])
        if (
            (parts.scheme, parts.netloc) != (_SCHEME, _NETLOC)
            or len(path) != 2
            or len(alias) != 1
            or len(conn) > 1
            or not all(conn)
            or query
            or parts.fragment
        ):
            raise WandbInvalidNameError(
                f"{uri!r} is not the URI of a registry alias: expected "
                "'wandb://registry/<registry>/<collection>?alias=<alias>', with '&conn=<connection id>' for another "
                "connection than the default one."
            )
        return cls(path[0], path[1], alias[0]), conn[0] if conn else None

    def to_json(self) -> dict[str, str]:
        """Return the JSON value."""
        return {"registry": self.registry, "collection": self.collection, "alias": self.alias}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RegistryAlias:
        """Read the address back from its JSON value."""
        return cls(value["registry"], value["collection"], value["alias"])


class _ProjectNames(NamedTuple):
    entity: str | None
    project: str
    collection: str
    alias: str


class ProjectAlias(_ProjectNames):
    """
    An alias of an artifact of a project; prints as ``[entity/]project/collection:alias``.

    :param entity: Team or user; None for the connection's.
    :param collection: Name of the artifact.
    :param alias: The alias, ``best`` for example; never a version.
    :raises WandbInvalidNameError: a name that W&B would refuse.
    """

    __slots__ = ()

    def __new__(cls, entity: str | None, project: str, collection: str, alias: str) -> Self:
        for part in (entity, project):
            if part is not None and (
                not isinstance(part, str) or not part.strip() or set(part) & set("/:?#%")
            ):
                raise WandbInvalidNameError(f"{part!r} is not the name of a W&B entity or project.")
        if project is None:
            raise WandbInvalidNameError(f"The artifact {collection!r} needs the name of its project.")
        return super().__new__(
            cls, entity, project, validate_artifact_name(collection), validate_alias(alias)
        )

    def __str__(self) -> str:
        return f"{self.path}:{self.alias}"

    @property
    def path(self) -> str:
        """``[entity/]project/collection``."""
        return "/".join(filter(None, (self.entity, self.project, self.collection)))

    def to_json(self) -> dict[str, str]:
        """Return the JSON value; without an entity where none is named."""
        value = {"project": self.project, "collection": self.collection, "alias": self.alias}
        return {"entity": self.entity, **value} if self.entity else value


AliasTarget: TypeAlias = RegistryAlias | ProjectAlias
