"""DAG runs that a version of a dataset has started, and the run that logged it, lead to each other."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import (
    AssetEventDagRunReference,
    AssetReferenceAssetEventDagRun,
)
from airflow.sdk.execution_time import comms

from wandb_airflow_provider import WandbLogArtifactOperator, WandbPythonOperator, wandb_pipeline
from wandb_airflow_provider.hooks.triggered_runs import FOLDER
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef


def moved(version: str, source_run: str) -> AssetEventDagRunReference:
    """An event of ``wandb_alias_asset``, as the trigger sends it."""
    uri = "wandb://registry/dataset/rows?alias=ready"
    return AssetEventDagRunReference(
        asset=AssetReferenceAssetEventDagRun(name=uri, uri=uri, extra={}),
        extra={"from_trigger": True, "payload": {"path": version, "source_run": source_run}},
        source_dag_id=None,
        source_run_id=None,
        source_task_id=None,
        source_map_index=None,
        source_aliases=[],
        timestamp=datetime(2026, 3, 1, tzinfo=UTC),
    )


@pytest.fixture
def start(run_task: Callable[..., Any], hook: WandbHook, supervisor: Any) -> Callable[..., Any]:
    """Open and close the pipeline run of a DAG run that an event started, and return it."""
    supervisor.answers["GetTaskBreadcrumbs"] = lambda msg: comms.TaskBreadcrumbsResult(breadcrumbs=[])

    def start(event: AssetEventDagRunReference, dag_run_id: str) -> Any:
        with DAG("consumer", schedule=None) as dag, wandb_pipeline():
            WandbPythonOperator(task_id="work", python_callable=lambda: None)
        for task_id in ("wandb_pipeline_open", "wandb_pipeline_close"):
            ended = run_task(dag.get_task(task_id), dag_run_id=dag_run_id, asset_events=[event])
            assert ended.error is None
        return hook.get_run(RunRef.from_json(ended.xcom("wandb_run")))

    return start


@pytest.fixture
def produced(run_task: Callable[..., Any], hook: WandbHook, tmp_path: Path) -> tuple[RunRef, str]:
    """A run of a task, and the version of a dataset that it logged."""
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with DAG("producer", schedule=None):
        operator = WandbLogArtifactOperator(
            task_id="store", name="rows", type="dataset", paths=[str(tmp_path / "rows.csv")]
        )
    stored = run_task(operator)
    assert stored.error is None
    return RunRef.from_json(stored.xcom("wandb_run")), stored.xcom()["path"]


def named_in(hook: WandbHook, ref: RunRef, folder: Path) -> list[dict[str, Any]]:
    api = hook.get_conn()
    api.flush()  # type: ignore[no-untyped-call]
    found = []
    for file in api.run(ref.path).files():
        if file.name.startswith(FOLDER):
            with file.download(folder, replace=True) as content:
                found.append(json.load(content))
    return found


def test_the_run_that_logged_a_version_and_the_dag_run_that_it_started_lead_to_each_other(
    start: Callable[..., Any], produced: tuple[RunRef, str], hook: WandbHook, tmp_path: Path
) -> None:
    source, version = produced
    root = start(moved(version, source.path), "asset_triggered__1")

    (cause,) = root.config["airflow"]["triggered_by"]
    assert (cause["run"], cause["url"], cause["artifact"]) == (source.path, source.url, version)
    assert root.config["airflow"]["parent_run"] == source.path
    (named,) = named_in(hook, source, tmp_path)
    assert (named["dag_id"], named["dag_run_id"]) == ("consumer", "asset_triggered__1")
    assert (named["run"], named["url"]) == (root.ref.path, root.ref.url)


@pytest.mark.slow
def test_nothing_is_written_to_a_run_that_has_not_logged_the_version_or_is_not_of_airflow(
    start: Callable[..., Any],
    produced: tuple[RunRef, str],
    log_run: Callable[..., Any],
    hook: WandbHook,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, _ = produced
    foreign, artifact = log_run({"x": 1}, "weights")
    with caplog.at_level(logging.WARNING):
        start(moved(artifact.path, foreign.path), "asset_triggered__1")
    assert "does not say so" not in caplog.text
    with caplog.at_level(logging.WARNING):
        start(moved(artifact.path, source.path), "asset_triggered__2")
    assert "It has not logged the artifact" in caplog.text
    assert named_in(hook, foreign, tmp_path) == named_in(hook, source, tmp_path) == []
