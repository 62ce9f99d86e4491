"""
Pass data between tasks as W&B artifacts: logged and downloaded by operators, or inside a task that needs them.

The two operators read and write folders of the worker that they run on. Where tasks may run on different workers,
let them share a folder, or log and download inside the task, as ``count_words`` does.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from airflow.sdk import DAG, setup, task, teardown

from wandb_airflow_provider import (
    WandbDownloadArtifactOperator,
    WandbLogArtifactOperator,
    download_artifact,
    log_artifact,
    wandb_pipeline,
)


@setup
def make_folder() -> str:
    return mkdtemp(prefix="wandb-airflow-example-")


@teardown
def remove_folder(folder: str) -> None:
    shutil.rmtree(folder)


@task
def write_texts(folder: str) -> str:
    texts = Path(folder, "texts")
    texts.mkdir()
    (texts / "train.txt").write_text("the quick brown fox jumps over the lazy dog\n", encoding="utf-8")
    (texts / "test.txt").write_text("the dog sleeps\n", encoding="utf-8")
    return str(texts)


@task
def show_size(downloaded: dict[str, Any]) -> int:
    return Path(downloaded["folder"], "test.txt").stat().st_size


# [START in_task]
@task.wandb
def count_words(dataset: dict[str, Any], wandb_run: Any) -> dict[str, Any]:
    with TemporaryDirectory() as work:
        texts = download_artifact(wandb_run, dataset, Path(work, "texts"))
        words = (texts / "train.txt").read_text(encoding="utf-8").split()
        vocabulary = Path(work, "vocabulary.txt")
        vocabulary.write_text("\n".join(sorted(set(words))), encoding="utf-8")
        wandb_run.summary["words"] = len(words)
        ref = log_artifact(
            wandb_run,
            "example-vocabulary",
            type="vocabulary",
            paths=vocabulary,
            metadata={"dataset": dataset["path"]},
        )
    return ref.to_json()


# [END in_task]
with DAG("example_artifacts", schedule=None, tags=["wandb", "example"], doc_md=__doc__), wandb_pipeline():
    folder = make_folder()
    # [START operators]
    log_dataset = WandbLogArtifactOperator(
        task_id="log_dataset",
        name="example-texts",
        type="dataset",
        paths=write_texts(folder),
        aliases=["example"],
        metadata={"language": "en"},
    )
    download = WandbDownloadArtifactOperator(
        task_id="download",
        artifact=log_dataset.output,
        folder="{{ ti.xcom_pull(task_ids='make_folder') }}/downloaded",
        part="test",
    )
    # [END operators]
    [show_size(download.output), count_words(log_dataset.output)] >> remove_folder(folder)
