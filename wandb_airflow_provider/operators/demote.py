"""Take a registry alias from the version that holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbPromotionLostError
from wandb_airflow_provider.operators.alias import AliasOperator

if TYPE_CHECKING:
    import wandb
    from airflow.sdk import Context

    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.audit import ChangeKind

__all__ = ["WandbDemoteOperator"]


class WandbDemoteOperator(AliasOperator):
    """
    Take a registry alias from the version that holds it; nothing holds it then.

    The version stays in the registry. The decision is appended to the collection's audit, the intention before the
    alias is taken. Where nothing holds the alias, nothing is done and ``changed`` is false; a retry completes what
    the try before began.

    Pushes ``registry``, ``collection``, ``alias``, ``changed``, ``previous``, ``current`` (None), ``audit`` and
    ``page``, the address of the run with the page that answers why; of a dry run ``dry_run`` and ``would_change`` too.

    :param registry: Name of the registry, without the prefix of its project. (templated)
    :param collection: Collection in the registry. (templated)
    :param alias: The alias to take away. (templated)
    :param reason: Why; kept with the decision. (templated as ``note``)
    :param expected_holder: Refuse unless this version holds the alias; see :class:`AliasOperator`. (templated)
    :param dry_run: Push what would be changed, and write nothing.
    :raises WandbPromotionRefusedError: another holder was expected, or this task did it before and another version has
        got the alias since. Not retried.
    :raises WandbPromotionLostError: another change of the alias won. Not retried.
    :raises WandbConfigurationError: no reason. Not retried.
    :raises WandbPermissionError: the key may not take the alias away. Not retried.
    :raises WandbUnavailableError: W&B could not be reached, or the audit not be written. Retried.
    """

    kind: ClassVar[ChangeKind] = "demotion"

    def __init__(self, *, reason: str, **kwargs: Any) -> None:
        super().__init__(note=reason, **kwargs)

    def check(self) -> None:
        """Refuse a demotion without a reason."""
        if not str(self.note or "").strip():
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: reason is empty. Say why {str(self._target)!r} is taken from its holder."
            )

    def plan(self) -> dict[str, Any]:
        """Return what would be done now."""
        holder = self._move.holder()
        self._require_expected(holder)
        return {
            "changed": holder is not None,
            "previous": holder.to_json() if holder else None,
            "current": None,
        }

    def execute_in_run(self, context: Context, wandb_run: wandb.Run) -> dict[str, Any]:
        """Take the alias away, and keep why."""
        move = self._move
        self._amend(links={"demotion_run": wandb_run.url})
        holder = move.holder()
        began, known = self._recall_demotion(context)
        before = holder or known
        self._amend(before=before)
        if holder is None and began:
            entry = move.completed_before() or move.complete()
        elif holder is None:
            self._require_expected(None)
            entry = move.write("unchanged")
        else:
            if began and known is not None and known.digest != holder.digest:
                raise WandbPromotionLostError(
                    f"The demotion of {str(self._target)!r} was begun while {known} held the alias, and now "
                    f"{move.describe(holder)} does. Not retried, because that would take it from another one."
                )
            self._require_first(holder)
            self._require_expected(holder)
            with move.announced():
                self._remember(context, "", holder)
                move.take_away(holder)
                entry = move.complete()
        changed = entry.event == "done"
        self._tell_outlets(context, entry)
        previous = before if changed else None
        self._show(
            wandb_run,
            entry,
            None,
            {"changed": changed, "version": None, "previous": previous.path if previous else None},
        )
        self._forget(context)
        self.log.info("Nothing holds %s now (before: %s).", self._target, previous or "nothing")
        return self._result(wandb_run, changed, previous, None)

    def _recall_demotion(self, context: Context) -> tuple[bool, ArtifactRef | None]:
        """Return whether a try before began this and did not end it, and who held the alias then."""
        began, before = self._recall(context, "")
        if began:
            return True, before
        # Before Airflow 3.3 the audit alone knows.
        own = [
            entry
            for entry in self._audit.entries()
            if entry.target == self._target and self._move.entry.task.recognises(entry.task)
        ]
        if own and own[-1].event == "intended":
            return True, own[-1].before
        return False, None
