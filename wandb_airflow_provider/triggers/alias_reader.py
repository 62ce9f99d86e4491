"""Reads aliases: all of a registry in one request a page, those of a project one by one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from wandb_airflow_provider.hooks.watched import RegistryView, SeenVersion, one_version
from wandb_airflow_provider.registry import ProjectAlias, RegistryAlias
from wandb_airflow_provider.triggers.reader import WandbReader
from wandb_airflow_provider.waiting.alias import Observation

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["ProjectAliasReader", "RegistryAliasReader"]


class RegistryAliasReader(WandbReader):
    """
    Reads aliases of one registry.

    Whether a collection exists is looked up when nothing in it holds the alias: with each read where that is asked
    for, and otherwise once, so that it can be told.
    """

    observation = Observation

    def __init__(self, wandb_conn_id: str, registry: str) -> None:
        super().__init__(wandb_conn_id)
        self._registry = registry
        self._view: RegistryView | None = None
        self._looked_up: dict[str, str | None] = {}

    def _forget(self) -> None:
        super()._forget()
        self._view = None

    def _read(
        self, hook: WandbHook, targets: Sequence[RegistryAlias], strict: Collection[RegistryAlias]
    ) -> Mapping[RegistryAlias, Observation]:
        self._view = self._view or RegistryView(hook, self._registry)
        wanted = {target.collection for target in targets}
        held: dict[tuple[str, str], SeenVersion] = {}
        there: set[str] = set()
        for seen in self._view.holders(wanted, {target.alias for target in targets}):
            there.add(seen.ref.name)
            held |= {(seen.ref.name, alias): seen for alias in seen.ref.aliases}
        self._look_up(self._view, targets, strict, there)
        found = {}
        for target in targets:
            version = held.get((target.collection, target.alias))
            if version is None:
                found[target] = Observation(missing=self._looked_up.get(target.collection))
            else:
                found[target] = Observation(version.ref, version.tags, version.metadata)
        return found

    def _look_up(
        self,
        view: RegistryView,
        targets: Sequence[RegistryAlias],
        strict: Collection[RegistryAlias],
        there: set[str],
    ) -> None:
        wanted = {target.collection for target in targets} - there
        asked = {target.collection for target in targets if target in strict} - there
        unknown = asked | (wanted - self._looked_up.keys())
        if unknown:
            missing = view.missing(unknown)
            self._looked_up |= {name: missing.get(name) for name in unknown}
        self._looked_up |= dict.fromkeys(there)


class ProjectAliasReader(WandbReader):
    """Reads aliases of artifacts of projects: W&B's public API has no list of them, so each is a request."""

    observation = Observation

    def _read(
        self, hook: WandbHook, targets: Sequence[ProjectAlias], strict: Collection[ProjectAlias]
    ) -> Mapping[ProjectAlias, Observation]:
        found = {}
        for target in targets:
            version = one_version(hook, str(target))
            if version is not None:
                found[target] = Observation(version.ref, version.tags, version.metadata)
            elif target in strict and one_version(hook, f"{target.path}:latest") is None:
                sentence = (
                    f"W&B has no artifact {target.path!r}, or this key cannot read it ({hook.connection})."
                )
                found[target] = Observation(missing=sentence)
            else:
                found[target] = Observation()
        return found
