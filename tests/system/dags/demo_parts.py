"""What the demo has to cope with: a question to a person, and a task that fails."""

from __future__ import annotations

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag, task


@dag(schedule=None)
def demo_asks():
    ask = ApprovalOperator(
        task_id="approve", subject="Promote v3?", body="# Report\n\n| --- |\n\nMRR \\+0.1."
    )

    @task
    def promote() -> str:
        return "promoted"

    ask >> promote()


@dag(schedule=None)
def demo_fails():
    @task
    def train():
        print("loading the data")
        raise ValueError("the data has no labels")

    @task
    def evaluate():
        pass

    train() >> evaluate()


demo_asks()
demo_fails()
