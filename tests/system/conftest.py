"""One dev server and one whole Airflow for all system tests; see ``AirflowCluster`` for what tests can do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.devserver_process import DevServerProcess

DAGS_FOLDER = Path(__file__).parent / "dags"
WANDB_ENTITY = "local"
WANDB_PROJECT = "system-tests"

# Each task is forked from the scheduler, so that what the scheduler has imported costs the task nothing. Importing
# wandb starts no thread and no process. The demo's own tests run without this, as everybody's Airflow does.
IMPORT_WANDB_IN_SCHEDULER = """
import sys

if "scheduler" in sys.argv:
    import wandb.apis.public
    import wandb.sdk.launch.inputs.internal
"""


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
    """Airflow with the connection ``wandb_default`` and a copy of ``tests/system/dags`` that a test may add to."""
    connection = wandb_server.connection(entity=WANDB_ENTITY, project=WANDB_PROJECT)
    home = tmp_path_factory.mktemp("airflow")
    dags_folder = shutil.copytree(
        DAGS_FOLDER,
        tmp_path_factory.mktemp("workflows") / "dags",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (home / "config").mkdir()
    (home / "config" / "airflow_local_settings.py").write_text(IMPORT_WANDB_IN_SCHEDULER)
    with AirflowCluster(
        home,
        dags_folder,
        connections={"wandb_default": connection},
        environment={
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__WANDB__AUTO_INSTRUMENT": "True",
            "AIRFLOW__WANDB__INCLUDE": "plain_*",
            "WANDB_X_SAVE_REQUIREMENTS": "false",
        },
    ) as cluster:
        yield cluster
