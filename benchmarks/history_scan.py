"""A long history, logged with wandb's SDK, read back in one ``scan_history``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import httpx

from benchmarks.figure import Figure, milliseconds, repeat
from benchmarks.sdk_process import run_script
from benchmarks.server_process import RunningServer, running_server

_MOST_MS = 5000.0
# What the SDK asks for page by page, without and with a choice of metrics.
_ROWS_PER_PAGE = 1000
_OPERATIONS = {"all": "HistoryPage", "one": "SampledHistoryPage"}
_WRITER = """
import sys, time
import wandb
folder, url, key, rows = sys.argv[1:]
settings = wandb.Settings(base_url=url, api_key=key, silent=True, console="off")
began = time.perf_counter()
run = wandb.init(project="benchmark", entity="local", id="long", dir=folder, settings=settings)
for step in range(int(rows)):
    run.log({"loss": 1 / (step + 1), "accuracy": 1 - 1 / (step + 1), "epoch": step // 1000})
run.finish()
print(time.perf_counter() - began)
"""
# The rows are also parsed once more, from one text each, as no reader of JSON can do without.
_READER = """
import json, sys, time
import wandb
folder, url, key, rows = sys.argv[1:]
run = wandb.Api(overrides={"base_url": url}, api_key=key).run("local/benchmark/long")
seconds = {}
for name, keys in (("all", None), ("one", ["loss"])):
    began = time.perf_counter()
    found = list(run.scan_history(keys))
    seconds[name] = time.perf_counter() - began
    expected = [1 / (step + 1) for step in range(int(rows))]
    if [row["loss"] for row in found] != expected:
        sys.exit(f"scan_history(keys={keys}) gave {len(found)} rows, not the {rows} that were logged.")
    if keys is None:
        texts = [json.dumps(row) for row in found]
        began = time.perf_counter()
        for text in texts:
            json.loads(text)
        seconds["parse"] = time.perf_counter() - began
print(json.dumps(seconds))
"""


def measure(rounds: int, *, rows: int = 100_000) -> list[Figure]:
    """
    Return the seconds of logging the rows once, and of reading them, with all metrics and with one.

    :param rows: How many history rows the run has.
    :raises RuntimeError: what was read is not what was logged.
    """
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder, "data")) as server:
        written = float(run_script(_WRITER, folder, server.url, server.api_key, rows))
        seconds = repeat(lambda: _read(folder, server, rows), rounds)
    return [
        milliseconds(f"scan_history, {rows} rows", seconds["all"], bar=_MOST_MS),
        milliseconds("of it, the server", seconds["all, server"]),
        milliseconds("the same, one of three metrics", seconds["one"], bar=_MOST_MS),
        milliseconds("of it, the server", seconds["one, server"]),
        milliseconds("limit: parse the same rows as JSON", seconds["parse"]),
        Figure(f"for information: init, {rows} x log, finish", written * 1e3, "ms"),
    ]


def _read(folder: str, server: RunningServer, rows: int) -> dict[str, float]:
    seconds: dict[str, float] = json.loads(run_script(_READER, folder, server.url, server.api_key, rows))
    # The record of what the server was asked ends with the pages of this client, the only one.
    pages = -(-rows // _ROWS_PER_PAGE)
    for name, operation in _OPERATIONS.items():
        answer = httpx.get(f"{server.url}/_control/requests", params={"op": operation}).raise_for_status()
        seconds[f"{name}, server"] = sum(page["seconds"] for page in answer.json()["requests"][-pages:])
    return seconds
