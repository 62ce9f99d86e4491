"""Run whole DAGs in this process (`dag.test()`) against the dev server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from wandb_airflow_provider.devserver import DevServer


@dataclass
class Ledger:
    """What a test reads back from W&B, through its public API."""

    server: DevServer
    project: str

    def api(self) -> Any:
        import wandb

        return wandb.Api(api_key=self.server.api_key, overrides={"base_url": self.server.url})

    def runs(self) -> dict[str, Any]:
        """Return the project's runs by display name."""
        found = self.api().runs(f"local/{self.project}", order="+created_at", lazy=False)
        return {run.name: run for run in found}


@pytest.fixture(scope="session")
def server() -> Iterator[DevServer]:
    with DevServer() as running:
        yield running


@pytest.fixture
def ledger(server: DevServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Ledger:
    """A project of this test's own, and the connection `wandb_default` that leads there."""
    project = request.node.name[:60].replace("[", "-").replace("]", "")
    connection = {
        "conn_type": "wandb",
        "host": server.url,
        "password": server.api_key,
        "extra": {"entity": "local", "project": project},
    }
    monkeypatch.setenv("AIRFLOW_CONN_WANDB_DEFAULT", json.dumps(connection))
    return Ledger(server, project)


@pytest.fixture(scope="session")
def airflow_db() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def run_dag(airflow_db: None) -> Callable[..., Any]:
    """Return a function that runs a DAG object to its end and returns the DAG run."""

    def run(dag: Any, **kwargs: Any) -> Any:
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

        DagBundlesManager().sync_bundles_to_db()
        bag = DagBag(collect_dags=False)
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)
        return dag.test(**kwargs)

    return run
