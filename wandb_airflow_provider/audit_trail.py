"""The audit of a collection as a whole: why an alias is where it is, and who had it before. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.audit import AuditEntry
from wandb_airflow_provider.promotion import TaskMark
from wandb_airflow_provider.registry import RegistryAlias

__all__ = ["AliasHistory", "AuditTrail"]


class AliasHistory(NamedTuple):
    """
    What is known of an alias: who holds it, since which decision, and all decisions about it.

    :param holder: Who holds it now, as W&B says; None when nothing does.
    :param cause: The decision by which it does; None when the alias was moved by something else than this package.
    :param entries: All entries about the alias, oldest first.
    :param missing: Numbers that the audit has no entry of: deleted since, or never completed.
    :param audit: Path of the artifact with the audit.
    """

    target: RegistryAlias
    holder: ArtifactRef | None
    cause: AuditEntry | None
    entries: tuple[AuditEntry, ...]
    missing: tuple[int, ...]
    audit: str

    @property
    def promotion(self) -> AuditEntry | None:
        """The promotion that let the holder have the alias: of a version that a rollback restored, the one before."""
        if self.cause is None or self.holder is None:
            return None
        digest = self.holder.digest
        found = [
            entry
            for entry in self.entries
            if entry.number <= self.cause.number
            and (entry.kind, entry.event) == ("promotion", "done")
            and entry.after is not None
            and entry.after.digest == digest
        ]
        return found[-1] if found else None

    @property
    def changes(self) -> tuple[AuditEntry, ...]:
        """The entries of what changed the alias, oldest first."""
        return tuple(entry for entry in self.entries if entry.event == "done")

    @property
    def unsettled(self) -> tuple[AuditEntry, ...]:
        """Intentions without an outcome, oldest first: under way, or of a task that died."""
        outcomes = [entry for entry in self.entries if entry.event != "intended"]
        settled = {entry.decision for entry in outcomes}
        return tuple(
            entry
            for entry in self.entries
            if entry.event == "intended"
            and entry.decision not in settled
            and not any(
                later.number > entry.number and later.task.recognises(entry.task) for later in outcomes
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        promotion = self.promotion
        return {
            **self.target.to_json(),
            "holder": self.holder.to_json() if self.holder else None,
            "cause": _numbered(self.cause) if self.cause else None,
            "promotion": _numbered(promotion) if promotion else None,
            "entries": [_numbered(entry) for entry in self.entries],
            "unsettled": [entry.number for entry in self.unsettled],
            "missing": list(self.missing),
            "audit": self.audit,
        }


class AuditTrail(NamedTuple):
    """
    All entries of a collection's audit.

    :param path: Of the artifact, ``entity/project/name``.
    :param entries: Oldest first.
    """

    path: str
    entries: Sequence[AuditEntry]

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers below the last one that have no entry."""
        numbers = {entry.number for entry in self.entries}
        return tuple(sorted(set(range(max(numbers, default=-1))) - numbers))

    def history(self, target: RegistryAlias, holder: ArtifactRef | None) -> AliasHistory:
        """Return what is known of an alias, given who holds it now."""
        entries = tuple(entry for entry in self.entries if entry.target == target)
        done = [entry for entry in entries if entry.event == "done"]
        cause = done[-1] if done and _digest(done[-1].after) == _digest(holder) else None
        return AliasHistory(target, holder, cause, entries, self.missing, self.path)

    def holder_before(self, target: RegistryAlias, digest: str) -> ArtifactRef | None:
        """Return who held an alias before the version of this digest was last promoted to it."""
        for entry in reversed(self.entries):
            if (
                (entry.target, entry.kind, entry.event) == (target, "promotion", "done")
                and entry.after is not None
                and entry.after.digest == digest
            ):
                before: ArtifactRef | None = entry.before
                return before
        return None

    def stage_problem(self, stage: RegistryAlias, digest: str) -> str | None:
        """
        Return why a version has not passed a stage, or None if it has.

        It has when it was promoted to the stage's alias with a verdict that passed on this digest, which a gate had
        written down for that very alias, and did not lose the alias since by a rollback or a demotion; being followed
        there by another version does not matter.
        """
        problem: str | None = f"was never promoted to {str(stage)!r}"
        for entry in self.entries:
            if entry.target != stage or entry.event != "done":
                continue
            if _digest(entry.after) == digest:
                problem = None
            elif _digest(entry.before) == digest and entry.kind != "promotion":
                why = f" ({entry.note})" if entry.note else ""
                problem = f"lost {str(stage)!r} by the {entry.kind} of {entry.at}{why}"
        if problem is None and not self._has_verdict(stage, digest):
            problem = f"has no verdict that passed on its digest at {str(stage)!r}"
        return problem

    def verdict_targets(self, verdict: Mapping[str, Any]) -> set[RegistryAlias]:
        """
        Return the aliases for which a gate wrote down that it let this very verdict's version pass.

        :param verdict: As it is written, all of which has to agree.
        """
        wanted = _canonical(verdict)
        return {
            entry.target
            for entry in self.entries
            if _passed(entry) and entry.verdict is not None and _canonical(entry.verdict) == wanted
        }

    def promotion_by(
        self, task: TaskMark, target: RegistryAlias, verdict: Mapping[str, Any]
    ) -> AuditEntry | None:
        """Return the promotion that a task has done with a verdict, or None."""
        for entry in reversed(self.entries):
            if (
                (entry.target, entry.kind, entry.event) == (target, "promotion", "done")
                and task.recognises(entry.task)
                and entry.verdict is not None
                and _judgement(entry.verdict) == _judgement(verdict)
            ):
                found: AuditEntry = entry
                return found
        return None

    def change_by(self, task: TaskMark, target: RegistryAlias) -> AuditEntry | None:
        """Return the last change of an alias that a task has done, or None."""
        found = [
            entry
            for entry in self.entries
            if entry.target == target and entry.event == "done" and task.recognises(entry.task)
        ]
        return found[-1] if found else None

    def ever_held(self, target: RegistryAlias, digest: str) -> bool:
        """Say whether content of this digest has held an alias, as far as this package moved it."""
        return any(
            entry.target == target
            and entry.event == "done"
            and digest in (_digest(entry.before), _digest(entry.after))
            for entry in self.entries
        )

    def _has_verdict(self, stage: RegistryAlias, digest: str) -> bool:
        judged = {
            _judgement(entry.verdict)
            for entry in self.entries
            if entry.target == stage and _passed(entry) and entry.verdict is not None
        }
        return any(
            (entry.target, entry.kind) == (stage, "promotion")
            and entry.event in ("done", "unchanged")
            and entry.verdict is not None
            and entry.verdict.get("passed") is True
            and entry.verdict.get("digest") == digest
            and _judgement(entry.verdict) in judged
            for entry in self.entries
        )


def _passed(entry: AuditEntry) -> bool:
    return (entry.kind, entry.event) == ("verdict", "passed")


def _judgement(verdict: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what tells a judgement from others: the content, and the moment."""
    return verdict.get("digest"), verdict.get("evaluated_at")


def _canonical(verdict: Mapping[str, Any]) -> str:
    return json.dumps(verdict, sort_keys=True)


def _digest(ref: ArtifactRef | None) -> str | None:
    return ref.digest if ref else None


def _numbered(entry: AuditEntry) -> dict[str, Any]:
    return {"number": entry.number, "altered": entry.altered, **entry.to_json()}
