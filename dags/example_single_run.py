"""
Keep a whole DAG run in one W&B run: each task continues it in turn, under a part of its own.

``train`` logs ``train/loss`` over ``train/step``, ``evaluate`` logs ``evaluate/error`` over ``evaluate/step``. Good for
a pipeline that people read as one experiment; tasks that could run side by side are refused when the DAG is parsed.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from wandb_airflow_provider import wandb_pipeline

POINTS = [(x / 10, 2 * x / 10 + 1) for x in range(20)]


@task.wandb(wandb_config={"learning_rate": 0.1})
def train(wandb_run: Any) -> float:
    slope, rate = 0.0, wandb_run.config["learning_rate"]
    for _ in range(50):
        gradient = sum(2 * x * (slope * x + 1 - y) for x, y in POINTS) / len(POINTS)
        slope -= rate * gradient
        wandb_run.log({"loss": sum((slope * x + 1 - y) ** 2 for x, y in POINTS)})
    return slope


@task.wandb
def evaluate(slope: float, wandb_run: Any) -> float:
    errors = [abs(slope * x + 1 - y) for x, y in POINTS]
    for error in errors:
        wandb_run.log({"error": error})
    wandb_run.summary["worst"] = max(errors)
    return max(errors)


# [START single]
with DAG("example_single_run", schedule=None, doc_md=__doc__), wandb_pipeline(strategy="single"):
    evaluate(train())
# [END single]
