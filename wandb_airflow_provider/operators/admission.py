"""What the audit of a collection says for and against a promotion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbPromotionRefusedError

if TYPE_CHECKING:
    from wandb_airflow_provider.audit import AuditEntry
    from wandb_airflow_provider.hooks.audit_log import AuditLog
    from wandb_airflow_provider.registry import RegistryAlias

__all__ = ["Admission"]


class Admission:
    """
    Whether a version may have an alias, by what was written down before.

    :param audit: Read once, now.
    :param entry: The promotion: its task, the version as ``after``, and the verdict just as the task was given it.
    """

    def __init__(self, audit: AuditLog, entry: AuditEntry) -> None:
        self._trail = audit.trail()
        self._entry = entry
        # What a redaction policy keeps back was kept back of the gate's entry too.
        self._verdict: Mapping[str, Any] = audit.sent(entry)["verdict"] or {}

    def require_verdict(self, *, for_alias: bool) -> None:
        """
        Refuse a verdict that no gate wrote down.

        :param for_alias: Whether it must have been given for the very alias of the promotion.
        """
        found, target = self._trail.verdict_targets(self._verdict), self._entry.target
        if not found:
            raise WandbPromotionRefusedError(
                f"{self._start}: the audit {self._trail.path!r} does not have its verdict as one that passed, so that "
                "nothing shows that a gate gave it. A WandbMetricGateOperator writes it there when its "
                f"baseline_registry is {target.registry!r} and its baseline_collection {target.collection!r}. Give the "
                "gate these, or set audited_verdict=False if other code made the verdict."
            )
        if for_alias and target not in found:
            others = " and ".join(sorted(repr(str(one)) for one in found))
            raise WandbPromotionRefusedError(
                f"{self._start}: its verdict was given for {others}, and with stages each alias needs one of its own. "
                f"Judge the version by a gate with baseline_alias={target.alias!r}."
            )

    def require_stages(self, stages: Sequence[RegistryAlias]) -> None:
        """Refuse a version that has not passed each of these."""
        digest = self._verdict.get("digest", "")
        found = [self._trail.stage_problem(stage, digest) for stage in stages]
        problems = [problem for problem in found if problem]
        if problems:
            order = " → ".join(one.alias for one in (*stages, self._entry.target))
            raise WandbPromotionRefusedError(
                f"{self._start}, because it {', and '.join(problems)}. The stages are {order}; the audit is "
                f"{self._trail.path!r}."
            )

    def require_first(self, describe: Callable[[], str]) -> None:
        """
        Refuse to do again what this task has done with this verdict, now that the alias has moved on.

        :param describe: Returns who holds it, in words.
        """
        entry = self._entry
        done = self._trail.promotion_by(entry.task, entry.target, self._verdict)
        if done is None:
            return
        version = done.after.version if done.after else "v…"
        raise WandbPromotionRefusedError(
            f"{self._start} a second time: this very task gave it the alias at {done.at} (v{done.number} of the "
            f"audit), and now {describe()} has it. Clearing a task does not undo what was decided since. To give the "
            f"alias back, use WandbRollbackOperator with version={version!r}; for a new decision, clear the gate too."
        )

    @property
    def _start(self) -> str:
        return f"{self._entry.after} is not promoted to {str(self._entry.target)!r}"
