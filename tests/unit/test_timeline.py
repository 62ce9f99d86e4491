"""The outcome and the timeline of a DAG run, from tables of states and runs."""

from __future__ import annotations

from wandb_airflow_provider.timeline import TaskRun, TaskState, dag_run_outcome, timeline

PREPARE = TaskState("prepare", -1, "success", 1.5)
TRAIN = TaskState("train", -1, "success", 4.0)


def test_a_dag_run_succeeds_when_its_leaves_do() -> None:
    outcome = dag_run_outcome({"train"}, [PREPARE, TRAIN], [TaskRun("train", -1, 1, "e/p/t")])
    assert (outcome.failed, outcome.reason, outcome.runs, outcome.duration) == (False, None, 1, 5.5)
    assert outcome.totals() == {
        "airflow/tasks/success": 2,
        "airflow/runs": 1,
        "airflow/task_seconds": 5.5,
    }
    assert outcome.to_json() == {"failed": False, "reason": None, "states": {"success": 2}, "runs": 1}


def test_a_failed_task_fails_the_dag_run_through_its_leaf_and_says_why() -> None:
    states = [
        TaskState("prepare", -1, "failed", 1.0),
        TaskState("train", -1, "upstream_failed"),
    ]
    runs = [
        TaskRun("prepare", -1, 1, "e/p/1", reason="ValueError: first"),
        TaskRun("prepare", -1, 2, "e/p/2", reason="ValueError: second"),
    ]
    outcome = dag_run_outcome({"train"}, states, runs)
    assert (outcome.failed, outcome.reason) == (True, "prepare: ValueError: second")


def test_a_failure_that_no_leaf_shows_leaves_the_dag_run_green_and_is_still_told() -> None:
    states = [TaskState("optional", 2, "failed"), TRAIN]
    outcome = dag_run_outcome({"train"}, states, [])
    assert (outcome.failed, outcome.reason) == (False, "optional[2]: failed")


def test_a_gate_that_skips_is_the_reason_though_nothing_failed() -> None:
    states = [TaskState("gate", -1, "success"), TaskState("promote", -1, "skipped")]
    runs = [TaskRun("gate", -1, 1, "e/p/g", reason="mrr 0.1 is below 0.5")]
    outcome = dag_run_outcome({"promote"}, states, runs)
    assert (outcome.failed, outcome.reason) == (False, "gate: mrr 0.1 is below 0.5")


def test_a_retry_that_succeeded_leaves_no_reason() -> None:
    runs = [TaskRun("train", -1, 1, "e/p/1", reason="ValueError: first"), TaskRun("train", -1, 2, "e/p/2")]
    assert dag_run_outcome({"train"}, [TRAIN], runs).reason is None


def test_the_timeline_has_a_row_per_try_and_one_for_a_task_without_a_run() -> None:
    states = [TaskState("wait", -1, "success", 2.0), TRAIN, PREPARE]
    runs = [
        TaskRun("train", -1, 2, "e/p/t2", "u2", "2026-03-01T00:00:09Z", "success"),
        TaskRun("train", -1, 1, "e/p/t1", "u1", "2026-03-01T00:00:05Z", "failed", seconds=2.5),
        TaskRun("prepare", -1, 1, "e/p/p1", "u0", "2026-03-01T00:00:01Z", "success"),
        TaskRun(None, -1, 1, "e/p/by-hand"),
    ]
    rows = timeline(states, runs)
    assert [(row["task_id"], row["try_number"], row["state"]) for row in rows] == [
        ("prepare", 1, "success"),
        ("train", 1, "failed"),
        ("train", 2, "success"),
        ("wait", None, "success"),
    ]
    assert [row["duration_seconds"] for row in rows] == [1.5, 2.5, 4.0, 2.0]
    assert rows[1]["run"] == "e/p/t1"
    assert len({tuple(row) for row in rows}) == 1


def test_a_task_whose_duration_airflow_does_not_tell_has_that_of_its_run() -> None:
    run = TaskRun("train", -1, 1, "e/p/t1", "u1", "2026-03-01T00:00:05Z", "killed", seconds=25.8)
    rows = timeline([TaskState("train", -1, "skipped"), TaskState("never", -1, "skipped")], [run])
    assert [row["duration_seconds"] for row in rows] == [25.8, None]


def test_mapped_tasks_have_a_row_each() -> None:
    states = [TaskState("work", index, "success", 1.0) for index in range(3)]
    runs = [
        TaskRun("work", index, 1, f"e/p/{index}", created_at=f"2026-03-01T00:00:0{index}Z")
        for index in (1, 0)
    ]
    assert [(row["map_index"], row["run"]) for row in timeline(states, runs)] == [
        (0, "e/p/0"),
        (1, "e/p/1"),
        (2, None),
    ]
