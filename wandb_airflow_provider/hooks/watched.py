"""What is read again and again: holders of aliases, states of runs, versions of artifacts; many in one request."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbArtifactNotFoundError,
    WandbConfigurationError,
    WandbNotFoundError,
    WandbUnavailableError,
)
from wandb_airflow_provider.registry import PROJECT_PREFIX

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["RegistryView", "SeenVersion", "artifact_type", "newest_versions", "one_version", "run_states"]

_PAGE = 100
_RUNS_PAGE = 500
# wandb asks for 10 seconds what a server can do, and takes no answer for a no.
_SILENT_SECONDS = 9.0


class SeenVersion(NamedTuple):
    """A version as lists tell it: its reference lacks URL and source run, which cost further requests."""

    ref: ArtifactRef
    tags: tuple[str, ...]
    metadata: dict[str, Any]


class RegistryView:
    """
    One registry, whose organization is looked up once.

    :raises WandbUnavailableError: W&B could not be read.
    :raises WandbConfigurationError: no such organization, or a server that cannot be searched.
    """

    def __init__(self, hook: WandbHook, registry: str) -> None:
        self._hook = hook
        self._name = registry
        self._registries = self._find(confirmed=False)
        self.organization = str(self._registries.organization)

    def _find(self, *, confirmed: bool) -> Any:
        began = time.monotonic()
        try:
            with self._hook.translate_errors(f"find the registry {self._name!r}"):
                return self._hook.get_conn().registries(
                    self._hook.connection.organization, filter={"name": f"{PROJECT_PREFIX}{self._name}"}
                )
        except RuntimeError as error:
            # What wandb raises where the server says that it cannot search registries, and just as well where the
            # server fails or is silent.
            if time.monotonic() - began >= _SILENT_SECONDS:
                raise WandbUnavailableError(
                    f"The W&B server of {self._hook.connection} does not tell what it can do. A retry can help."
                ) from error
            if confirmed:
                raise WandbConfigurationError(
                    f"The W&B server of {self._hook.connection} is too old to list what is in registries: {error}"
                ) from error
        self._require_answer()
        return self._find(confirmed=True)

    def _require_answer(self) -> None:
        with self._hook.translate_errors(f"find the registry {self._name!r}"):
            next(iter(self._hook.get_conn().projects(self._hook.entity, per_page=1)), None)

    def holders(self, collections: Collection[str], aliases: Collection[str]) -> list[SeenVersion]:
        """Return every version in the registry that holds one of the aliases: one request a page."""
        search: Any = self._registries
        if len(collections) <= _PAGE:
            search = search.collections(filter={"name": {"$in": sorted(collections)}})
        try:
            with self._hook.translate_errors(f"read the aliases of the registry {self._name!r}"):
                found = search.versions(filter={"alias": {"$in": sorted(aliases)}}, per_page=_PAGE)
                return [_seen(artifact) for artifact in found]
        except WandbNotFoundError as error:
            # A registry that does not exist has no versions; what is not found is the organization.
            raise WandbConfigurationError(
                f"{error} The organization is the connection's field 'organization', or that of its entity."
            ) from error

    def missing(self, collections: Collection[str]) -> dict[str, str]:
        """Return a sentence for each of the collections that does not exist: one request a page, or one more."""
        with self._hook.translate_errors(f"list the collections of the registry {self._name!r}"):
            there = {
                found.name
                for found in self._registries.collections(filter={"name": {"$in": sorted(collections)}})
            }
            absent = sorted(set(collections) - there)
            if not absent:
                return {}
            api = self._hook.get_conn()
            names = (
                {self._name}
                if there
                else {
                    found.name
                    for found in api.registries(
                        self.organization, filter={"name": f"{PROJECT_PREFIX}{self._name}"}
                    )
                }
            )
        where = f"the organization {self.organization!r}, or this key cannot see it ({self._hook.connection})"
        if self._name not in names:
            return dict.fromkeys(absent, f"There is no registry {self._name!r} in {where}.")
        return {
            name: f"There is no collection {name!r} in the registry {self._name!r} of {where}."
            for name in absent
        }


def one_version(hook: WandbHook, path: str) -> SeenVersion | None:
    """
    Return one version by ``[[entity/]project/]name:alias``, in one request.

    :return: None when the artifact or the alias does not exist.
    """
    try:
        with hook.translate_errors(f"read the artifact {path!r}"):
            return _seen(hook.get_conn().artifact(hook.full_path(path)))
    except WandbNotFoundError:
        return None


def artifact_type(hook: WandbHook, path: str) -> str:
    """
    Return the type of an artifact, which lists of its versions need.

    :param path: ``[[entity/]project/]name``.
    :raises WandbArtifactNotFoundError: there is none, or nothing in it is ``latest``.
    """
    found = one_version(hook, f"{path}:latest")
    if found is None:
        raise WandbArtifactNotFoundError(
            f"W&B has no artifact {path!r}, or this key cannot read it ({hook.connection})."
        )
    return found.ref.type


def newest_versions(hook: WandbHook, path: str, type: str, limit: int) -> list[SeenVersion]:
    """
    Return the newest versions of an artifact, newest first: one request for each hundred.

    :param path: ``[[entity/]project/]name``.
    """
    from itertools import islice

    name = hook.full_path(f"{path}:latest").rpartition(":")[0]
    with hook.translate_errors(f"list the versions of {path!r}"):
        found: Iterator[Any] = hook.get_conn().artifacts(type, name, per_page=min(limit, _PAGE))
        return [_seen(artifact) for artifact in islice(found, limit)]


def run_states(hook: WandbHook, entity: str, project: str, ids: Collection[str]) -> dict[str, Any]:
    """
    Return those of the runs that exist, by id, each with ``state``, ``name`` and ``url``: one request a page.

    :return: Nothing when the project does not exist.
    """
    try:
        with hook.translate_errors(f"read the states of runs of {entity}/{project}"):
            api = hook.get_conn()
            # wandb keeps what it has found, and would tell the same states for ever.
            api.flush()  # type: ignore[no-untyped-call]
            runs = api.runs(
                f"{entity}/{project}", filters={"name": {"$in": sorted(ids)}}, per_page=_RUNS_PAGE
            )
            return {run.id: run for run in runs}
    except WandbNotFoundError:
        return {}


def _seen(artifact: Any) -> SeenVersion:
    ref = ArtifactRef(
        entity=artifact.entity,
        project=artifact.project,
        name=artifact.name.partition(":")[0],
        version=artifact.version,
        digest=artifact.digest,
        type=artifact.type,
        size_bytes=artifact.size,
        source=artifact.source_qualified_name if artifact.is_link else None,
        aliases=tuple(artifact.aliases),
    )
    return SeenVersion(ref, tuple(artifact.tags), dict(artifact.metadata))
