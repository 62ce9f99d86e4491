"""The quick start of the README: two tasks, each with a W&B run of its own, under one run for the DAG run."""

# [START quickstart]
from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from wandb_airflow_provider import wandb_pipeline


@task.wandb
def prepare(wandb_run: Any) -> list[list[float]]:
    points = [[x / 10, 2 * x / 10 + 1] for x in range(20)]
    wandb_run.summary["rows"] = len(points)
    return points


@task.wandb(job_type="training", tags=["linear"])
def train(points: list[list[float]], wandb_run: Any, learning_rate: float = 0.1) -> dict[str, float]:
    wandb_run.config.update({"learning_rate": learning_rate})
    slope = intercept = 0.0
    for _ in range(100):
        errors = [(slope * x + intercept - y, x) for x, y in points]
        slope -= learning_rate * 2 * sum(error * x for error, x in errors) / len(points)
        intercept -= learning_rate * 2 * sum(error for error, _ in errors) / len(points)
        wandb_run.log({"loss": sum(error**2 for error, _ in errors) / len(points)})
    return {"slope": slope, "intercept": intercept}


with DAG("example_quickstart", schedule=None), wandb_pipeline(project="quickstart"):
    train(prepare())
# [END quickstart]
