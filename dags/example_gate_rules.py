"""
Judge a model by rules of a YAML file: by slice, by its training's history, and beyond the noise of its examples.

Run it again with a smaller ``skill``: the mean falls at once, and the gate stops the candidate when it has fallen by
more than chance explains. What passes is promoted without asking anyone; ``approval=True`` would ask.
"""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.sdk import DAG, Param, task

from wandb_airflow_provider import load_rules, log_artifact, wandb_pipeline, wandb_quality_gate

LANGUAGES = {"en": 200, "de": 150, "is": 20}


@task.wandb(job_type="evaluate")
def fit_and_measure(params: dict[str, Any], wandb_run: Any) -> dict[str, Any]:
    """Pretend to train, log the model, and log how well it answers each query of a golden set."""
    import wandb

    rng = random.Random(f"{params['seed']} {params['skill']}")  # noqa: S311 -- draws data, guards nothing
    for step in range(40):
        wandb_run.log({"train/loss": 1 / (1 + step)})
    with TemporaryDirectory() as work:
        weights = Path(work, "weights.txt")
        weights.write_text(f"{params['seed']} {params['skill']}", encoding="utf-8")
        model = log_artifact(wandb_run, "example-ranker", type="model", paths=weights)
    rows = []
    for language, count in LANGUAGES.items():
        for index in range(count):
            # Some queries are harder than others, for every model alike; the rest is chance.
            difficulty = random.Random(f"{language} {index}").random()  # noqa: S311
            rank = 1 if difficulty + rng.gauss(0, 0.03) < params["skill"] else 3
            rows.append([f"{language}-{index}", language, 1 / rank])
    columns = ["query_id", "language", "reciprocal_rank"]
    wandb_run.log({"eval/ranks": wandb.Table(columns=columns, data=rows)})
    mrr = sum(row[2] for row in rows) / len(rows)
    wandb_run.summary.update({"eval/mrr": mrr, "eval/examples": len(rows), "eval/latency": 0.3})
    return model.to_json()


with (
    DAG(
        "example_gate_rules",
        schedule=None,
        params={
            "seed": Param(1, type="integer", description="Draws the answers."),
            "skill": Param(0.7, type="number", description="How good the model is."),
        },
        tags=["wandb", "example"],
        doc_md=__doc__,
    ),
    wandb_pipeline(project="gate-rules"),
):
    model = fit_and_measure()
    # [START quality_gate]
    quality = wandb_quality_gate(
        rules=load_rules(Path(__file__).with_name("gate_rules.yaml")),
        run=model["wandb_run"],
        candidate=model,
        registry="model",
        collection="example-ranker",
        alias="production",
        approval=False,
        note="Promoted by {{ dag.dag_id }}.",
    )
    # [END quality_gate]
    model >> quality.group
