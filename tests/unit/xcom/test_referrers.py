"""What refers to a value keeps it: DAG runs at work or with long ids, other tasks, values that hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.unit.xcom.conftest import FRAME, NOW, Backend, Database, clear, pull, push
from wandb_airflow_provider.xcom.orphans import find_orphans
from wandb_airflow_provider.xcom.reference import Producer, StoredReference
from wandb_airflow_provider.xcom.referrers import Airflow
from wandb_airflow_provider.xcom.stored_value import StoredValue

LONG = "x" * 200


@pytest.mark.parametrize("run_id", [LONG, "ü" * 100, "scheduled__2026-01-01T00:00:00+00:00"])
def test_what_a_dag_run_with_a_long_id_refers_to_is_kept(
    backend: Backend, option: Any, hook: Any, database: Database, supervisor: Any, run_id: str
) -> None:
    option(deployment="here", purge="delete")
    first, second = f"{run_id}1", f"{run_id}2"
    raw = push(backend, FRAME, run_id=first)
    assert push(backend, FRAME, run_id=second)["artifact"] == raw["artifact"]
    database.xcoms[(second, "task")] = raw
    assert database.orphans(hook) == []
    clear(backend, supervisor, raw, first)
    pd.testing.assert_frame_equal(pull(backend, raw), FRAME)
    assert database.orphans(hook) == []
    database.xcoms.clear()
    assert database.clean(hook) == 1


def test_a_version_whose_dag_run_cannot_be_told_is_kept(
    backend: Backend, option: Any, hook: Any, database: Database
) -> None:
    raw = push(backend, FRAME, run_id=LONG)
    artifact = hook.get_conn().artifact(raw["artifact"])
    artifact.metadata = {**artifact.metadata, "dag_run_id": "hidden by a policy"}
    artifact.save()
    assert database.orphans(hook) == []


def test_what_a_dag_run_at_work_stored_is_kept_until_it_has_ended(
    backend: Backend, option: Any, hook: Any, database: Database
) -> None:
    option(deployment="here")
    push(backend, FRAME)
    database.at_work.add("run1")
    assert database.orphans(hook) == []
    database.at_work.clear()
    assert database.clean(hook) == 1


@pytest.mark.parametrize("stored", [True, False], ids=["object store", "W&B"])
def test_a_value_that_another_task_passes_on_is_kept_while_that_xcom_is_there(
    backend: Backend,
    option: Any,
    hook: Any,
    tmp_path: Path,
    database: Database,
    supervisor: Any,
    stored: bool,
) -> None:
    option(deployment="here", purge="delete", storage=tmp_path if stored else "")
    raw = push(backend, FRAME)
    passed = push(backend, StoredValue(StoredReference.from_json(raw)), run_id="run7", task_id="choose")
    assert passed == raw
    database.xcoms[("run7", "choose")] = [passed]
    # Cleared, and then another value is stored.
    clear(backend, supervisor, raw, "run1")
    database.xcoms[("run1", "task")] = push(backend, FRAME.head(1))
    assert database.orphans(hook) == []
    pd.testing.assert_frame_equal(pull(backend, passed), FRAME)
    del database.xcoms[("run7", "choose")]
    assert [orphan.artifact for orphan in database.orphans(hook)] == [raw["artifact"]]


def test_values_in_a_list_that_is_itself_stored_are_kept(
    backend: Backend, option: Any, hook: Any, database: Database
) -> None:
    option(threshold_bytes=100)
    raw = push(backend, [FRAME, 1])
    assert (raw["codec"], raw["name"]) == ("json", "dag.task.return_value")
    database.xcoms[("run1", "task")] = raw
    assert database.orphans(hook) == []


def test_a_value_whose_xcom_cannot_be_read_is_kept(backend: Backend, hook: Any) -> None:
    def broken(producer: Producer) -> Any:
        raise ConnectionError("the API server is away")

    push(backend, FRAME)
    airflow = Airflow(broken, lambda dag_id, dag_run_id: False)
    assert list(find_orphans(hook, airflow, min_age=NOW)) == []
