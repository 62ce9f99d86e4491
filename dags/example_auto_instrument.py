"""
Tasks that open W&B runs with their own code, and know nothing of this package.

Every task logs in to W&B as it always has. With ``[wandb] auto_instrument`` in Airflow's configuration, the runs are
grouped by DAG run, name their task and the runs upstream, and end with the exit code of the task that left them open.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

with DAG("example_auto_instrument", schedule=None, tags=["wandb", "example"], doc_md=__doc__):
    # [START tasks]
    @task
    def prepare() -> list[float]:
        import wandb

        wandb.init(project="auto-instrument", config={"rows": 4})
        wandb.log({"mean": 2.5})
        # No wandb.finish(): the run ends with the task.
        return [1.0, 2.0, 3.0, 4.0]

    @task
    def fit(learning_rate: float, rows: list[float]) -> float:
        import wandb

        target, estimate = sum(rows) / len(rows), 0.0
        with wandb.init(project="auto-instrument", config={"learning_rate": learning_rate}) as run:
            for _ in range(20):
                estimate += learning_rate * (target - estimate)
                run.log({"distance": abs(target - estimate)})
        return estimate

    @task
    def pick(estimates: list[float]) -> float:
        # A task without a run of its own is left as it is.
        return max(estimates)

    pick(fit.partial(rows=prepare()).expand(learning_rate=[0.1, 0.5]))
    # [END tasks]
