"""A dev server in a process of its own, started by its command."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wandb_airflow_provider.devserver import DEFAULT_API_KEY

_BANNER = "W&B dev server:"


@dataclass(frozen=True)
class RunningServer:
    """:param start_seconds: From starting the process to the line that says where it listens."""

    url: str
    api_key: str
    start_seconds: float
    pid: int


@contextmanager
def running_server(data: Path) -> Iterator[RunningServer]:
    """
    Start ``wandb-airflow devserver`` on a free port, and end it after the block.

    :raises RuntimeError: it ended instead of saying where it listens.
    """
    command = [
        sys.executable,
        "-m",
        "wandb_airflow_provider.cli",
        "devserver",
        "--port",
        "0",
        "--data",
        str(data),
    ]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(_BANNER):
                    url = line.removeprefix(_BANNER).strip()
                    yield RunningServer(url, DEFAULT_API_KEY, time.perf_counter() - began, process.pid)
                    return
            raise RuntimeError(f"The dev server ended with exit code {process.wait()}.")
        finally:
            process.terminate()
            # Read to its end: the server says that it stops, and must not find the pipe closed.
            process.communicate()
