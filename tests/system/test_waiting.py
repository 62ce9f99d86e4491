"""Sensor and watcher in a real triggerer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import WANDB_ENTITY, WANDB_PROJECT
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.devserver_process import DevServerProcess

pytestmark = pytest.mark.slow

TARGET = "wandb-registry-model/system-waiting"


@pytest.fixture(scope="module")
def version(wandb_server: DevServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A version of a model."""
    import wandb

    settings = wandb.Settings(
        base_url=wandb_server.url,
        api_key=wandb_server.api_key,
        console="off",
        silent=True,
        disable_git=True,
    )
    folder: Path = tmp_path_factory.mktemp("runs")
    with wandb.init(entity=WANDB_ENTITY, project=WANDB_PROJECT, dir=folder, settings=settings) as run:
        artifact = wandb.Artifact("waited-for", type="model")
        with artifact.new_file("content.txt") as file:
            file.write("a")
        path = run.log_artifact(artifact).wait().qualified_name
    api = wandb.Api(api_key=wandb_server.api_key, overrides={"base_url": wandb_server.url})
    yield api.artifact(path)
    wandb.teardown()


def test_a_task_that_starts_in_the_triggerer_is_never_in_a_worker_before_its_alias_is_held(
    airflow_cluster: AirflowCluster, version: Any
) -> None:
    airflow_cluster.wait_for_dag("waiting")
    airflow_cluster.api.unpause("waiting")
    run = airflow_cluster.api.trigger("waiting", conf={"alias": "awaited"})
    airflow_cluster.wait_for_task("waiting", run.dag_run_id, "wait", frozenset({"deferred"}))
    version.link(TARGET, aliases=["awaited"])

    assert airflow_cluster.wait_for_run("waiting", run.dag_run_id, timeout=60).state == "success"
    found = airflow_cluster.api.xcom("waiting", run.dag_run_id, "wait")
    assert (found["alias"], found["digest"], found["source"]) == (
        "awaited",
        version.digest,
        version.qualified_name,
    )
    assert found["source_run"].startswith(f"{WANDB_ENTITY}/{WANDB_PROJECT}/")


def test_one_move_of_an_alias_starts_one_dag_run_with_all_that_is_known_of_it(
    airflow_cluster: AirflowCluster, version: Any
) -> None:
    airflow_cluster.wait_for_dag("watching")
    airflow_cluster.api.unpause("watching")
    version.link(TARGET, aliases=["watched"])

    run = airflow_cluster.wait_for_new_run("watching", timeout=60)
    assert airflow_cluster.wait_for_run("watching", run.dag_run_id, timeout=60).state == "success"
    event = airflow_cluster.api.xcom("watching", run.dag_run_id, "told")
    assert (event["change"], event["digest"]) == ("added", version.digest)
    assert event["source_run"].startswith(f"{WANDB_ENTITY}/{WANDB_PROJECT}/")
    assert len(airflow_cluster.api.dag_runs("watching")) == 1
