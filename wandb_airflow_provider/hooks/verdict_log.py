"""How a verdict is written down in W&B: in the gate's own run, and where people look for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider import sdk
from wandb_airflow_provider.exceptions import WandbNotFoundError, WandbPermissionError
from wandb_airflow_provider.hooks.annotation import NoteTable, annotate_run
from wandb_airflow_provider.hooks.runs import REASON_KEY
from wandb_airflow_provider.rules.evidence import VERDICT_PREFIX

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.identity import RunRef
    from wandb_airflow_provider.rules import Rule, Verdict

__all__ = ["log_verdict", "show_verdict"]

log = logging.getLogger(__name__)

_TABLE_KEY = f"{VERDICT_PREFIX}/outcomes"


def log_verdict(hook: WandbHook, wandb_run: wandb.Run, verdict: Verdict, rules: Sequence[Rule]) -> None:
    """Write rules, figures and result to the open run of the gate, and that it used the candidate."""
    with hook.translate_errors(f"log the verdict to the W&B run {wandb_run.id!r}"):
        wandb_run.use_artifact(verdict.candidate.path)
        settings = {
            "rules": [rule.to_dict() for rule in rules],
            "evaluated_run": verdict.run.path,
            "candidate": verdict.candidate.path,
            "candidate_use": verdict.candidate_use,
            "digest": verdict.digest,
            "baseline": verdict.baseline.path if verdict.baseline else None,
        }
        # A retry that resumes the run may judge by other rules.
        wandb_run.config.update({VERDICT_PREFIX: settings}, allow_val_change=True)  # type: ignore[no-untyped-call]
        wandb_run.log({_TABLE_KEY: sdk.table(verdict.rows())})
        # Read by the pipeline run, which has to say why nothing came after a gate that skips.
        reason = {} if verdict.passed else {REASON_KEY: verdict.summary}
        wandb_run.summary.update({**_summary(verdict, VERDICT_PREFIX), **reason})


def show_verdict(
    hook: WandbHook, wandb_run: wandb.Run, verdict: Verdict, root: RunRef | None, instance: str
) -> None:
    """
    Add the verdict to the evaluated run and to the pipeline run, which the gate does not hold open.

    A run that is not there any more, or that the key may not write to, is a warning: the verdict stands without.

    :param root: The pipeline run; None outside of a pipeline.
    :param instance: The gate's task, by which a pipeline run tells several gates apart.
    :raises WandbUnavailableError: W&B could not be reached. Retried.
    """
    if wandb_run.offline or wandb_run.disabled:
        return
    own = f"{wandb_run.entity}/{wandb_run.project}/{wandb_run.id}"
    places = [(verdict.run, VERDICT_PREFIX)]
    if root is not None:
        places.append((root, f"{VERDICT_PREFIX}/{instance}"))
    rows = verdict.rows()
    for ref, prefix in places:
        if ref.path == own:
            # What this task's own run sends in the end would undo it.
            continue
        try:
            annotate_run(
                hook,
                ref,
                prefix,
                {**_summary(verdict, prefix), f"{prefix}/judged_by": own},
                NoteTable(
                    f"{prefix}/outcomes", _TABLE_KEY, list(rows[0]), [list(row.values()) for row in rows]
                ),
            )
        except (WandbNotFoundError, WandbPermissionError) as error:
            log.warning("The verdict stands, and is not shown in the W&B run %s: %s", ref, error)


def _summary(verdict: Verdict, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}/passed": verdict.passed,
        f"{prefix}/failed_rules": len(verdict.failed),
        f"{prefix}/warnings": len(verdict.warnings),
        f"{prefix}/summary": verdict.summary,
    }
