from __future__ import annotations

from datetime import UTC, datetime, timedelta

from wandb_airflow_provider.demo.airflow_records import TaskInstance
from wandb_airflow_provider.demo.progress import TaskProgress

START = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)


def task(task_id: str, state: str, *, index: int = -1, try_number: int = 1, order: int = 0) -> TaskInstance:
    started = None if state in ("none", "scheduled", "queued") else START + timedelta(seconds=order)
    ended = state in ("success", "failed", "up_for_retry")
    return TaskInstance(
        "weekly", "r1", task_id, index, state, try_number, 1.25 if ended else None, started, None
    )


def test_each_change_is_told_once_in_the_order_of_starting() -> None:
    progress = TaskProgress(width=8)

    first = progress.observe(
        1.0, [task("b", "running", order=2), task("a", "success", order=1), task("c", "queued")]
    )
    second = progress.observe(2.0, [task("b", "running", order=2), task("a", "success", order=1)])
    third = progress.observe(3.0, [task("b", "success", order=2), task("a", "success", order=1)])

    assert first == ["     1.0 s  a        done in 1.2 s", "     1.0 s  b        started"]
    assert second == []
    assert third == ["     3.0 s  b        done in 1.2 s"]


def test_mapped_tasks_tries_and_people_are_named() -> None:
    progress = TaskProgress(width=8)

    lines = progress.observe(
        9.0,
        [
            task("train", "up_for_retry", index=2, order=1),
            task("train", "running", index=3, try_number=2, order=2),
            task("approve", "awaiting_input", order=3),
            task("promote", "upstream_failed", order=4),
        ],
    )

    assert [line.split("s  ", 1)[1] for line in lines] == [
        "train[2] failed, to be tried again, in 1.2 s",
        "train[3] started (try 2)",
        "approve  waits for a person",
        "promote  not run: a task before it failed",
    ]


def test_the_same_state_of_a_later_try_is_told_again() -> None:
    progress = TaskProgress()
    progress.observe(1.0, [task("train", "failed")])

    assert progress.observe(2.0, [task("train", "failed", try_number=2)]) != []
