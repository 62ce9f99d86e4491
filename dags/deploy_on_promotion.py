"""
Build and publish the retrieval index of the version that was promoted.

Runs whenever the alias ``production`` of ``docstring-embeddings`` is added or moves, whoever moved it: the weekly
DAG, a rollback, or a person in W&B.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.sdk import DAG, task

from wandb_airflow_provider import download_artifact, log_artifact, wandb_alias_asset, wandb_pipeline

PRODUCTION = wandb_alias_asset("model", "docstring-embeddings", "production", poll_interval=10)
SMOKE_QUERY = "Return the current working directory."


@task.wandb(job_type="deploy")
def build_index(triggering_asset_events: Any, wandb_run: Any) -> dict[str, Any]:
    """Download exactly the version that the event names, index the passages it was trained with, and try it."""
    from airflow.sdk.exceptions import AirflowSkipException
    from retrieval.corpus import load_passages
    from retrieval.index import build_index as build
    from retrieval.index import search
    from retrieval.model import EmbeddingModel

    event = triggering_asset_events[PRODUCTION][-1].extra["payload"]
    if event["change"] == "removed":
        raise AirflowSkipException("The alias was removed: there is no version to deploy.")
    with TemporaryDirectory() as folder:
        model_folder = download_artifact(wandb_run, event["path"], Path(folder, "model"))
        promoted = wandb_run.use_artifact(event["path"])
        model = EmbeddingModel.load(model_folder)
        corpus = download_artifact(wandb_run, promoted.metadata["dataset"], Path(folder, "corpus"))
        passages = load_passages(corpus / "passages.jsonl")
        build(model, passages, Path(folder, "index"))
        hits = search(Path(folder, "index"), model, SMOKE_QUERY, k=3)
        if not hits:
            raise RuntimeError(
                f"The index of {event['path']} finds nothing for {SMOKE_QUERY!r}; it is not published."
            )
        index = log_artifact(
            wandb_run,
            "docstring-index",
            type="index",
            paths=Path(folder, "index"),
            aliases=["deployed"],
            metadata={"model": event["path"], "digest": event["digest"], "passages": len(passages)},
        )
    wandb_run.summary.update({"deploy/passages": len(passages), "deploy/model": event["path"]})
    return index.to_json()


with (
    DAG(
        "deploy_on_promotion",
        schedule=[PRODUCTION],
        catchup=False,
        tags=["wandb", "deployment"],
        doc_md=__doc__,
    ),
    wandb_pipeline(project="docstring-retrieval", tags=["deployment"]),
):
    build_index()
