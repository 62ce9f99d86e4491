"""The base of the operators that change a registry alias."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbError,
    WandbNotFoundError,
    WandbPromotionRefusedError,
)
from wandb_airflow_provider.operators.base import WandbBaseOperator

if TYPE_CHECKING:
    import wandb
    from airflow.sdk import Context

    from wandb_airflow_provider.audit import AuditEntry, ChangeKind
    from wandb_airflow_provider.registry import RegistryAlias
    from wandb_airflow_provider.reports.document import Document

__all__ = ["AliasOperator"]

_STORE_KEY = "wandb_alias_change"
_NOTHING = "nothing"


class AliasOperator(WandbBaseOperator):
    """
    What promotion, rollback and demotion share: the alias, the audit, and the dry run.

    :param registry: Name of the registry, without the prefix of its project. (templated)
    :param collection: Collection in the registry. (templated)
    :param alias: The alias. (templated)
    :param note: Free text kept with the decision. (templated)
    :param expected_holder: Refuse unless the alias is held by this version of the collection (``v3``), digest, or
        reference as JSON; ``nothing`` for an alias that nobody holds. Default, also for an empty text: whoever holds
        it. Once given, an output that a task did not push refuses. (templated)
    :param dry_run: Check all and push what would be changed, and write nothing, neither to W&B nor to the audit;
        a truth value or its text. (templated as ``is_dry_run``)
    """

    kind: ClassVar[ChangeKind]
    template_fields: Sequence[str] = (
        *WandbBaseOperator.template_fields,
        "registry",
        "collection",
        "alias",
        "note",
        "expected_holder",
        "is_dry_run",
    )

    def __init__(
        self,
        *,
        registry: str,
        collection: str,
        alias: str,
        note: str | None = None,
        expected_holder: Any = None,
        dry_run: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.registry = registry
        self.collection = collection
        self.alias = alias
        self.note = note
        self.expected_holder = expected_holder
        self.needs_expected = expected_holder is not None
        # Airflow's operators have a method of the other name.
        self.is_dry_run = dry_run
        if not any("{{" in str(name) for name in (registry, collection, alias)):
            from wandb_airflow_provider.registry import RegistryAlias

            RegistryAlias(registry, collection, alias)

    @abstractmethod
    def plan(self) -> dict[str, Any]:
        """Return what would be done now, by reading alone: ``changed``, ``previous`` and ``current``."""

    def execute(self, context: Context) -> Any:
        """Decide, and keep the decision in the audit, also when it is a refusal."""
        from wandb_airflow_provider.hooks.alias_move import AliasMove
        from wandb_airflow_provider.hooks.audit_log import AuditLog

        target = self._target
        self._audit = AuditLog(self.hook, target.registry, target.collection)
        self._move = AliasMove(self.hook, self._audit, self._entry(context))
        if _truth(self.is_dry_run):
            return self._preview()
        try:
            return super().execute(context)
        except (WandbPromotionRefusedError, WandbConfigurationError, WandbNotFoundError) as error:
            self._move.refuse(error)
            raise
        finally:
            self._audit.close()

    def on_kill(self) -> None:
        """Finish the runs of the task and of the audit as killed."""
        super().on_kill()
        audit = getattr(self, "_audit", None)
        if audit is not None:
            audit.kill()

    @property
    def _target(self) -> RegistryAlias:
        from wandb_airflow_provider.registry import RegistryAlias

        return RegistryAlias(self.registry, self.collection, self.alias)

    def _amend(self, *, links: Mapping[str, str | None] | None = None, **known: Any) -> None:
        """Add to what the audit will say of the decision."""
        entry = self._move.entry
        self._move.entry = entry._replace(links={**entry.links, **(links or {})}, **known)

    def _require_expected(self, holder: ArtifactRef | None) -> None:
        """Refuse a holder that is not the expected one."""
        from wandb_airflow_provider.operators.candidate import parse_json

        expected = parse_json(self.expected_holder)
        if expected is None and self.needs_expected:
            raise WandbPromotionRefusedError(
                f"The {self.kind} of {str(self._target)!r} is refused: expected_holder has no value, because its task "
                "pushed nothing. Who may lose the alias is not known."
            )
        if expected is None or expected == "":
            return
        if isinstance(expected, Mapping):
            expected = ArtifactRef.from_json(expected).digest
        found = {holder.version, holder.digest, holder.path} if holder else {_NOTHING}
        if str(expected) not in found:
            raise WandbPromotionRefusedError(
                f"The {self.kind} of {str(self._target)!r} is refused: {expected!r} is expected to hold the alias, and "
                f"{f'{holder} (digest {holder.digest!r})' if holder else 'nothing'} does."
            )

    def _require_first(self, holder: ArtifactRef) -> None:
        """Refuse to do again what this task has done, now that the alias has moved on."""
        done = self._audit.trail().change_by(self._move.entry.task, self._target)
        if done is not None:
            raise WandbPromotionRefusedError(
                f"The {self.kind} of {str(self._target)!r} is not made a second time: this very task made it at "
                f"{done.at} (v{done.number} of the audit), and now {self._move.describe(holder)} holds the alias. "
                "Clearing a task does not undo what was decided since; a new DAG run does."
            )

    def _preview(self) -> dict[str, Any]:
        from wandb_airflow_provider import sdk

        try:
            self.check()
            plan = self.plan()
        finally:
            sdk.release()
        names = {key: _named(plan[key]) for key in ("previous", "current")}
        would = (
            f"would move from {names['previous']} to {names['current']}"
            if plan["changed"]
            else f"would stay at {names['current']}"
        )
        self.log.info("Dry run: %s %s. Nothing was written.", self._target, would)
        return {
            **self._target.to_json(),
            **plan,
            "changed": False,
            "would_change": plan["changed"],
            "dry_run": True,
        }

    def _result(
        self,
        wandb_run: wandb.Run,
        changed: bool,
        previous: ArtifactRef | None,
        current: ArtifactRef | None,
    ) -> dict[str, Any]:
        return {
            **self._target.to_json(),
            "changed": changed,
            "previous": previous.to_json() if previous else None,
            "current": current.to_json() if current else None,
            "audit": self._audit.path,
            "page": wandb_run.url,
        }

    def _tell_outlets(self, context: Context, entry: AuditEntry) -> None:
        """Give the asset events of this task's outlets the decision."""
        from wandb_airflow_provider.operators.decision import tell_outlets

        tell_outlets(context, entry, self._audit.path)

    def _show(
        self,
        wandb_run: wandb.Run,
        entry: AuditEntry,
        holder: ArtifactRef | None,
        summary: Mapping[str, Any],
    ) -> None:
        """Write the decision to the task's own run, with the page that says why the alias is where it is."""
        from wandb_airflow_provider import sdk
        from wandb_airflow_provider.reports.html import to_html

        page = to_html(self._page(entry, holder))
        with self.hook.translate_errors(f"log the {entry.kind} to the W&B run {wandb_run.id!r}"):
            prefix = entry.kind
            path = f"{self._audit.path}:v{entry.number}"
            values = {f"{prefix}/{key}": value for key, value in summary.items()}
            wandb_run.summary.update(
                {**values, f"{prefix}/alias": str(entry.target), f"{prefix}/audit": path}
            )
            wandb_run.log({f"{prefix}/page": sdk.html(page)})

    def _page(self, entry: AuditEntry, holder: ArtifactRef | None) -> Document:
        from wandb_airflow_provider.audit_page import history_document
        from wandb_airflow_provider.audit_trail import AuditTrail
        from wandb_airflow_provider.reports.document import cleaned

        try:
            trail = self._audit.trail()
        except WandbError as error:
            # The alias has moved, and a retry would call it unchanged: no reason to fail now.
            self.log.warning("The page shows this decision alone: %s", error)
            trail = AuditTrail(self._audit.path, [entry])
        return cleaned(history_document(trail.history(entry.target, holder)), self.hook.privacy.text)

    def _entry(self, context: Context) -> AuditEntry:
        from wandb_airflow_provider.operators.decision import new_entry

        return new_entry(context, self.kind, self._target, "intended")._replace(note=self.note)

    def _remember(self, context: Context, after: str, before: ArtifactRef | None) -> None:
        """Keep the previous holder for a retry also in Airflow's task state store (3.3)."""
        store: Any = context.get("task_state_store")
        if store is not None:
            kept = {
                "target": str(self._target),
                "after": after,
                "before": before.to_json() if before else None,
            }
            store.set(_STORE_KEY, {**kept, "done": False})

    def _recall(self, context: Context, after: str) -> tuple[bool, ArtifactRef | None]:
        """Return whether a try before began this change and did not complete it, and who held the alias then."""
        store: Any = context.get("task_state_store")
        known = store.get(_STORE_KEY) if store is not None else None
        if not isinstance(known, Mapping) or known.get("done") is not False:
            return False, None
        if (known.get("target"), known.get("after")) != (str(self._target), after):
            return False, None
        return True, ArtifactRef.from_json(known["before"]) if known["before"] else None

    def _forget(self, context: Context) -> None:
        store: Any = context.get("task_state_store")
        if store is not None:
            store.set(_STORE_KEY, {"done": True})


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "1"):
        return True
    if text in ("false", "0", "none", ""):
        return False
    raise WandbConfigurationError(f"dry_run is {value!r}; expected true or false.")


def _named(value: Mapping[str, Any] | None) -> str:
    return str(value["path"]) if value else _NOTHING
