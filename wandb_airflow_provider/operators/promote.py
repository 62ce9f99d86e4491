"""Move a registry alias to a version that passed its gate, and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbPromotionRefusedError
from wandb_airflow_provider.operators.alias import AliasOperator
from wandb_airflow_provider.operators.candidate import parse_json, parse_path, read_candidate
from wandb_airflow_provider.rules import Verdict

if TYPE_CHECKING:
    import wandb
    from airflow.sdk import Context

    from wandb_airflow_provider.promotion import PromotionRecord, TaskMark

__all__ = ["WandbPromoteOperator", "WandbRollbackOperator"]


class WandbPromoteOperator(AliasOperator):
    """
    Give a registry alias to the version that a gate let pass.

    Links the version into ``wandb-registry-<registry>/<collection>``, moves the alias, reads it back, and
    keeps a record in the version's metadata under ``airflow_promotion``: the verdict, the evaluated run, the
    approval, the previous holder and the task. When content with the same digest already holds the alias,
    nothing is moved and ``changed`` is false; a retry therefore completes what the try before began.

    Pushes ``registry``, ``collection``, ``alias``, ``changed``, ``previous``, ``current``, ``candidate`` and
    ``approval``.

    :param verdict: The verdict that ``WandbMetricGateOperator`` pushed. (templated)
    :param registry: Name of the registry, without the prefix of its project. (templated)
    :param collection: Collection in the registry; W&B creates it when it is new. (templated)
    :param alias: The alias to move, ``production`` for example. (templated)
    :param candidate: The version to promote, when it is not to be taken from the verdict; refused unless it
        has the digest that was judged. (templated)
    :param approval: The output of Airflow's ``ApprovalOperator``. Once given, a missing answer refuses the
        promotion. (templated)
    :param note: Free text kept with the promotion. (templated)
    :raises WandbPromotionRefusedError: the verdict did not pass, the version is not the one that was judged,
        the approval was refused, or another promotion won. Not retried.
    :raises WandbConfigurationError: no verdict, or a name that W&B would refuse. Not retried.
    :raises WandbPermissionError: the key may not move the alias. Not retried.
    :raises WandbUnavailableError: W&B could not be reached. Retried.
    """

    template_fields: Sequence[str] = (*AliasOperator.template_fields, "verdict", "candidate", "approval")

    def __init__(self, *, verdict: Any, candidate: Any = None, approval: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.verdict = verdict
        self.candidate = candidate
        self.approval = approval
        self.names_candidate = candidate is not None
        self.needs_approval = approval is not None

    def check(self) -> None:
        """Check everything that can be checked by reading."""
        from wandb_airflow_provider.promotion import Approval

        target = self._target
        self._verdict = verdict = Verdict.from_json(parse_json(self.verdict))
        if not verdict.passed:
            raise WandbPromotionRefusedError(
                f"{verdict.candidate} is not promoted to {str(target)!r}: its verdict did not pass. {verdict.summary}"
            )
        self._consent = Approval.from_json(parse_json(self.approval)) if self.needs_approval else None
        given = parse_path(self.candidate, "candidate") if self.names_candidate else verdict.candidate
        self._version = read_candidate(self.hook, given)
        if self._version.digest != verdict.digest:
            raise WandbPromotionRefusedError(
                f"{self._version} is not promoted to {str(target)!r}: its digest is {self._version.digest!r}, and the "
                f"verdict judged {verdict.candidate} with the digest {verdict.digest!r}. Run the gate on this version."
            )

    def execute_in_run(self, context: Context, wandb_run: wandb.Run) -> dict[str, Any]:
        """Record the intent, move the alias, verify, and complete the record."""
        from wandb_airflow_provider.promotion import PromotionRecord

        version = self._version
        with self.hook.translate_errors(f"record the use of {version}"):
            wandb_run.use_artifact(version.path)
        mark = self._mark(context)
        metadata = self.hook.artifact_metadata(version)
        found = PromotionRecord.find(metadata, self._target)
        holder = self._holder()
        held = holder is not None and holder.digest == version.digest
        # A try before may have moved the alias and died: its record still knows who held it then.
        resumed = found is not None and found.state == "started" and found.task == mark
        record = (
            found
            if found is not None and held
            else PromotionRecord(
                target=self._target,
                state="started",
                verdict=self._verdict,
                previous=None if held else holder,
                approval=self._consent.to_json() if self._consent else None,
                note=self.note,
                task=mark,
                wandb_run=f"{wandb_run.entity}/{wandb_run.project}/{wandb_run.id}",
                at=datetime.now(UTC).isoformat(),
            )
        )
        if holder is None or not held:
            # Before the move: the previous holder could not be told any more after a crash between the two.
            self.hook.update_artifact_metadata(version, record.added_to(metadata))
            holder = self._move(version)
        if record.state != "completed":
            record = record.completed()
            self.hook.update_artifact_metadata(version, record.added_to(metadata))
        changed = not held or resumed
        self._log_to_wandb(wandb_run, record, holder, changed)
        previous = record.previous if changed else holder
        return {
            **self._result(changed, previous, holder),
            "candidate": version.to_json(),
            "approval": self._consent.to_json() if self._consent else None,
        }

    def _log_to_wandb(
        self, wandb_run: wandb.Run, record: PromotionRecord, holder: ArtifactRef, changed: bool
    ) -> None:
        if changed:
            self.log.info("%s now is %s (before: %s).", record.target, holder, record.previous or "nothing")
        else:
            self.log.info("%s already is %s with the same content; nothing was moved.", record.target, holder)
        with self.hook.translate_errors(f"log the promotion to the W&B run {wandb_run.id!r}"):
            wandb_run.config.update({"promotion": record.to_json()}, allow_val_change=True)  # type: ignore[no-untyped-call]
            wandb_run.summary.update(
                {
                    "promotion/changed": changed,
                    "promotion/alias": str(record.target),
                    "promotion/version": holder.path,
                    "promotion/previous": record.previous.path if record.previous else None,
                    "promotion/approved_by": self._consent.by if self._consent else None,
                }
            )


class WandbRollbackOperator(AliasOperator):
    """
    Give a registry alias back to the version that held it before.

    That version is the one recorded when the current holder was promoted, or the one named. A retry
    recognises a rollback that it has already done, and does not go back a second step; neither does clearing
    the task. The rollback is kept in the restored version's metadata under ``airflow_rollback``.

    Pushes ``registry``, ``collection``, ``alias``, ``changed``, ``previous`` and ``current``.

    :param registry: Name of the registry, without the prefix of its project. (templated)
    :param collection: Collection in the registry. (templated)
    :param alias: The alias to move back. (templated)
    :param version: The collection's version to restore, ``v3`` for example. Default: the recorded previous
        holder. (templated)
    :param note: Why, kept with the rollback. (templated)
    :raises WandbPromotionRefusedError: nothing holds the alias, no previous holder is recorded, its content
        has changed, or another promotion won. Not retried.
    :raises WandbArtifactNotFoundError: the version to restore does not exist any more. Not retried.
    :raises WandbUnavailableError: W&B could not be reached. Retried.
    """

    template_fields: Sequence[str] = (*AliasOperator.template_fields, "version")

    def __init__(self, *, version: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version

    def execute_in_run(self, context: Context, wandb_run: wandb.Run) -> dict[str, Any]:
        """Find the version to restore, move the alias to it, and keep why."""
        target, mark = self._target, self._mark(context)
        holder = self._holder()
        if holder is None:
            raise WandbPromotionRefusedError(
                f"Nothing holds the alias {str(target)!r}, so that there is nothing to roll back."
            )
        source = self.hook.get_artifact(holder.source or holder.path)
        done = self._rollback_of(source, mark)
        if done is not None:
            restored, overthrown, changed = holder, ArtifactRef.from_json(done["from"]), True
        else:
            restored = self._to_restore(holder, source)
            overthrown, changed = holder, restored.digest != holder.digest
        if changed and done is None:
            origin = self.hook.get_artifact(restored.source or restored.path)
            self._keep(origin, holder, mark)
            restored = self._move(origin)
        self.log.info("%s now is %s (before: %s).", target, restored, overthrown)
        with self.hook.translate_errors(f"log the rollback to the W&B run {wandb_run.id!r}"):
            wandb_run.summary.update(
                {
                    "rollback/changed": changed,
                    "rollback/alias": str(target),
                    "rollback/version": restored.path,
                    "rollback/previous": overthrown.path,
                }
            )
        return self._result(changed, overthrown, restored)

    def _to_restore(self, holder: ArtifactRef, source: ArtifactRef) -> ArtifactRef:
        from wandb_airflow_provider.promotion import PromotionRecord

        target = self._target
        if self.version:
            return self.hook.get_artifact(
                f"{self.hook.registry_project(target.registry)}/{target.collection}:{self.version}"
            )
        record = PromotionRecord.find(self.hook.artifact_metadata(source), target)
        if record is None or record.previous is None:
            found = "was the first to hold it" if record else "was not promoted by this package"
            raise WandbPromotionRefusedError(
                f"No previous holder of {str(target)!r} is recorded: {holder} {found}. Name the version to restore "
                "with version='v…'."
            )
        restored = self.hook.get_artifact(record.previous)
        if restored.digest != record.previous.digest:
            raise WandbPromotionRefusedError(
                f"{restored} has the digest {restored.digest!r}, and {record.previous.digest!r} when it held "
                f"{str(target)!r}: it is not the same content any more."
            )
        return restored

    def _rollback_of(self, source: ArtifactRef, mark: TaskMark) -> dict[str, Any] | None:
        from wandb_airflow_provider.promotion import ROLLBACK_KEY, TaskMark

        kept: dict[str, Any] = self.hook.artifact_metadata(source).get(ROLLBACK_KEY, {})
        value: dict[str, Any] | None = kept.get(str(self._target))
        return value if value is not None and TaskMark.from_json(value["task"]) == mark else None

    def _keep(self, origin: ArtifactRef, holder: ArtifactRef, mark: TaskMark) -> None:
        from wandb_airflow_provider.promotion import ROLLBACK_KEY

        kept = self.hook.artifact_metadata(origin).get(ROLLBACK_KEY, {})
        entry = {
            "from": holder.to_json(),
            "task": mark.to_json(),
            "note": self.note,
            "at": datetime.now(UTC).isoformat(),
        }
        self.hook.update_artifact_metadata(origin, {ROLLBACK_KEY: {**kept, str(self._target): entry}})
