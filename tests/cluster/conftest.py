"""One topology, and one history of what was done to it, for all tests of this folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.compose_file import ROOT
from tests.cluster.history import History, make_history
from tests.cluster.portrait import Portrait
from tests.cluster.single_machine import SingleMachine
from tests.cluster.topology import Topology

DAGS = Path(__file__).parent / "dags"
OF_THE_CHECKOUT = ("weekly_retraining.py", "deploy_on_promotion.py", "example_xcom.py")


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Report what has been reached, and when."""
    began = time.monotonic()
    plugins = request.config.pluginmanager
    terminal, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")

    def write(text: str) -> None:
        assert terminal is not None
        assert capture is not None
        with capture.global_and_fixture_disabled():
            terminal.write_line(f"{time.monotonic() - began:5.0f} s  {text}")
            terminal.flush()

    return write


@pytest.fixture(scope="session")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DAGs, in a folder that no version control knows."""
    folder = tmp_path_factory.mktemp("workflows")
    dags = shutil.copytree(DAGS, folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    for name in OF_THE_CHECKOUT:
        shutil.copy(ROOT / "dags" / name, dags)
    shutil.copytree(
        ROOT / "dags" / "retrieval", dags / "retrieval", ignore=shutil.ignore_patterns("__pycache__")
    )
    return dags


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory, dags: Path) -> Iterator[SingleMachine]:
    with SingleMachine(tmp_path_factory.mktemp("alone"), dags) as running:
        yield running


@pytest.fixture(scope="session")
def expected(alone: SingleMachine) -> dict[str, dict[str, Portrait]]:
    """What one machine leaves in W&B."""
    return alone.portraits(timeout=600)


@pytest.fixture(scope="session")
def topology(
    tmp_path_factory: pytest.TempPathFactory, dags: Path, say: Callable[[str], None]
) -> Iterator[Topology]:
    with Topology(tmp_path_factory.mktemp("topology") / "machines", dags) as running:
        say("all services are healthy")
        yield running


@pytest.fixture(scope="session")
def history(alone: SingleMachine, topology: Topology, say: Callable[[str], None]) -> Iterator[History]:
    """Everything is run before the first test looks at it, on one machine at the same time."""
    import wandb

    yield make_history(topology, say)
    wandb.teardown()
