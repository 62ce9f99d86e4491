"""The base of the operators that move a registry alias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbPermissionError, WandbPromotionRefusedError
from wandb_airflow_provider.operators.base import WandbBaseOperator
from wandb_airflow_provider.registry import RegistryAlias

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.promotion import TaskMark

__all__ = ["AliasOperator"]


class AliasOperator(WandbBaseOperator):
    """What promotion and rollback share: the alias, and moving it with a look at the result."""

    template_fields: Sequence[str] = (
        *WandbBaseOperator.template_fields,
        "registry",
        "collection",
        "alias",
        "note",
    )

    def __init__(
        self, *, registry: str, collection: str, alias: str, note: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.registry = registry
        self.collection = collection
        self.alias = alias
        self.note = note
        if not any("{{" in str(name) for name in (registry, collection, alias)):
            RegistryAlias(registry, collection, alias)

    @property
    def _target(self) -> RegistryAlias:
        return RegistryAlias(self.registry, self.collection, self.alias)

    def _holder(self) -> ArtifactRef | None:
        target = self._target
        return self.hook.get_alias(target.registry, target.collection, target.alias)

    def _move(self, source: ArtifactRef) -> ArtifactRef:
        """
        Link the version, give it the alias, and read back who holds it.

        W&B has no compare-and-swap on aliases: of two that move it at once, the one that lost notices here.
        """
        target = self._target
        try:
            self.hook.link_to_registry(source, target.registry, target.collection, [target.alias])
        except WandbPermissionError as error:
            raise WandbPermissionError(
                f"W&B refused to move the alias {str(target)!r} to {source}: {error} If the alias is protected, only a "
                "registry admin may move it: use a connection with such a key, or unprotect the alias."
            ) from error
        holder = self._holder()
        if holder is None or holder.digest != source.digest:
            raise WandbPromotionRefusedError(
                f"The alias {str(target)!r} was moved to {source} (digest {source.digest!r}), and now is held by "
                f"{self._describe(holder)}: another promotion ran at the same time and won. Not retried, because that "
                "would overwrite it."
            )
        return holder

    def _describe(self, holder: ArtifactRef | None) -> str:
        from wandb_airflow_provider.promotion import PromotionRecord

        if holder is None:
            return "nothing"
        metadata = self.hook.artifact_metadata(holder.source or holder)
        record = PromotionRecord.find(metadata, self._target)
        by = f", promoted by {record.task}" if record else ""
        return f"{holder} (digest {holder.digest!r}{by})"

    def _result(self, changed: bool, previous: ArtifactRef | None, current: ArtifactRef) -> dict[str, Any]:
        return {
            **self._target.to_json(),
            "changed": changed,
            "previous": previous.to_json() if previous else None,
            "current": current.to_json(),
        }

    def _mark(self, context: Context) -> TaskMark:
        from wandb_airflow_provider.promotion import TaskMark

        ti = context["ti"]
        index = ti.map_index
        return TaskMark(ti.dag_id, ti.run_id, ti.task_id, -1 if index is None else index)
