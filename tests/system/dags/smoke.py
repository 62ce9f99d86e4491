"""The smallest DAG that touches every part of the cluster: a task, a mapped task and XCom."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False)
def smoke():
    @task
    def numbers() -> list[int]:
        return [1, 2, 3]

    @task
    def square(number: int) -> int:
        return number * number

    @task
    def total(squares) -> int:
        return sum(squares)

    total(square.expand(number=numbers()))


smoke()
