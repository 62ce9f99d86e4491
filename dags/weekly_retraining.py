"""
Retrain an embedding model every week, and promote it only when it is measurably better and a person agrees.

Data preparation, fine-tune, evaluation by Hit Rate@K and MRR, gate, report, approval, promotion. Every step is a
W&B run under one pipeline run; what passes between steps is a reference to a W&B artifact, never a local file.
The promotion moves the alias ``production``, which starts the DAG in ``deploy_on_promotion.py``. Why a version has it:
``wandb-airflow why model/docstring-embeddings:production``, or the page that the promotion pushes as ``page``.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pendulum
from airflow.sdk import DAG, Param, task

from wandb_airflow_provider import (
    MetricRule,
    PairedRule,
    WandbHook,
    WandbReportOperator,
    download_artifact,
    log_artifact,
    wandb_pipeline,
    wandb_quality_gate,
)

REGISTRY, COLLECTION, ALIAS = "model", "docstring-embeddings", "production"


@task.wandb(job_type="data")
def prepare_data(params: dict[str, Any], wandb_run: Any) -> dict[str, Any]:
    """Build the corpus from the documentation of Python's standard library, and log it as a dataset."""
    import json

    import wandb
    from retrieval.corpus import build_corpus, load_passages
    from retrieval.samples import sample_embeddings

    with TemporaryDirectory() as folder:
        corpus = Path(folder)
        stats = build_corpus(corpus, limit=params["max_examples"]).as_dict()
        columns, rows = sample_embeddings(load_passages(corpus / "passages.jsonl"))
        samples = json.dumps({"columns": columns, "rows": rows}, indent=1)
        (corpus / "sample_embeddings.json").write_text(samples, encoding="utf-8")
        wandb_run.log({"data/sample_embeddings": wandb.Table(columns=columns, data=rows)})
        wandb_run.summary.update({"data/examples": stats["examples"], "data/passages": stats["passages"]})
        dataset = log_artifact(
            wandb_run,
            "docstring-corpus",
            type="dataset",
            paths=corpus,
            metadata=stats,
            description="Queries and passages from the docstrings of Python's standard library, split by module.",
        )
    return dataset.to_json()


@task.wandb(job_type="train")
def train(dataset: dict[str, Any], params: dict[str, Any], wandb_run: Any) -> dict[str, Any]:
    """Fine-tune the embedding model with a contrastive loss, and log its weights."""
    from retrieval.corpus import load_examples, load_passages
    from retrieval.model import Hyperparameters
    from retrieval.training import train as fit

    chosen = {"seed": params["seed"], "epochs": params["epochs"], "dim": params["dim"]}
    if params["degrade"]:
        # Untrained, in too few dimensions: a candidate that the gate has to stop.
        chosen |= {"epochs": 0, "dim": 64}
    hyperparameters = Hyperparameters(**chosen)
    wandb_run.config.update({"hyperparameters": hyperparameters.as_dict()})
    with TemporaryDirectory() as folder:
        corpus = download_artifact(wandb_run, dataset, Path(folder, "corpus"))
        passages = load_passages(corpus / "passages.jsonl")
        model = fit(
            load_examples(corpus / "train.jsonl"),
            passages,
            hyperparameters,
            lambda step, figures: wandb_run.log(
                {f"train/{name}": value for name, value in figures.items()}, step=step
            ),
            validation=load_examples(corpus / "validation.jsonl"),
            corpus_sha256=dataset["digest"],
        )
        model.save(Path(folder, "model"))
        weights = log_artifact(
            wandb_run,
            "docstring-embeddings",
            type="model",
            paths=Path(folder, "model"),
            metadata={
                **model.describe(),
                "dataset": dataset["path"],
                "git_commit": wandb_run.config["airflow"]["git_commit"],
            },
        )
    return weights.to_json()


@task.wandb(job_type="evaluate")
def evaluate(dataset: dict[str, Any], candidate: dict[str, Any], wandb_run: Any) -> None:
    """Measure the candidate on the golden set, beside the untrained model, plain TF-IDF and today's production."""
    import wandb
    from retrieval.corpus import load_examples, load_passages
    from retrieval.evaluation import RANK_COLUMNS, TfidfBaseline
    from retrieval.evaluation import evaluate as measure
    from retrieval.model import EmbeddingModel, untrained_model

    production = WandbHook().get_alias(REGISTRY, COLLECTION, ALIAS)
    with TemporaryDirectory() as folder:
        corpus = download_artifact(wandb_run, dataset, Path(folder, "corpus"))
        passages, golden = load_passages(corpus / "passages.jsonl"), load_examples(corpus / "golden.jsonl")
        model = EmbeddingModel.load(download_artifact(wandb_run, candidate, Path(folder, "candidate")))
        untrained = untrained_model(passages, model.hyperparameters)
        measured = {
            "eval": measure(model, golden, passages),
            "untrained": measure(untrained, golden, passages),
            "tfidf": measure(TfidfBaseline(untrained.features), golden, passages),
        }
        if production is not None:
            current = EmbeddingModel.load(
                download_artifact(wandb_run, production, Path(folder, "production"))
            )
            measured["production"] = measure(current, golden, passages)
    for name, result in measured.items():
        wandb_run.summary.update(result.metrics(f"{name}/"))
        if name in ("eval", "production"):
            wandb_run.log({f"{name}/ranks": wandb.Table(columns=list(RANK_COLUMNS), data=result.rows())})


with (
    DAG(
        "weekly_retraining",
        schedule="0 3 * * 1",
        start_date=pendulum.datetime(2026, 1, 5, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        tags=["wandb", "retraining"],
        params={
            "seed": Param(13, type="integer", minimum=0, description="Draws projection and batches."),
            "epochs": Param(5, type="integer", minimum=0, description="Passes over the training pairs."),
            "dim": Param(1536, type="integer", minimum=8, description="Length of an embedding."),
            "max_examples": Param(
                None, type=["null", "integer"], description="Largest corpus; empty for all."
            ),
            "degrade": Param(
                False, type="boolean", description="Make the candidate worse, to see the gate stop it."
            ),
        },
        doc_md=__doc__,
    ) as dag,
    wandb_pipeline(project="docstring-retrieval", tags=["weekly", "retraining"]),
):
    dataset = prepare_data()
    candidate = train(dataset)
    evaluation = evaluate(dataset, candidate)

    quality = wandb_quality_gate(
        prefix_group_id=False,
        rules=[
            MetricRule(metric="eval/mrr", minimum=0.2, samples="eval/n_queries", min_samples=30),
            MetricRule(metric="eval/mrr", min_change=0.005, against="untrained/mrr"),
            MetricRule(
                metric="eval/hit_rate_at_10",
                min_change=-0.02,
                against="production/hit_rate_at_10",
                when_no_baseline="pass",
            ),
            PairedRule(
                table="eval/ranks",
                column="reciprocal_rank",
                key="example_id",
                against="production/ranks",
                change_above=-0.03,
                when_no_baseline="pass",
            ),
        ],
        run=evaluation["wandb_run"],
        candidate=candidate,
        registry=REGISTRY,
        collection=COLLECTION,
        alias=ALIAS,
        report=lambda gate: WandbReportOperator(task_id="report", verdict=gate.output),
        note="By {{ dag.dag_id }}, run {{ run_id }}.",
    )
    evaluation >> quality.group
