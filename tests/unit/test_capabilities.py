"""What stands in for what an older Airflow does not tell."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from wandb_airflow_provider.capabilities import serde, task_breadcrumbs

ROWS = [{"task_id": "train", "map_index": 3, "state": "success", "duration": 1.5}]


class Newer:
    def get_task_breadcrumbs(self, dag_id: str, run_id: str) -> Any:
        return iter(ROWS) if (dag_id, run_id) == ("dag", "run") else iter(())


class Older:
    """Airflow 3.1."""

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        states = {
            "prepare": "success",
            "train_3": "failed",
            "step_2": "skipped",
            "now": "running",
            "next": None,
        }
        return {"run": states} if (dag_id, run_ids) == ("dag", ["run"]) else {}


def test_a_newer_airflow_is_asked_for_states_and_durations() -> None:
    assert task_breadcrumbs(Newer(), "dag", "run", {"train"}) == ROWS


def test_an_older_airflow_tells_the_final_states_of_tasks_and_of_mapped_instances() -> None:
    rows = task_breadcrumbs(Older(), "dag", "run", {"prepare", "train", "step", "step_2", "now", "next"})
    assert [(row["task_id"], row["map_index"], row["state"], row["duration"]) for row in rows] == [
        ("prepare", -1, "success", None),
        ("train", 3, "failed", None),
        ("step_2", -1, "skipped", None),
    ]


def test_a_dag_run_that_an_older_airflow_does_not_know_has_no_states() -> None:
    assert task_breadcrumbs(Older(), "dag", "other", {"train"}) == []


def test_the_module_that_serializes_is_found_where_airflow_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ModuleType("airflow.serialization.serde")
    serde.cache_clear()
    try:
        assert serde().__name__ in ("airflow.sdk.serde", "airflow.serialization.serde")
        serde.cache_clear()
        monkeypatch.setitem(sys.modules, "airflow.sdk.serde", None)  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "airflow.serialization.serde", before)
        assert serde() is before
    finally:
        serde.cache_clear()
