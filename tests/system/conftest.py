"""One dev server and one whole Airflow for all system tests; see ``AirflowCluster`` for what tests can do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from wandb_airflow_provider.demo.airflow_api import DagRun
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.devserver_process import DevServerProcess
from wandb_airflow_provider.demo.polling import wait_for

DAGS_FOLDER = Path(__file__).parent / "dags"
WANDB_ENTITY = "local"
WANDB_PROJECT = "system-tests"
WEBHOOK_SECRET = "the-secret-of-system-tests"
FINAL = {"finished", "failed", "crashed", "killed", "preempted"}

# Each task is forked from the scheduler, and each parse of a DAG file from the DAG processor, so that what these have
# imported costs the tasks nothing. None of it starts a process, nor a thread with the settings below. The demo's own
# tests run without this, as everybody's Airflow does.
PRELOADED = """
import sys

if "scheduler" in sys.argv or "dag-processor" in sys.argv:
    import airflow.providers.standard.decorators.python
    import airflow.providers.standard.operators.empty
    import airflow.providers.standard.operators.hitl
    import airflow.providers.standard.operators.trigger_dagrun
    import airflow.providers.standard.sensors.time_delta
    import airflow.sdk.definitions.decorators.condition
    import airflow.sdk.definitions.decorators.task_group
    import airflow.sdk.execution_time.supervisor
if "scheduler" in sys.argv:
    import pandas
    import requests
    import wandb.apis.public
    import wandb.sdk.artifacts._internal_artifact
    import wandb.sdk.launch.inputs.internal
"""
# The memory of Arrow, which pandas imports, would be tidied up by a thread.
NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder, so that ``-m 'not system'`` leaves it out, and put the backfill last."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("system")
    # On SQLite, Airflow may refuse a backfill while its scheduler writes, and its API server may fail for a while then.
    items.sort(key=lambda item: item.path.name == "test_backfill.py")


@pytest.fixture(scope="session")
def wandb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServerProcess]:
    """The dev server, as a process of its own."""
    with DevServerProcess(tmp_path_factory.mktemp("devserver")) as server:
        yield server


@pytest.fixture(scope="session")
def airflow_cluster(
    tmp_path_factory: pytest.TempPathFactory, wandb_server: DevServerProcess
) -> Iterator[AirflowCluster]:
    """Airflow with the connection ``wandb_default`` and a copy of ``tests/system/dags`` that a test may add to."""
    connection = wandb_server.connection(entity=WANDB_ENTITY, project=WANDB_PROJECT)
    home = tmp_path_factory.mktemp("airflow")
    dags_folder = shutil.copytree(
        DAGS_FOLDER,
        tmp_path_factory.mktemp("workflows") / "dags",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (home / "config").mkdir()
    (home / "config" / "airflow_local_settings.py").write_text(PRELOADED)
    with AirflowCluster(
        home,
        dags_folder,
        connections={"wandb_default": connection},
        environment={
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__WANDB__AUTO_INSTRUMENT": "True",
            "AIRFLOW__WANDB__INCLUDE": "plain_*",
            "AIRFLOW__WANDB__WEBHOOK_CONN_ID": "wandb_webhook",
            "AIRFLOW_CONN_WANDB_WEBHOOK": json.dumps({"conn_type": "generic", "password": WEBHOOK_SECRET}),
            "WANDB_X_SAVE_REQUIREMENTS": "false",
            # New files are found all the same, and no test changes one.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
            **NO_THREADS,
        },
    ) as cluster:
        yield cluster


class Endings:
    """Start a DAG whose one task works, and read its runs back."""

    def __init__(self, cluster: AirflowCluster, client: Any) -> None:
        self.cluster = cluster
        self._client = client

    def start(self, dag_id: str) -> DagRun:
        self.cluster.wait_for_dag(dag_id)
        self.cluster.api.unpause(dag_id)
        return self.cluster.api.trigger(dag_id)

    def wandb_run(self, run: DagRun, job_type: str) -> Any | None:
        self._client.flush()
        filters = {"group": f"{run.dag_id}__{run.dag_run_id}", "jobType": job_type}
        found = list(self._client.runs(f"{WANDB_ENTITY}/{WANDB_PROJECT}", filters=filters, lazy=False))
        return found[0] if found else None

    def ended(self, run: DagRun, job_type: str) -> Any:
        def probe() -> Any | None:
            found = self.wandb_run(run, job_type)
            return found if found is not None and found.state in FINAL else None

        return wait_for(f"the W&B run of {job_type} to end", probe, timeout=60)

    def link(self, run: DagRun, task_id: str) -> str | None:
        """The URL of the button to the task's W&B run, as Airflow's API hands it to the UI."""
        task = f"/dags/{run.dag_id}/dagRuns/{quote(run.dag_run_id, safe='')}/taskInstances/{task_id}"
        found: str | None = self.cluster.api.request("GET", f"{task}/links")["extra_links"].get("W&B run")
        return found


def steps(run: Any) -> list[int]:
    return [row["step"] for row in run.scan_history(keys=["step"])]


def helpers_of(run: DagRun) -> list[str]:
    """wandb's helper processes that tasks of a DAG run have started and that still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "wandb-core":
                environment = process.environ()
                if environment.get("AIRFLOW_CTX_DAG_RUN_ID") == run.dag_run_id:
                    found.append(environment["AIRFLOW_CTX_TASK_ID"])
        except psutil.Error:
            continue
    return found


def wait_until_no_helper_is_left(run: DagRun) -> None:
    wait_for(
        "wandb's processes to end with their tasks", lambda: None if helpers_of(run) else True, timeout=30
    )


@pytest.fixture(scope="module")
def endings(airflow_cluster: AirflowCluster, wandb_server: DevServerProcess) -> Iterator[Endings]:
    import wandb

    client = wandb.Api(api_key=wandb_server.api_key, overrides={"base_url": wandb_server.url})
    # Reading the runs of a project that no task has made yet would be an error.
    client.create_project(WANDB_PROJECT, WANDB_ENTITY)
    yield Endings(airflow_cluster, client)
    wandb.teardown()
