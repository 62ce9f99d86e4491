"""
Take a model through the stages dev, staging and production, each with a gate of its own.

A version gets an alias only with a verdict that passed for it, and only after it has had the aliases before. Whoever
asks ``wandb-airflow why model/example-staged:production`` reads which verdicts those were.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.sdk import DAG, Asset, Param

from wandb_airflow_provider import (
    MetricRule,
    WandbMetricGateOperator,
    WandbPromoteOperator,
    WandbPythonOperator,
    log_artifact,
    wandb_pipeline,
)

STAGES = ["dev", "staging", "production"]
RULES = {
    "dev": [MetricRule(metric="accuracy", minimum=0.5)],
    "staging": [MetricRule(metric="accuracy", minimum=0.8), MetricRule(metric="held_out", minimum=100)],
    "production": [{"metric": "accuracy", "minimum": "{{ params.least_accuracy }}"}],
}
DECISIONS = Asset("wandb_decisions")


def fit_and_measure(params: dict[str, Any], wandb_run: Any) -> dict[str, Any]:
    """Guess a threshold as well as ``skill`` says, log it as a model, and measure its accuracy."""
    rng = random.Random(params["seed"])  # noqa: S311 -- draws data, guards nothing
    threshold = 0.5 + (1 - params["skill"]) * rng.uniform(0.2, 0.5)
    points = [rng.random() for _ in range(200)]
    accuracy = sum((x >= threshold) == (x >= 0.5) for x in points) / len(points)
    wandb_run.summary.update({"accuracy": accuracy, "held_out": len(points)})
    with TemporaryDirectory() as work:
        model = Path(work, "model.json")
        model.write_text(json.dumps({"threshold": threshold}), encoding="utf-8")
        return log_artifact(wandb_run, "example-staged", type="model", paths=model).to_json()


with (
    DAG(
        "example_stages",
        schedule=None,
        max_active_runs=1,
        params={
            "seed": Param(1, type="integer", description="Draws the data."),
            "skill": Param(0.95, type="number", minimum=0, maximum=1, description="How good the model is."),
            "least_accuracy": Param(0.9, type="number", description="What the last gate asks for."),
        },
        tags=["wandb", "example"],
        doc_md=__doc__,
    ),
    wandb_pipeline(),
):
    last = fit = WandbPythonOperator(task_id="fit", python_callable=fit_and_measure, job_type="training")
    # [START stages]
    for stage in STAGES:
        gate = WandbMetricGateOperator(
            task_id=f"gate_{stage}",
            rules=RULES[stage],
            run=fit.output["wandb_run"],
            candidate=fit.output,
            baseline_registry="model",
            baseline_collection="example-staged",
            baseline_alias=stage,
            mode="skip",
            outlets=[DECISIONS],
        )
        promote = WandbPromoteOperator(
            task_id=f"promote_{stage}",
            verdict=gate.output,
            registry="model",
            collection="example-staged",
            alias=stage,
            stages=STAGES,
            outlets=[DECISIONS],
        )
        last >> gate >> promote
        last = promote
    # [END stages]
