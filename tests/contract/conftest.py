"""One dev server, and one process per version of the SDK."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.sdk_process import SdkProcess
from wandb_airflow_provider.devserver import DevServer

# What `make contract` built: SDK environments by name, in a folder each. The newest is this environment's own.
SDKS = {"newest": Path(sys.executable)} | {
    folder.name: folder / "bin" / "python"
    for folder in sorted(Path(os.environ.get("WANDB_SDKS", ".sdks")).absolute().glob("wandb-*"))
}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with DevServer(tmp_path_factory.mktemp("contract"), seed="contract") as running:
        yield running


@pytest.fixture(scope="session", params=sorted(SDKS))
def sdk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SdkProcess]:
    with SdkProcess(SDKS[request.param], tmp_path_factory.mktemp("home")) as process:
        yield process
