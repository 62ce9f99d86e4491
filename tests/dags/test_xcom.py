"""The XCom backend in whole DAGs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk import DAG, task

from tests.dags.conftest import Ledger
from tests.dags.test_examples import DAGS, load, pushed, states
from wandb_airflow_provider import WandbXComCleanupOperator
from wandb_airflow_provider.xcom import producer
from wandb_airflow_provider.xcom.backend import WandbXComBackend

pytestmark = pytest.mark.slow

RunDag = Callable[..., Any]


@pytest.fixture(autouse=True)
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Airflow configured with the backend: it finds the class when it is imported, which was long ago."""
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time import lazy_sequence, task_runner, xcom

    from wandb_airflow_provider import sdk

    assert BaseXCom is not WandbXComBackend
    for module in (task_runner, xcom, lazy_sequence):
        monkeypatch.setattr(module, "XCom", WandbXComBackend, raising=False)
    producer._prepared.clear()
    yield
    sdk.release()


def test_xcom_example_passes_tables_a_model_and_a_folder(ledger: Ledger, run_dag: RunDag) -> None:
    dag_run = run_dag(load(DAGS / "example_xcom.py"))

    assert dag_run.state == "success", states(dag_run)
    assert pushed(dag_run, "read").startswith("LogisticRegression: 1.0")
    assert pushed(dag_run, "choose") == pushed(dag_run, "train")
    assert pushed(dag_run, "find_orphans") == {"orphans": [], "removed": 0, "size_bytes": 0}
    runs = {run.name: run for run in ledger.api().runs("local/xcom-example", lazy=False)}
    root = runs.pop(f"example_xcom · {dag_run.run_id}")
    assert set(runs) == {"prepare", "train", "evaluate", "choose"}
    tables = {"example_xcom.prepare.return_value--train:v0", "example_xcom.prepare.return_value--test:v0"}
    assert {a.name for a in runs["prepare"].logged_artifacts()} == tables
    assert {a.name for a in runs["evaluate"].used_artifacts()} == tables | {
        "example_xcom.train.return_value:v0"
    }
    # What plain tasks store is in the pipeline run, which is as it would be without it.
    assert [a.name for a in root.logged_artifacts() if a.type == "xcom"] == [
        "example_xcom.report.return_value:v0"
    ]
    assert (root.state, root.summary["airflow/state"]) == ("finished", "success")


def test_mapped_outputs_are_read_one_at_a_time(
    ledger: Ledger, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    from wandb_airflow_provider.xcom.consumer import Pull

    loaded: list[str] = []
    load_one = Pull.load
    monkeypatch.setattr(
        Pull, "load", lambda self, ref, depth=0: loaded.append(ref.name) or load_one(self, ref, depth)
    )
    with DAG("mapped_values", schedule=None) as dag:

        @task
        def part(number: int) -> Any:
            return pd.DataFrame({"n": [number]})

        @task
        def first(parts: Any) -> int:
            assert loaded == []
            return int(next(iter(parts))["n"].sum())

        first(part.expand(number=[7, 8, 9]))
    dag_run = run_dag(dag)
    assert (dag_run.state, pushed(dag_run, "first")) == ("success", 7)
    assert loaded == ["mapped_values.part.return_value.0"]


def test_cleanup_removes_what_no_xcom_refers_to_and_only_reports_by_default(
    ledger: Ledger, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    import pandas as pd

    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__STORAGE", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__DEPLOYMENT", "tests")

    def dag_of(dry_run: bool) -> DAG:
        with DAG("cleaned", schedule=None) as dag:

            @task
            def make() -> Any:
                return pd.DataFrame({"n": [1]})

            make() >> WandbXComCleanupOperator(task_id="clean", dry_run=dry_run, min_age_hours=0)
        return dag

    for run_id in ("gone", "gone-too"):
        WandbXComBackend.serialize_value(
            pd.DataFrame({"n": [run_id]}), key="k", task_id="t", dag_id="d", run_id=run_id, map_index=-1
        )
    (scope,) = tmp_path.iterdir()
    (scope / "half" / "written").mkdir(parents=True)
    (scope / "half" / "written" / "value.txt").write_text("no index")
    (tmp_path / "of-another-project" / "d.t.k" / "digest").mkdir(parents=True)
    (tmp_path / "of-another-project" / "d.t.k" / "digest" / "value.bin").write_text("kept")
    found = pushed(run_dag(dag_of(True)), "clean")
    assert (len(found["orphans"]), found["removed"]) == (3, 0)
    assert {orphan["artifact"] for orphan in found["orphans"]} == {
        f"local/{ledger.project}/d.t.k:v0",
        f"local/{ledger.project}/d.t.k:v1",
        None,
    }
    assert len(list(tmp_path.rglob("*.txt"))) == 1
    removed = pushed(run_dag(dag_of(False)), "clean")
    assert removed["removed"] == 3
    assert {path.parents[1].name for path in tmp_path.rglob("*index.json")} == {"cleaned.make.return_value"}
    assert pushed(run_dag(dag_of(False)), "clean")["orphans"] == []
