"""How a run that nobody closed has ended: a table of what Airflow and W&B say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from wandb_airflow_provider.reconciling import (
    AirflowSays,
    attempt_ending,
    belongs_here,
    pipeline_ending,
    quiet_seconds,
)


@pytest.mark.parametrize(
    ("state", "exit_code", "said"),
    [
        ("success", 0, "success"),
        ("skipped", 0, "skipped"),
        ("failed", 1, "failed"),
        ("upstream_failed", 1, "failed"),
        ("removed", 1, "removed"),
        ("up_for_retry", 1, "failed"),
        ("queued", 1, "failed"),
        ("none", 1, "failed"),
    ],
)
def test_a_run_ends_as_airflow_says_of_its_task(state: str, exit_code: int, said: str) -> None:
    ended = attempt_ending(AirflowSays("running", {"train": state}), "train", -1, 1, 1)
    assert ended is not None
    assert (ended.exit_code, ended.state) == (exit_code, said)
    assert repr(state) in ended.source
    assert (ended.reason("task") is None) is (exit_code == 0)


@pytest.mark.parametrize("state", ["running", "deferred", "awaiting_input", "up_for_reschedule"])
def test_a_run_whose_task_is_at_work_is_left_alone(state: str) -> None:
    assert attempt_ending(AirflowSays("running", {"train": state}), "train", -1, 1, 1) is None


def test_a_later_try_tells_that_the_one_before_has_failed_whatever_the_task_does_now() -> None:
    ended = attempt_ending(AirflowSays("running", {"train": "success"}), "train", -1, 1, 3)
    assert ended is not None
    assert (ended.exit_code, ended.state) == (1, "failed")
    assert "try 3" in ended.source


def test_a_mapped_task_is_asked_for_by_its_index() -> None:
    says = AirflowSays("running", {"train_0": "running", "train_1": "failed"})
    assert attempt_ending(says, "train", 0, 1, 1) is None
    assert attempt_ending(says, "train", 1, 1, 1) is not None
    gone = attempt_ending(says, "train", 2, 1, 1)
    assert gone is not None
    assert gone.state == "removed"


def test_what_airflow_has_deleted_is_unknown() -> None:
    for ended in (
        attempt_ending(AirflowSays(None, {}), "train", -1, 1, 1),
        pipeline_ending(AirflowSays(None, {}), "close"),
    ):
        assert ended is not None
        assert (ended.exit_code, ended.state) == (1, "unknown")


@pytest.mark.parametrize(
    ("dag_run", "closing", "expected"),
    [
        ("failed", "skipped", (1, "failed")),
        ("failed", "failed", (1, "failed")),
        ("success", "failed", (0, "success")),
        ("success", None, (0, "success")),
        ("failed", "running", None),
        ("failed", "none", None),
        ("running", "success", None),
        ("queued", "none", None),
    ],
)
def test_a_pipeline_ends_with_its_dag_run_once_its_closing_task_can_no_longer_close_it(
    dag_run: str, closing: str | None, expected: Any
) -> None:
    tasks = {} if closing is None else {"close": closing}
    ended = pipeline_ending(AirflowSays(dag_run, tasks), "close")
    assert (ended and (ended.exit_code, ended.state)) == expected


@pytest.mark.parametrize(
    "heartbeat", ["2026-03-01T00:00:00", "2026-03-01T00:00:00Z", "2026-03-01T01:00:00+01:00"]
)
def test_a_heartbeat_is_in_utc_with_and_without_saying_so(heartbeat: str) -> None:
    assert quiet_seconds(heartbeat, datetime(2026, 3, 1, 0, 2, tzinfo=UTC)) == 120.0


OURS = {"dag_id": "d", "dag_run_id": "r", "log_url": "http://a:8080/dags/d/runs/r/tasks/t"}


@pytest.mark.parametrize(
    ("provenance", "ours"),
    [
        (OURS, True),
        ({**OURS, "log_url": "http://b:8080/dags/d/runs/r/tasks/t"}, False),
        ({**OURS, "log_url": None}, False),
        ({**OURS, "dag_id": None}, False),
        ({**OURS, "dag_run_id": ["r"]}, False),
        ({**OURS, "task_id": "t", "map_index": -1, "try_number": 1}, True),
        ({**OURS, "task_id": "t", "map_index": -1}, False),
        ({**OURS, "task_id": "t", "map_index": "[redacted]", "try_number": 1}, False),
        (None, False),
        ("text", False),
    ],
)
def test_runs_of_another_airflow_and_of_no_airflow_are_not_ours(provenance: Any, ours: bool) -> None:
    assert belongs_here(provenance, "http://a:8080/dags/reconcile/runs/x/tasks/y?try_number=1") is ours
