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
def ledger(
    server: DevServer, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Ledger]:
    """A project of this test's own with empty registries, and the connection `wandb_default` that leads there."""
    project = request.node.name[:60].replace("[", "-").replace("]", "")
    connection = {
        "conn_type": "wandb",
        "host": server.url,
        "password": server.api_key,
        "extra": {"entity": "local", "project": project},
    }
    monkeypatch.setenv("AIRFLOW_CONN_WANDB_DEFAULT", json.dumps(connection))
    ledger = Ledger(server, project)
    yield ledger
    # Registries are the organization's, and what they hold would be in production for the next test.
    for registry in ledger.api().registries():
        for collection in registry.collections():
            collection.delete()


@pytest.fixture(scope="session")
def airflow_db() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def run_dag(airflow_db: None) -> Callable[..., Any]:
    """Return a function that runs a DAG object to its end and returns the DAG run."""

    def run(dag: Any, **kwargs: Any) -> Any:
        from airflow.dag_processing.bundles.manager import DagBundlesManager

        try:
            from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
        except ModuleNotFoundError:  # before Airflow 3.2
            from airflow.models.dagbag import DagBag, sync_bag_to_db

        DagBundlesManager().sync_bundles_to_db()
        bag = DagBag(collect_dags=False)
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)
        return dag.test(**kwargs)

    return run


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Switch the listener on, as Airflow would find it when it starts with this configuration."""
    from airflow.sdk.listener import get_listener_manager

    from wandb_airflow_provider.plugin import WandbPlugin

    monkeypatch.setenv("AIRFLOW__WANDB__AUTO_INSTRUMENT", "True")
    WandbPlugin.on_load()
    manager, listeners = get_listener_manager(), list(WandbPlugin.listeners)
    for listener in listeners:
        manager.add_listener(listener)
    yield
    for listener in listeners:
        manager.pm.unregister(listener)


@pytest.fixture
def logged_in(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The tasks' own code has its login in the worker's environment."""
    from wandb_airflow_provider import sdk

    # wandb reads the environment once in a process, and a test before may have used it.
    sdk.release()
    for name, value in (
        ("BASE_URL", ledger.server.url),
        ("API_KEY", ledger.server.api_key),
        ("ENTITY", "local"),
        ("PROJECT", ledger.project),
        ("CONSOLE", "off"),
    ):
        monkeypatch.setenv(f"WANDB_{name}", value)
    return ledger
