"""One topology, and one history of what was done to it, for all tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.compose_file import ROOT
from tests.cluster.history import History, make_history
from tests.cluster.topology import Topology

DAGS = Path(__file__).parent / "dags"
OF_THE_CHECKOUT = ("weekly_retraining.py", "deploy_on_promotion.py", "example_xcom.py")


@pytest.fixture(scope="session")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    folder = tmp_path_factory.mktemp("topology")
    dags = shutil.copytree(DAGS, folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    for name in OF_THE_CHECKOUT:
        shutil.copy(ROOT / "dags" / name, dags)
    shutil.copytree(
        ROOT / "dags" / "retrieval", dags / "retrieval", ignore=shutil.ignore_patterns("__pycache__")
    )
    with Topology(folder / "machines", dags) as running:
        yield running


@pytest.fixture(scope="session")
def history(topology: Topology) -> Iterator[History]:
    """Everything is run before the first test looks at it."""
    import wandb

    yield make_history(topology)
    wandb.teardown()
