"""
The same DAGs on one machine, as what the others are compared with.

``python -m tests.cluster.single_machine FOLDER DAGS`` runs them with the LocalExecutor, from start to end, and writes
what W&B then holds into ``FOLDER/portraits.json``.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from tests.cluster.compose_file import ROOT
from tests.cluster.dags.many_runs import RELEASED
from tests.cluster.portrait import Portrait, portraits
from tests.cluster.topology import IMPORT_WANDB, WORKLOAD
from tests.cluster.workflow import (
    PROJECTS,
    RUN_TIMEOUT,
    approve,
    read_back,
    trigger,
    until_approval,
    until_deployed,
)
from tests.run_trees import RunTrees
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.devserver_process import DevServerProcess
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.demo.ports import LOOPBACK
from wandb_airflow_provider.demo.processes import ManagedProcess, inherited_environment

_BUCKET = "wandb-xcom"
_KEYS = {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "machine", "AWS_DEFAULT_REGION": "us-east-1"}
_RESULT = "portraits.json"


class SingleMachine:
    """The module's command in the background; a context manager."""

    def __init__(self, folder: Path, dags_folder: Path) -> None:
        self._folder = folder
        self._dags_folder = dags_folder

    def __enter__(self) -> SingleMachine:
        command = [sys.executable, "-m", "tests.cluster.single_machine"]
        self._process = ManagedProcess(
            "One machine",
            [*command, str(self._folder), str(self._dags_folder)],
            env=inherited_environment(),
            log_path=self._folder / "single-machine.log",
            cwd=ROOT,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def portraits(self, timeout: float) -> dict[str, dict[str, Portrait]]:
        """
        Wait for the end; return what the W&B runs of each DAG hold.

        :param timeout: Seconds.
        """
        code = self._process.wait(timeout)
        assert code == 0, self._process.log_tail(60)
        found: dict[str, dict[str, Portrait]] = json.loads((self._folder / _RESULT).read_text())
        return found


def main(folder: Path, dags_folder: Path) -> None:
    import wandb

    home = folder / "airflow"
    (home / "config").mkdir(parents=True)
    (home / "config" / "airflow_local_settings.py").write_text(IMPORT_WANDB)
    with (
        _object_store() as endpoint,
        DevServerProcess(folder / "wandb") as server,
        AirflowCluster(
            home,
            dags_folder,
            connections={"wandb_default": server.connection(project="airflow")},
            environment={
                **WORKLOAD,
                **_KEYS,
                "AWS_ENDPOINT_URL": endpoint,
                "AIRFLOW__CORE__XCOM_BACKEND": "wandb_airflow_provider.xcom.backend.WandbXComBackend",
                "AIRFLOW__WANDB_XCOM__STORAGE": f"s3://{_BUCKET}/xcom",
                # Nothing is lost here that a task would have to wait for.
                f"AIRFLOW_VAR_{RELEASED.upper()}": "nothing",
            },
        ) as airflow,
    ):
        trees = RunTrees()
        _run(airflow, trees)
        read_back(trees, wandb.Api(api_key=server.api_key, overrides={"base_url": server.url}))
        found = {dag_id: portraits(trees, dag_id) for dag_id in PROJECTS}
    (folder / _RESULT).write_text(json.dumps(found))


@contextmanager
def _object_store() -> Iterator[str]:
    store = ThreadedMotoServer(LOOPBACK, 0, verbose=False)
    store.start()
    try:
        host, port = store.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        key, secret, region = _KEYS.values()
        with closing(
            boto3.client(
                "s3",
                endpoint_url=endpoint,
                aws_access_key_id=key,
                aws_secret_access_key=secret,
                region_name=region,
            )
        ) as client:
            client.create_bucket(Bucket=_BUCKET)
        yield endpoint
    finally:
        store.stop()


def _run(airflow: AirflowCluster, trees: RunTrees) -> None:
    for dag_id in PROJECTS:
        airflow.wait_for_dag(dag_id)
    airflow.api.unpause("deploy_on_promotion")
    begun = [trigger(airflow, dag_id) for dag_id in ("example_xcom", "many_runs")]
    weekly = until_approval(airflow)
    wait_for("the watcher to have seen the registry", lambda: _baseline(airflow), timeout=120)
    ended = [approve(airflow, weekly), until_deployed(airflow)]
    ended += [airflow.wait_for_run(run.dag_id, run.dag_run_id, timeout=RUN_TIMEOUT) for run in begun]
    trees.dag_runs.update({run.dag_id: run for run in ended})
    assert {run.state for run in ended} == {"success"}, ended


def _baseline(airflow: AirflowCluster) -> bool | None:
    with closing(sqlite3.connect(airflow.home / "airflow.db", timeout=10)) as database:
        (found,) = database.execute("SELECT count(*) FROM asset_state_store").fetchone()
    return True if found else None


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
