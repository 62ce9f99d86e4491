"""One dev server and one whole Airflow for all system tests; see ``AirflowCluster`` for what tests can do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.devserver_process import DevServerProcess

DAGS_FOLDER = Path(__file__).parent / "dags"
WANDB_ENTITY = "local"
WANDB_PROJECT = "system-tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder, so that ``-m 'not system'`` leaves it out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("system")


@pytest.fixture(scope="session")
def wandb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServerProcess]:
    """The dev server, as a process of its own."""
    with DevServerProcess(tmp_path_factory.mktemp("devserver")) as server:
        yield server


@pytest.fixture(scope="session")
def airflow_cluster(
    tmp_path_factory: pytest.TempPathFactory, wandb_server: DevServerProcess
) -> Iterator[AirflowCluster]:
    """Airflow with the DAGs of ``tests/system/dags`` and the connection ``wandb_default``."""
    connection = wandb_server.connection(entity=WANDB_ENTITY, project=WANDB_PROJECT)
    home = tmp_path_factory.mktemp("airflow")
    with AirflowCluster(
        home,
        DAGS_FOLDER,
        connections={"wandb_default": connection},
        environment={"AIRFLOW__CORE__TEST_CONNECTION": "Enabled"},
    ) as cluster:
        yield cluster
