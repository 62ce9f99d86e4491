"""Three candidates at once: one that a person approves, one that a person rejects, one that nobody answers for."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.sdk import DAG, Asset, task

from wandb_airflow_provider import log_artifact, wandb_quality_gate

WAYS: dict[str, dict[str, Any]] = {
    "approved": {"aliases": ["production", "staging"]},
    "rejected": {"assigned_users": [{"id": "Anonymous", "name": "Anonymous"}]},
    "unanswered": {
        "response_timeout": timedelta(seconds=8),
        "on_timeout": "skip",
        "assigned_users": [{"id": "nobody-here", "name": "Nobody"}],
    },
    "too_late": {"response_timeout": timedelta(seconds=8)},
}


@task.wandb(job_type="evaluate")
def make(wandb_run: Any) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        Path(folder, "weights.txt").write_text("weights", encoding="utf-8")
        model = log_artifact(wandb_run, "approval-model", type="model", paths=folder)
    wandb_run.summary.update({"mrr": 0.7})
    return model.to_json()


with DAG("approvals", schedule=None):
    model = make()
    for way, arguments in WAYS.items():
        quality = wandb_quality_gate(
            way,
            rules=[{"metric": "mrr", "minimum": 0.5}],
            run=model["wandb_run"],
            candidate=model,
            registry="model",
            collection=f"approval-{way}",
            report=False,
            approval=arguments,
            note="By the DAG.",
            outlets=[Asset("approval_decisions")],
        )
        model >> quality.group
