"""
Judge a model by its metrics, promote it in the registry when it is good enough, and wait for the alias to say so.

Run it again with another ``seed`` for another version. ``example_rollback`` undoes the last promotion.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.sdk import DAG, Param, task

from wandb_airflow_provider import (
    MetricRule,
    WandbMetricGateOperator,
    WandbPromoteOperator,
    WandbPythonOperator,
    WandbRegistryAliasSensor,
    log_artifact,
    wandb_pipeline,
)


def fit_and_measure(params: dict[str, Any], wandb_run: Any) -> dict[str, Any]:
    """Fit a threshold on noisy points, log it as a model, and measure its accuracy on other points."""
    rng = random.Random(params["seed"])  # noqa: S311 -- draws data, guards nothing

    def draw(count: int) -> list[tuple[float, bool]]:
        points = [(rng.random(), rng.random()) for _ in range(count)]
        return [(x, x + 0.1 * (noise - 0.5) > 0.5) for x, noise in points]

    training, held_out = draw(200), draw(200)
    threshold = min((x for x, label in training if label), default=0.5)
    accuracy = sum((x >= threshold) == label for x, label in held_out) / len(held_out)
    wandb_run.summary.update({"accuracy": accuracy, "held_out": len(held_out)})
    with TemporaryDirectory() as work:
        model = Path(work, "model.json")
        model.write_text(json.dumps({"threshold": threshold}), encoding="utf-8")
        return log_artifact(wandb_run, "example-classifier", type="model", paths=model).to_json()


@task
def tell_why(verdict: dict[str, Any]) -> str:
    return str(verdict["summary"])


with (
    DAG(
        "example_gate_and_promotion",
        schedule=None,
        params={
            "seed": Param(1, type="integer", description="Draws the data."),
            "least_accuracy": Param(0.9, type="number", description="What the gate asks for."),
        },
        tags=["wandb", "example"],
        doc_md=__doc__,
    ),
    wandb_pipeline(),
):
    fit = WandbPythonOperator(task_id="fit", python_callable=fit_and_measure, job_type="training")
    # [START gate]
    gate = WandbMetricGateOperator(
        task_id="gate",
        run=fit.output["wandb_run"],
        candidate=fit.output,
        rules=[
            {"metric": "accuracy", "minimum": "{{ params.least_accuracy }}"},
            MetricRule(metric="accuracy", min_change=-0.05, when_no_baseline="pass"),
        ],
        baseline_registry="model",
        baseline_collection="example-classifier",
        baseline_alias="production",
        mode="branch",
        on_pass=["promote"],
        on_fail=["tell_why"],
    )
    # [END gate]
    # [START promote]
    promote = WandbPromoteOperator(
        task_id="promote",
        verdict=gate.output,
        registry="model",
        collection="example-classifier",
        alias="production",
        note="Promoted by {{ dag.dag_id }}.",
    )
    # [END promote]
    # [START sensor]
    wait = WandbRegistryAliasSensor(
        task_id="wait_for_alias",
        registry="model",
        collection="example-classifier",
        alias="production",
        digest="{{ ti.xcom_pull(task_ids='promote')['current']['digest'] }}",
        deferrable=True,
        poke_interval=30,
        timeout=600,
    )
    # [END sensor]
    gate >> promote >> wait
    tell_why(gate.output)
