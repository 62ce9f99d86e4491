"""What a task has decided about a registry alias: put together, kept in the audit, and told to Airflow's assets."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider import settings
from wandb_airflow_provider.audit import AuditEntry
from wandb_airflow_provider.exceptions import WandbError
from wandb_airflow_provider.promotion import TaskMark
from wandb_airflow_provider.provenance import map_index, task_provenance

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.audit import DecisionEvent, DecisionKind
    from wandb_airflow_provider.hooks.audit_log import AuditLog
    from wandb_airflow_provider.registry import RegistryAlias
    from wandb_airflow_provider.rules import Verdict

__all__ = ["DECISION_KEY", "new_entry", "settle", "tell_outlets", "verdict_entry"]

DECISION_KEY = "wandb_decision"
"""Key of the decision in the extra of the asset events of a task's outlets."""


def new_entry(
    context: Context, kind: DecisionKind, target: RegistryAlias, event: DecisionEvent
) -> AuditEntry:
    """Return what the audit says of any decision of this task: who, when, and by which code."""
    ti, provenance = context["ti"], task_provenance(context)
    started_by = getattr(context["dag_run"], "triggering_user_name", None)
    return AuditEntry(
        decision=uuid.uuid4().hex,
        kind=kind,
        event=event,
        at=datetime.now(UTC).isoformat(),
        target=target,
        task=TaskMark(ti.dag_id, ti.run_id, ti.task_id, map_index(ti), settings.deployment()),
        try_number=ti.try_number,
        people={"started_by": started_by, "owner": provenance["owner"]},
        links={"task_log": provenance["log_url"]},
        code={key: provenance[key] for key in ("git_commit", "bundle", "dag_version")},
    )


def verdict_entry(entry: AuditEntry, verdict: Verdict, links: dict[str, str | None]) -> AuditEntry:
    """Return the entry with the verdict that the decision is about, or follows."""
    shown = {"evaluated_run": verdict.run.url, "version_page": verdict.candidate.url}
    return entry._replace(
        before=verdict.baseline,
        after=verdict.candidate,
        verdict=verdict.to_json(),
        links={**entry.links, **shown, **links},
    )


def settle(context: Context, audit: AuditLog, entry: AuditEntry) -> AuditEntry:
    """
    Append a decision that changes no alias to the audit, close that, and tell the task's outlets.

    :raises WandbError: the audit could not be written. The outlets are told all the same, without an entry of it.
    """
    try:
        written = audit.append(entry)
    except WandbError:
        tell_outlets(context, entry, None)
        raise
    finally:
        audit.close()
    tell_outlets(context, written, audit.path)
    return written


def tell_outlets(context: Context, entry: AuditEntry, audit: str | None) -> None:
    """
    Give the asset events of this task's outlets the decision; Airflow sends them when the task succeeds.

    :param audit: Path of the audit that the entry is in, if it is in one.
    """
    value: Any = {
        **entry.target.to_json(),
        "kind": entry.kind,
        "event": entry.event,
        "at": entry.at,
        "before": _brief(entry.before),
        "after": _brief(entry.after),
        "verdict": entry.verdict_summary,
        "approval": dict(entry.approval) if entry.approval else None,
        "note": entry.note,
        "why": entry.why,
        "task": entry.task.to_json(),
        "audit": f"{audit}:v{entry.number}" if audit else None,
    }
    for outlet in context["task"].outlets:
        context["outlet_events"][outlet].extra[DECISION_KEY] = value


def _brief(ref: ArtifactRef | None) -> dict[str, Any] | None:
    return {"path": ref.path, "digest": ref.digest, "source": ref.source} if ref else None
