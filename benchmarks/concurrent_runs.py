"""Many short runs at a time, opened with wandb's SDK in several processes: is any lost, and how long do they take?"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure, interleave, milliseconds
from benchmarks.sdk_process import end_script, run_script, start_script
from benchmarks.server_process import RunningServer, running_server

# All runs of all processes are open before the first one logs.
_WRITER = """
import sys
import wandb
folder, url, key, mode, project, first, count, steps = sys.argv[1:]
settings = wandb.Settings(base_url=url, api_key=key, silent=True, console="off")
print("ready", flush=True)
sys.stdin.readline()
runs = [
    wandb.init(
        project=project, entity="local", id=f"run-{number}", dir=folder, mode=mode, reinit="create_new",
        settings=settings,
    )
    for number in range(int(first), int(first) + int(count))
]
print("open", flush=True)
sys.stdin.readline()
for step in range(int(steps)):
    for run in runs:
        run.log({"loss": 1 / (step + 1)})
for run in runs:
    run.finish()
print("finished")
"""
_READER = """
import json, sys
import wandb
folder, url, key, project, steps = sys.argv[1:]
expected = [1 / (step + 1) for step in range(int(steps))]
api = wandb.Api(overrides={"base_url": url}, api_key=key)
found = list(api.runs(f"local/{project}", per_page=100))
rows = 0
for run in found:
    losses = [row["loss"] for row in run.scan_history()]
    rows += sum(read == logged for read, logged in zip(losses, expected))
states = sum(run.state == "finished" and run.summary["loss"] == expected[-1] for run in found)
print(json.dumps({"runs": len({run.id for run in found}), "rows": rows, "states": states}))
"""


def measure(rounds: int, *, runs: int = 200, processes: int = 8, steps: int = 20) -> list[Figure]:
    """
    Return what was lost in all rounds, and the seconds until all runs are finished, with the server and without.

    :param runs: How many runs are open at a time.
    :param processes: Among how many processes the runs are divided.
    :param steps: How often each run logs.
    """
    found: Counter[str] = Counter()
    numbers = count()

    def online() -> float:
        project = f"concurrent-{next(numbers)}"
        seconds = _write(folder, server, "online", project, runs, processes, steps)
        found.update(json.loads(run_script(_READER, folder, server.url, server.api_key, project, steps)))
        return seconds

    def offline() -> float:
        return _write(folder, server, "offline", "concurrent", runs, processes, steps)

    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder, "data")) as server:
        seconds = interleave({"dev server": online, "offline mode": offline}, rounds)
    # The first round is not timed, but nothing may be lost in it.
    total = runs * (rounds + 1)
    ratio = median(seconds["dev server"]) / median(seconds["offline mode"])
    return [
        Figure(
            f"lost of {total} runs, {runs} at a time in {processes} processes",
            total - found["runs"],
            "runs",
            bar=0,
        ),
        Figure(f"lost of {total * steps} history rows", total * steps - found["rows"], "rows", bar=0),
        Figure("not finished, or without the last summary", total - found["states"], "runs", bar=0),
        *(
            milliseconds(f"{runs} x (init, {steps} x log, finish): {name}", taken)
            for name, taken in seconds.items()
        ),
        Figure("dev server / offline mode, all at a time", ratio, "x"),
    ]


def _write(
    folder: str, server: RunningServer, mode: str, project: str, runs: int, processes: int, steps: int
) -> float:
    """Return the seconds from the first ``init`` to the end of the last ``finish``."""
    shares = [range(runs)[number::processes] for number in range(processes)]
    with ExitStack() as stack:
        started = []
        first = 0
        for share in shares:
            arguments = (server.url, server.api_key, mode, project, first, len(share), steps)
            started.append(start_script(_WRITER, folder, *arguments))
            stack.callback(started[-1].kill)
            first += len(share)
        _await(started, "ready")
        began = time.perf_counter()
        _let_go(started)
        _await(started, "open")
        _let_go(started)
        _await(started, "finished")
        seconds = time.perf_counter() - began
        for process in started:
            end_script(process)
    return seconds


def _await(started: Sequence[subprocess.Popen[str]], line: str) -> None:
    for process in started:
        assert process.stdout is not None
        if process.stdout.readline().strip() != line:
            end_script(process)
            raise RuntimeError(f"A process ended before it was {line}.")


def _let_go(started: Sequence[subprocess.Popen[str]]) -> None:
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
