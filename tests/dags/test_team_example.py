"""What the docs say a team writes to test a DAG of its own, run as it stands there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _deployed(airflow_db: None) -> Iterator[None]:
    """The DAG lies in the folder of DAGs, as it does where Airflow runs it."""
    folder = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    copy = Path(shutil.copy(ROOT / "dags" / "example_quickstart.py", folder))
    yield
    copy.unlink()


# [START team_test]
def test_training_survives_a_rate_limit(wandb_connection, wandb_server, wandb_faults):  # type: ignore[no-untyped-def]
    from airflow.dag_processing.dagbag import DagBag

    limited = wandb_faults.fail(429, op="UpsertBucket", retry_after=1)
    dag_run = DagBag().dags["example_quickstart"].test()

    assert dag_run.state == "success"
    assert limited.met == 1
    (trained,) = [run for run in wandb_server.runs("quickstart") if run.job_type == "training"]
    assert (trained.state, trained.config["learning_rate"]) == ("finished", 0.1)
    assert trained.summary["loss"] < 0.01


# [END team_test]
