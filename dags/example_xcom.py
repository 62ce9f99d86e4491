"""
Pass tables, a model and a folder between tasks that may run on different workers.

Needs ``[core] xcom_backend = wandb_airflow_provider.xcom.backend.WandbXComBackend`` and the Airflow connection
``wandb_default``. With ``[wandb_xcom] storage`` the values are kept in an object store, else in W&B.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from wandb_airflow_provider import WandbXComCleanupOperator, by_reference, wandb_pipeline

with DAG("example_xcom", schedule=None, catchup=False), wandb_pipeline(project="xcom-example"):
    # [START values]
    @task.wandb
    def prepare() -> Any:
        import pandas as pd

        rows = pd.DataFrame({"x": range(100)}, dtype="float64")
        rows["y"] = (rows["x"] > 49).astype("int64")
        return {"train": rows[::2].reset_index(drop=True), "test": rows[1::2].reset_index(drop=True)}

    @task.wandb
    def train(tables: Any) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression().fit(tables["train"][["x"]], tables["train"]["y"])

    @task.wandb
    def evaluate(model: Any, tables: Any, wandb_run: Any) -> float:
        accuracy = float(model.score(tables["test"][["x"]], tables["test"]["y"]))
        wandb_run.summary["accuracy"] = accuracy
        return accuracy

    # [END values]

    # A task without a W&B run of its own.
    @task
    def report(accuracy: float) -> Path:
        folder = Path(tempfile.mkdtemp()) / "report"
        folder.mkdir()
        (folder / "accuracy.txt").write_text(f"{accuracy:.3f}\n")
        return folder

    # The model is not downloaded here.
    @task.wandb
    def choose(model: Any, accuracy: float) -> Any:
        return model if accuracy > 0.5 else None

    @task
    def read(folder: Path, model: Any) -> str:
        return f"{type(model).__name__}: {(folder / 'accuracy.txt').read_text().strip()}"

    tables = prepare()
    model = train(tables)
    accuracy = evaluate(model, tables)
    shown = read(report(accuracy), choose(by_reference(model), accuracy))
    shown >> WandbXComCleanupOperator(task_id="find_orphans", project="xcom-example")
