"""
Compare a candidate with production in a W&B report, and ask a person about it.

Run it again with another ``skill``: the report shows which queries were won and lost. Whoever answers may choose the
alias and leave a note; after two days without an answer the candidate is not promoted.
"""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.sdk import DAG, Asset, Param, task

from wandb_airflow_provider import (
    WandbReportOperator,
    download_artifact,
    log_artifact,
    wandb_pipeline,
    wandb_quality_gate,
)


@task.wandb(job_type="data")
def prepare(wandb_run: Any) -> dict[str, Any]:
    """Log the examples that the model is trained on."""
    with TemporaryDirectory() as work:
        Path(work, "examples.txt").write_text("\n".join(f"query {n}" for n in range(500)), encoding="utf-8")
        return log_artifact(
            wandb_run, "report-examples", type="dataset", paths=work, metadata={"examples": 500}
        ).to_json()


@task.wandb(job_type="train")
def train(data: dict[str, Any], params: dict[str, Any], wandb_run: Any) -> dict[str, Any]:
    """Pretend to train, and log the loss, what it cost, and the model."""
    wandb_run.config.update({"skill": params["skill"], "optimizer": {"name": "adam", "rate": 0.01}})
    with TemporaryDirectory() as work:
        download_artifact(wandb_run, data, Path(work, "data"))
        for step in range(60):
            wandb_run.log({"train/loss": 1 / (1 + step) + (1 - params["skill"]) / 2})
        wandb_run.summary.update({"cost/usd": 0.42, "gpu_hours": 0.1})
        weights = Path(work, "weights.txt")
        weights.write_text(f"{params['seed']} {params['skill']}", encoding="utf-8")
        return log_artifact(wandb_run, "report-ranker", type="model", paths=weights).to_json()


@task.wandb(job_type="evaluate")
def evaluate(model: dict[str, Any], params: dict[str, Any], wandb_run: Any) -> None:
    """Measure how well the model answers each of 200 queries."""
    import wandb

    rng = random.Random(f"{params['seed']} {params['skill']}")  # noqa: S311 -- draws data, guards nothing
    with TemporaryDirectory() as work:
        download_artifact(wandb_run, model, work)
    rows = []
    for index in range(200):
        difficulty = random.Random(f"query {index}").random()  # noqa: S311
        rows.append([f"query {index}", 1.0 if difficulty + rng.gauss(0, 0.03) < params["skill"] else 0.25])
    wandb_run.log({"eval/ranks": wandb.Table(columns=["query", "reciprocal_rank"], data=rows)})
    wandb_run.summary.update({"eval/mrr": sum(row[1] for row in rows) / len(rows)})


with (
    DAG(
        "example_report",
        schedule=None,
        params={
            "skill": Param(
                0.7, type="number", minimum=0, maximum=1, description="Share of queries answered well."
            ),
            "seed": Param(1, type="integer", description="Draws which ones."),
        },
        tags=["wandb", "example"],
        doc_md=__doc__,
    ),
    wandb_pipeline(project="reports"),
):
    model = train(prepare())
    measured = evaluate(model)
    # [START report]
    quality = wandb_quality_gate(
        rules=[
            {"metric": "eval/mrr", "minimum": 0.5},
            {
                "kind": "paired",
                "table": "eval/ranks",
                "column": "reciprocal_rank",
                "key": "query",
                "change_above": -0.05,
                "when_no_baseline": "pass",
            },
        ],
        run=measured["wandb_run"],
        candidate=model,
        registry="model",
        collection="report-ranker",
        alias="production",
        report=lambda gate: WandbReportOperator(task_id="report", verdict=gate.output, days=31),
        approval={
            "aliases": ["production", "staging"],
            "response_timeout": timedelta(days=2),
            "on_timeout": "skip",
        },
        note="By {{ dag.dag_id }}.",
        outlets=[Asset("wandb_ranker_decisions")],
    )
    # [END report]
    measured >> quality.group
