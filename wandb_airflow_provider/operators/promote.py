"""Move a registry alias to a version that passed its gate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbError,
    WandbPromotionLostError,
    WandbPromotionRefusedError,
)
from wandb_airflow_provider.operators.alias import AliasOperator
from wandb_airflow_provider.rules import Verdict

if TYPE_CHECKING:
    import wandb
    from airflow.sdk import Context

    from wandb_airflow_provider.audit import ChangeKind
    from wandb_airflow_provider.promotion import PromotionRecord
    from wandb_airflow_provider.registry import RegistryAlias

__all__ = ["WandbPromoteOperator"]

_BASELINE = "verdict"


class WandbPromoteOperator(AliasOperator):
    """
    Give a registry alias to the version that a gate let pass.

    Links the version into ``wandb-registry-<registry>/<collection>`` and moves the alias in one write, reads it
    back, and keeps a record in the version's metadata under ``airflow_promotion``: the verdict, the evaluated run,
    the approval, the previous holder and the task. The decision, and a refusal too, is appended to the collection's
    audit; the intention is there before the alias moves. Promotions to one alias at a time wait for each other, and
    those that began while another version held it are refused. When content with the same digest already holds the
    alias, nothing is moved and ``changed`` is false; a retry completes what the try before began.

    Pushes ``registry``, ``collection``, ``alias``, ``changed``, ``previous``, ``current``, ``candidate``,
    ``approval``, ``audit`` and ``page``, the address of the run with the page that answers why; of a
    dry run ``dry_run`` and ``would_change`` too.

    :param verdict: The verdict that ``WandbMetricGateOperator`` pushed. (templated)
    :param registry: Name of the registry, without the prefix of its project. (templated)
    :param collection: Collection in the registry; W&B creates it when it is new. (templated)
    :param alias: The alias to move, ``production`` for example. (templated)
    :param candidate: The version to promote, when it is not to be taken from the verdict; refused unless it
        has the digest that was judged. (templated)
    :param approval: The output of Airflow's ``ApprovalOperator``. Once given, a missing answer refuses the
        promotion. (templated)
    :param allow_default_approval: Take an approval that nobody gave: Airflow's default answer, when nobody answered
        in time.
    :param audited_verdict: Refuse a verdict that the audit of the collection does not have just so, as a gate writes it
        down whose ``baseline_registry`` and ``baseline_collection`` are these. False for a verdict that other code
        has made: then whoever may write the XCom decides.
    :param stages: Aliases in the order in which a version passes them, ``["dev", "staging", "production"]`` say:
        refused unless a gate wrote down the verdict for ``alias`` itself, and the audit has a promotion of this digest
        to each one before, with a verdict written down for that one, which no rollback or demotion has undone.
    :param note: Free text kept with the promotion. (templated)
    :param expected_holder: Refuse unless this version holds the alias; ``verdict`` for the baseline that the gate
        compared with, so that a version promoted since is not replaced unseen. See :class:`AliasOperator`. (templated)
    :param dry_run: Push what would be changed, and write nothing.
    :raises WandbPromotionRefusedError: the verdict did not pass or is not in the audit, the version is not the one
        that was judged, the approval was refused, by nobody, or older than the verdict, a stage is missing, another
        holder was expected, or this task did it before and the alias has moved since. Not retried.
    :raises WandbPromotionLostError: another change of the alias won, or came after the gate had compared. Not retried.
    :raises WandbConfigurationError: no verdict, or a name that W&B would refuse. Not retried.
    :raises WandbPermissionError: the key may not move the alias. Not retried.
    :raises WandbUnavailableError: W&B could not be reached, or the audit not be written. Retried.
    """

    kind: ClassVar[ChangeKind] = "promotion"
    template_fields: Sequence[str] = (*AliasOperator.template_fields, "verdict", "candidate", "approval")

    def __init__(
        self,
        *,
        verdict: Any,
        candidate: Any = None,
        approval: Any = None,
        allow_default_approval: bool = False,
        audited_verdict: bool = True,
        stages: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.verdict = verdict
        self.candidate = candidate
        self.approval = approval
        self.allow_default_approval = allow_default_approval
        self.audited_verdict = audited_verdict
        self.stages = list(stages)
        self.names_candidate = candidate is not None
        self.needs_approval = approval is not None
        if self.stages and not audited_verdict:
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: with stages, each alias needs a verdict that a gate wrote down for it: leave "
                "out audited_verdict=False."
            )
        if self.stages and "{{" not in self.alias:
            self._stages_before()

    def check(self) -> None:
        """Check everything that can be checked by reading."""
        from wandb_airflow_provider.operators.admission import Admission
        from wandb_airflow_provider.operators.candidate import parse_json, parse_path, read_candidate
        from wandb_airflow_provider.promotion import Approval

        target, stages, judged = self._target, self._stages_before(), parse_json(self.verdict)
        self._verdict = verdict = Verdict.from_json(judged)
        self._amend(
            after=verdict.candidate, verdict=verdict.to_json(), links={"evaluated_run": verdict.run.url}
        )
        if not verdict.passed:
            raise WandbPromotionRefusedError(
                f"{verdict.candidate} is not promoted to {str(target)!r}: its verdict did not pass. {verdict.summary}"
            )
        self._consent = Approval.from_json(parse_json(self.approval)) if self.needs_approval else None
        if self._consent is not None:
            self._amend(approval=self._consent.to_json())
            self._consent.require(verdict.evaluated_at, by_nobody=self.allow_default_approval)
        given = parse_path(self.candidate, "candidate") if self.names_candidate else verdict.candidate
        self._version = read_candidate(self.hook, given)
        self._amend(after=self._version, links={"version_page": self._version.url})
        if self._version.digest != verdict.digest:
            raise WandbPromotionRefusedError(
                f"{self._version} is not promoted to {str(target)!r}: its digest is {self._version.digest!r}, and the "
                f"verdict judged {verdict.candidate} with the digest {verdict.digest!r}. Run the gate on this version."
            )
        self._admission = Admission(self._audit, self._move.entry._replace(verdict=judged))
        if self.audited_verdict:
            self._admission.require_verdict(for_alias=bool(self.stages))
        self._admission.require_stages(stages)

    def plan(self) -> dict[str, Any]:
        """Return what would be done now."""
        holder = self._move.holder()
        held = holder is not None and holder.digest == self._version.digest
        if not held:
            self._admission.require_first(lambda: self._move.describe(holder))
            self._require_holder(holder)
        current = holder if held else self._version
        return {
            "changed": not held,
            "previous": holder.to_json() if holder else None,
            "current": current.to_json() if current else None,
            "candidate": self._version.to_json(),
            "approval": self._consent.to_json() if self._consent else None,
        }

    def execute_in_run(self, context: Context, wandb_run: wandb.Run) -> dict[str, Any]:
        """Announce the promotion, record it, move the alias, verify, and complete the record."""
        from wandb_airflow_provider.promotion import PromotionRecord

        version, move = self._version, self._move
        with self.hook.translate_errors(f"record the use of {version}"):
            wandb_run.use_artifact(version.path)
        metadata = self.hook.artifact_metadata(version)
        found = PromotionRecord.find(metadata, self._target)
        holder = move.holder()
        held = holder is not None and holder.digest == version.digest
        # A try before may have moved the alias and died: its record still knows who held it then.
        resumed = found is not None and found.state == "started" and move.entry.task.recognises(found.task)
        before = found.previous if found is not None and resumed else holder
        if not resumed:
            resumed, known = self._recall(context, version.digest)
            before = known if resumed else before
        if not held:
            self._admission.require_first(lambda: move.describe(holder))
            if not resumed:
                self._require_holder(holder)
        record = (
            found
            if found is not None and held
            else self._record(context, wandb_run, before if resumed or not held else None)
        )
        self._amend(before=before, links={"promotion_run": wandb_run.url})
        if not held:
            with move.announced():
                # Before the move: the previous holder could not be told any more after a crash between the two.
                self._remember(context, version.digest, before)
                self.hook.update_artifact_metadata(version, record.added_to(metadata))
                holder = move.give(version)
                # Only now: others wait until the alias has moved.
                self._amend(after=holder, data=self._used_data())
                entry = move.complete()
        else:
            self._amend(after=holder, data=self._used_data() if resumed else ())
            entry = move.completed_before() or move.complete() if resumed else move.write("unchanged")
        # That of another task is left to its retry, which knows it by this.
        if record.state != "completed" and move.entry.task.recognises(record.task):
            record = record.completed()
            metadata = self.hook.artifact_metadata(version)
            self.hook.update_artifact_metadata(version, record.added_to(metadata))
        assert holder is not None
        changed = not held or resumed
        self._tell_outlets(context, entry)
        with self.hook.translate_errors(f"log the promotion to the W&B run {wandb_run.id!r}"):
            wandb_run.config.update({"promotion": record.to_json()}, allow_val_change=True)  # type: ignore[no-untyped-call]
        self._show(
            wandb_run,
            entry,
            holder,
            {
                "changed": changed,
                "version": holder.path,
                "previous": record.previous.path if record.previous else None,
                "approved_by": self._consent.by if self._consent else None,
            },
        )
        self._forget(context)
        previous = record.previous if changed else holder
        if changed:
            self.log.info("%s now is %s (before: %s).", self._target, holder, previous or "nothing")
        else:
            self.log.info("%s already is %s with the same content; nothing was moved.", self._target, holder)
        return {
            **self._result(wandb_run, changed, previous, holder),
            "candidate": version.to_json(),
            "approval": self._consent.to_json() if self._consent else None,
        }

    def _used_data(self) -> list[str]:
        """Return the paths of the artifacts that the version was made from and measured with."""
        runs, digest = (self._version.source_run, self._verdict.run.path), self._version.digest
        found: list[str] = []
        for path in dict.fromkeys(filter(None, runs)):
            try:
                with self.hook.translate_errors(f"read what the W&B run {path} used"):
                    used = self.hook.get_conn().run(path).used_artifacts()
                    found += [str(one.qualified_name) for one in used if one.digest != digest]
            except WandbError as error:
                # The alias has moved: that it has must be written down, also while this cannot be read.
                self.log.warning("What the version was made from is not written down: %s", error)
        return list(dict.fromkeys(found))

    def _record(
        self, context: Context, wandb_run: wandb.Run, previous: ArtifactRef | None
    ) -> PromotionRecord:
        from wandb_airflow_provider.promotion import PromotionRecord

        return PromotionRecord(
            target=self._target,
            state="started",
            verdict=self._verdict,
            previous=previous,
            approval=self._consent.to_json() if self._consent else None,
            note=self.note,
            task=self._move.entry.task,
            wandb_run=f"{wandb_run.entity}/{wandb_run.project}/{wandb_run.id}",
            at=datetime.now(UTC).isoformat(),
            page=wandb_run.url,
        )

    def _require_holder(self, holder: ArtifactRef | None) -> None:
        if self.expected_holder != _BASELINE:
            self._require_expected(holder)
            return
        baseline = self._verdict.baseline
        if (baseline.digest if baseline else None) != (holder.digest if holder else None):
            raise WandbPromotionLostError(
                f"{self._version} is not promoted to {str(self._target)!r}: the gate compared it with "
                f"{baseline or 'nothing'}, and now {self._move.describe(holder)} holds the alias. The other change "
                "came first and won. Run the gate again."
            )

    def _stages_before(self) -> list[RegistryAlias]:
        from wandb_airflow_provider.registry import RegistryAlias

        if not self.stages:
            return []
        if self.alias not in self.stages or len(set(self.stages)) != len(self.stages):
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: stages are {self.stages!r}; expected different aliases, with the alias "
                f"{self.alias!r} among them."
            )
        before = self.stages[: self.stages.index(self.alias)]
        return [RegistryAlias(self.registry, self.collection, stage) for stage in before]
