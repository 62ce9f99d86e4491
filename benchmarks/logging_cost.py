"""A run written by hand with wandb's SDK, against the dev server and in offline mode."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure, interleave, milliseconds
from benchmarks.server_process import running_server

# `wandb.init` to the end of `finish`, after the import: what a script with a run in it waits for.
_SCRIPT = """
import sys, time
import wandb
url, key, folder, mode = sys.argv[1:]
settings = wandb.Settings(base_url=url, api_key=key, silent=True, console="off")
began = time.perf_counter()
run = wandb.init(project="benchmark", entity="local", dir=folder, mode=mode, settings=settings)
for step in range(100):
    run.log({"loss": 1 / (step + 1)})
run.finish()
print(time.perf_counter() - began)
"""


def measure(rounds: int) -> list[Figure]:
    """Return the seconds of both, and their ratio."""
    with _folder() as folder, running_server(Path(folder, "data")) as server:
        cases = {
            f"init, 100 x log, finish: {mode}": partial(_run, server.url, server.api_key, folder, mode)
            for mode in ("online", "offline")
        }
        seconds = interleave(cases, rounds)
    online, offline = (median(values) for values in seconds.values())
    return [
        *(milliseconds(name, values) for name, values in seconds.items()),
        Figure("dev server / offline mode", online / offline, "x", bar=1.2),
    ]


def _run(url: str, key: str, folder: str, mode: str) -> float:
    own = {
        f"WANDB_{name}_DIR": str(Path(folder, name.lower()))
        for name in ("CACHE", "DATA", "CONFIG", "ARTIFACT")
    }
    # No system folder is read or written, and nothing is sent elsewhere.
    environment = {**os.environ, **own, "HOME": folder, "WANDB_ERROR_REPORTING": "false"}
    command = [sys.executable, "-c", _SCRIPT, url, key, folder, mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


@contextmanager
def _folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="wandb-airflow-benchmark-") as folder:
        yield folder
