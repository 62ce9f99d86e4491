"""A run written by hand with wandb's SDK, against the dev server and in offline mode."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure, interleave, milliseconds
from benchmarks.sdk_process import run_script
from benchmarks.server_process import running_server

# `wandb.init` to the end of `finish`, after the import: what a script with a run in it waits for.
_SCRIPT = """
import sys, time
import wandb
folder, url, key, mode, steps = sys.argv[1:]
settings = wandb.Settings(base_url=url, api_key=key, silent=True, console="off")
began = time.perf_counter()
run = wandb.init(project="benchmark", entity="local", dir=folder, mode=mode, settings=settings)
for step in range(int(steps)):
    run.log({"loss": 1 / (step + 1)})
run.finish()
print(time.perf_counter() - began)
"""


def measure(rounds: int, *, steps: int = 1000) -> list[Figure]:
    """
    Return the seconds of both, and their ratio.

    :param steps: How often the run logs.
    """
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder, "data")) as server:
        cases = {
            f"init, {steps} x log, finish: {mode}": partial(
                _seconds, folder, server.url, server.api_key, mode, steps
            )
            for mode in ("online", "offline")
        }
        seconds = interleave(cases, rounds)
    online, offline = (median(values) for values in seconds.values())
    return [
        *(milliseconds(name, values) for name, values in seconds.items()),
        Figure("dev server / offline mode", online / offline, "x", bar=1.1),
    ]


def _seconds(folder: str, *arguments: object) -> float:
    return float(run_script(_SCRIPT, folder, *arguments))
