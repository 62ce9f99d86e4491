"""The artifact operators, run by Airflow's task runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from wandb_airflow_provider import WandbDownloadArtifactOperator, WandbLogArtifactOperator
from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbArtifactNotFoundError,
    WandbConfigurationError,
    WandbInvalidNameError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef


@pytest.fixture
def log(run_task: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """``log(...)`` logs a file as ``corpus``."""
    (tmp_path / "rows.txt").write_text("three rows")

    def log(**arguments: Any) -> Any:
        given = {"name": "corpus", "type": "dataset", "paths": str(tmp_path / "rows.txt"), **arguments}
        with DAG("artifacts", schedule=None):
            operator = WandbLogArtifactOperator(task_id="log", **given)
        return run_task(operator)

    return log


@pytest.fixture
def download(run_task: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """``download(artifact)`` downloads to ``<tmp_path>/<dag run id>/copy``."""

    def download(artifact: Any, **arguments: Any) -> Any:
        with DAG("artifacts", schedule=None):
            operator = WandbDownloadArtifactOperator(
                task_id="download", artifact=artifact, folder=f"{tmp_path}/{{{{ run_id }}}}/copy", **arguments
            )
        return run_task(operator)

    return download


def test_a_logged_artifact_is_returned_and_downloaded_by_reference(
    hook: WandbHook, log: Callable[..., Any], download: Callable[..., Any], tmp_path: Path
) -> None:
    logged = log(
        aliases=["{{ dag.dag_id }}"], metadata={"rows": "{{ 1 + 2 }}"}, description="rows of {{ run_id }}"
    )
    assert logged.state == "success"
    ref = ArtifactRef.from_json(logged.xcom())
    assert ref.source_run == RunRef.from_json(logged.xcom("wandb_run")).path
    assert hook.artifact_metadata(ref) == {"rows": "3"}
    assert "artifacts" in hook.get_artifact(ref).aliases

    used = download(logged.xcom())
    assert used.state == "success"
    assert used.xcom()["path"] == ref.path
    assert used.xcom()["folder"] == f"{tmp_path}/manual__1/copy"
    assert (tmp_path / "manual__1" / "copy" / "rows.txt").read_text() == "three rows"
    consumer = hook.get_conn().run(RunRef.from_json(used.xcom("wandb_run")).path)
    assert [artifact.name for artifact in consumer.used_artifacts()] == ["corpus:v0"]


@pytest.mark.parametrize("path", ["corpus", "corpus:latest", "corpus:v0"])
def test_an_artifact_of_the_task_s_own_project_may_be_named_shortly(
    hook: WandbHook, log: Callable[..., Any], download: Callable[..., Any], path: str
) -> None:
    log()
    used = download(path)
    assert (used.state, used.xcom()["version"]) == ("success", "v0")


def test_a_short_path_means_the_project_that_the_task_names(
    hook: WandbHook, log: Callable[..., Any], download: Callable[..., Any], unique: str
) -> None:
    log(project=f"{unique}-other")
    assert type(download("corpus").error) is WandbArtifactNotFoundError
    used = download("corpus", project=f"{unique}-other")
    assert (used.state, used.xcom()["project"]) == ("success", f"{unique}-other")


def test_a_reference_whose_digest_is_another_s_is_refused(
    hook: WandbHook, log: Callable[..., Any], download: Callable[..., Any], tmp_path: Path
) -> None:
    forged = {**log().xcom(), "digest": "0" * 32}
    used = download(forged)
    assert (used.state, type(used.error)) == ("failed", WandbConfigurationError)
    assert not (tmp_path / "manual__1").exists()


def test_an_alias_that_does_not_exist_fails_the_task_without_a_retry(
    hook: WandbHook, log: Callable[..., Any], download: Callable[..., Any]
) -> None:
    log()
    used = download("corpus:champion")
    assert (used.state, type(used.error)) == ("failed", WandbArtifactNotFoundError)
    record = hook.get_run(RunRef.from_json(used.xcom("wandb_run")))
    assert record.state == "failed"
    assert "corpus:champion" in record.summary["airflow/reason"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": "{{ 'bad name' }}"}, WandbInvalidNameError),
        ({"paths": ["/no/such/file"]}, WandbConfigurationError),
        ({"paths": []}, WandbConfigurationError),
        ({"aliases": ["v1"]}, WandbInvalidNameError),
        ({"metadata": {str(i): i for i in range(101)}}, WandbConfigurationError),
    ],
)
def test_a_mistake_fails_the_task_without_a_retry_before_anything_is_sent(
    server: Any, log: Callable[..., Any], arguments: dict[str, Any], error: type[Exception]
) -> None:
    before = len(server.requests())

    logged = log(**arguments)

    assert (logged.state, type(logged.error)) == ("failed", error)
    assert len(server.requests()) == before
