"""Give a registry alias back to a version that held it before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbPromotionRefusedError
from wandb_airflow_provider.operators.alias import AliasOperator

if TYPE_CHECKING:
    import wandb
    from airflow.sdk import Context

    from wandb_airflow_provider.audit import ChangeKind

__all__ = ["WandbRollbackOperator"]

_VERSION = re.compile(r"v\d+")


class WandbRollbackOperator(AliasOperator):
    """
    Give a registry alias back to the version that held it before.

    That version is the one recorded when the current holder was promoted, or the one named. A retry
    recognises a rollback that it has already done, and does not go back a second step; neither does clearing
    the task. The rollback is kept in the restored version's metadata under ``airflow_rollback``, and in the
    collection's audit.

    Pushes ``registry``, ``collection``, ``alias``, ``changed``, ``previous``, ``current``, ``audit`` and ``page``, the
    address of the run with the page that answers why; of a dry run ``dry_run`` and ``would_change`` too.

    :param registry: Name of the registry, without the prefix of its project. (templated)
    :param collection: Collection in the registry. (templated)
    :param alias: The alias to move back. (templated)
    :param version: The collection's version to restore, ``v3`` for example, which must have held the alias. Default,
        also for an empty text: the recorded previous holder. (templated)
    :param allow_never_promoted: Take any version of the collection, also one that never held the alias, as far as the
        audit knows.
    :param note: Why, kept with the rollback. (templated)
    :param expected_holder: Refuse unless this version holds the alias; see :class:`AliasOperator`. (templated)
    :param dry_run: Push what would be changed, and write nothing.
    :raises WandbPromotionRefusedError: nothing holds the alias, no previous holder is recorded, its content
        has changed, the named version never held the alias, another holder was expected, or this task did it before
        and the alias has moved since. Not retried.
    :raises WandbConfigurationError: ``version`` is no version's number, but an alias for example. Not retried.
    :raises WandbPromotionLostError: another change of the alias won. Not retried.
    :raises WandbArtifactNotFoundError: the version to restore does not exist any more. Not retried.
    :raises WandbUnavailableError: W&B could not be reached, or the audit not be written. Retried.
    """

    kind: ClassVar[ChangeKind] = "rollback"
    template_fields: Sequence[str] = (*AliasOperator.template_fields, "version")

    def __init__(
        self, *, version: str | None = None, allow_never_promoted: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.allow_never_promoted = allow_never_promoted
        if "{{" not in str(version):
            self.check()

    def check(self) -> None:
        """Refuse what is not the number of a version: an alias may point to another one by then."""
        if self.version and not _VERSION.fullmatch(str(self.version)):
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: version is {self.version!r}; expected the number of a version, 'v3' for "
                "example."
            )

    def plan(self) -> dict[str, Any]:
        """Return what would be done now."""
        holder = self._held()
        self._require_expected(holder)
        restored = self._to_restore(holder, self.hook.get_artifact(holder.source or holder.path))
        return {
            "changed": restored.digest != holder.digest,
            "previous": holder.to_json(),
            "current": restored.to_json(),
        }

    def execute_in_run(self, context: Context, wandb_run: wandb.Run) -> dict[str, Any]:
        """Find the version to restore, move the alias to it, and keep why."""
        move = self._move
        self._amend(links={"rollback_run": wandb_run.url})
        holder = self._held()
        source = self.hook.get_artifact(holder.source or holder.path)
        done = self._rollback_of(source)
        if done is not None:
            restored, overthrown, changed = holder, ArtifactRef.from_json(done["from"]), True
            self._amend(before=overthrown, after=restored)
            entry = move.completed_before() or move.complete()
        else:
            self._amend(before=holder)
            self._require_first(holder)
            self._require_expected(holder)
            restored, overthrown = self._to_restore(holder, source), holder
            changed = restored.digest != holder.digest
            self._amend(after=restored, links={"version_page": restored.url})
            if changed:
                origin = self.hook.get_artifact(restored.source or restored.path)
                with move.announced():
                    self._keep(origin, holder, wandb_run.url)
                    restored = move.give(origin)
                    self._amend(after=restored)
                    entry = move.complete()
            else:
                entry = move.write("unchanged")
        self._tell_outlets(context, entry)
        self._show(
            wandb_run,
            entry,
            restored,
            {"changed": changed, "version": restored.path, "previous": overthrown.path},
        )
        self.log.info("%s now is %s (before: %s).", self._target, restored, overthrown)
        return self._result(wandb_run, changed, overthrown, restored)

    def _held(self) -> ArtifactRef:
        holder = self._move.holder()
        if holder is None:
            raise WandbPromotionRefusedError(
                f"Nothing holds the alias {str(self._target)!r}, so that there is nothing to roll back."
            )
        return holder

    def _to_restore(self, holder: ArtifactRef, source: ArtifactRef) -> ArtifactRef:
        from wandb_airflow_provider.promotion import PromotionRecord

        target = self._target
        if self.version:
            named = self.hook.get_artifact(
                f"{self.hook.registry_project(target.registry)}/{target.collection}:{self.version}"
            )
            if not self.allow_never_promoted and named.digest != holder.digest:
                self._require_held_before(named)
            return named
        record = PromotionRecord.find(self.hook.artifact_metadata(source), target)
        # Two promotions of one version at once may lose one of their records, and never an entry of the audit.
        previous = record.previous if record else self._audit.trail().holder_before(target, holder.digest)
        if previous is None:
            found = "was the first to hold it" if record else "was not promoted by this package"
            raise WandbPromotionRefusedError(
                f"No previous holder of {str(target)!r} is recorded: {holder} {found}. Name the version to restore "
                "with version='v…'."
            )
        restored = self.hook.get_artifact(previous)
        if restored.digest != previous.digest:
            raise WandbPromotionRefusedError(
                f"{restored} has the digest {restored.digest!r}, and {previous.digest!r} when it held "
                f"{str(target)!r}: it is not the same content any more."
            )
        return restored

    def _require_held_before(self, named: ArtifactRef) -> None:
        """Refuse a version that nobody ever let have the alias."""
        from wandb_airflow_provider.promotion import PromotionRecord

        target = self._target
        if self._audit.trail().ever_held(target, named.digest):
            return
        record = PromotionRecord.find(self.hook.artifact_metadata(named.source or named), target)
        if record is None or record.state != "completed":
            raise WandbPromotionRefusedError(
                f"{named} never held {str(target)!r}, as far as the audit {self._audit.path!r} knows: a rollback gives "
                "an alias back, and no gate let this version have it. Promote it through a gate, or set "
                "allow_never_promoted=True where that is meant."
            )

    def _rollback_of(self, source: ArtifactRef) -> dict[str, Any] | None:
        """Return what this task, in a try before, has kept with the version that holds the alias now."""
        from wandb_airflow_provider.promotion import ROLLBACK_KEY, TaskMark

        kept: dict[str, Any] = self.hook.artifact_metadata(source).get(ROLLBACK_KEY, {})
        value: dict[str, Any] | None = kept.get(str(self._target))
        mine = value is not None and self._move.entry.task.recognises(TaskMark.from_json(value["task"]))
        return value if mine else None

    def _keep(self, origin: ArtifactRef, holder: ArtifactRef, page: str | None) -> None:
        """Keep with the version, before it gets the alias, who loses it to this task."""
        from wandb_airflow_provider.promotion import ROLLBACK_KEY

        kept = self.hook.artifact_metadata(origin).get(ROLLBACK_KEY, {})
        entry = {
            "from": holder.to_json(),
            "task": self._move.entry.task.to_json(),
            "note": self.note,
            "at": datetime.now(UTC).isoformat(),
            "page": page,
        }
        self.hook.update_artifact_metadata(origin, {ROLLBACK_KEY: {**kept, str(self._target): entry}})
