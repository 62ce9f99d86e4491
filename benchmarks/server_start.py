"""How long the dev server takes to start: as a command, and inside a process that has imported it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.figure import Figure, interleave, milliseconds
from benchmarks.server_process import running_server
from wandb_airflow_provider.devserver import DevServer

_MOST_MS = 1000.0


def measure(rounds: int) -> list[Figure]:
    """Return the time from the command to answering, and that of ``DevServer().start()``."""
    seconds = interleave({"wandb-airflow devserver": _command, "DevServer().start()": _embedded}, rounds)
    return [milliseconds(f"start: {name}", values, bar=_MOST_MS) for name, values in seconds.items()]


def _command() -> float:
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder, "data")) as server:
        return server.start_seconds


def _embedded() -> float:
    began = time.perf_counter()
    with DevServer():
        return time.perf_counter() - began
