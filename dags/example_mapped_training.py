"""
Train a model for each of several settings side by side, and pick the best.

Every mapped task instance has a W&B run of its own, named ``fit[0]``, ``fit[1]`` and so on. Inside the mapped task
group the run of ``candidates.score`` names the run of ``candidates.fit`` with the same index as its upstream.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task, task_group

from wandb_airflow_provider import WandbPythonOperator, wandb_pipeline

SHARDS = [[1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0]]


def describe(shard: list[float], wandb_run: Any) -> float:
    """Return the mean of one part of the data, and keep its size."""
    wandb_run.summary.update({"rows": len(shard), "mean": sum(shard) / len(shard)})
    return sum(shard) / len(shard)


@task.wandb
def fit(learning_rate: float, means: list[float], wandb_run: Any) -> dict[str, float]:
    target, estimate = sum(means) / len(means), 0.0
    wandb_run.config.update({"learning_rate": learning_rate})
    for _ in range(20):
        estimate += learning_rate * (target - estimate)
        wandb_run.log({"distance": abs(target - estimate)})
    return {"learning_rate": learning_rate, "target": target, "estimate": estimate}


@task.wandb
def score(fitted: dict[str, float], wandb_run: Any) -> dict[str, float]:
    error = abs(fitted["estimate"] - fitted["target"])
    wandb_run.summary["error"] = error
    return {"learning_rate": fitted["learning_rate"], "error": error}


@task.wandb
def pick(scores: list[dict[str, float]], wandb_run: Any) -> dict[str, float]:
    best = min(scores, key=lambda scored: scored["error"])
    wandb_run.summary.update({f"best/{name}": value for name, value in best.items()})
    return best


@task_group
def candidates(learning_rate: float, means: Any) -> Any:
    return score(fit(learning_rate, means))


with (
    DAG("example_mapped_training", schedule=None, tags=["wandb", "example"], doc_md=__doc__),
    wandb_pipeline(),
):
    # [START mapped]
    described = WandbPythonOperator.partial(
        task_id="describe", python_callable=describe, job_type="data"
    ).expand(op_kwargs=[{"shard": shard} for shard in SHARDS])
    pick(candidates.partial(means=described.output).expand(learning_rate=[0.05, 0.2, 0.5]))
    # [END mapped]
