"""The pages of ``api.runs`` in a project with many runs."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from benchmarks.figure import Figure, milliseconds, repeat
from benchmarks.sdk_process import run_script
from benchmarks.server_process import RunningServer, running_server
from benchmarks.stored_runs import add_runs

_MOST_MS = 300.0
_FILTERED = {
    "filters": {"$and": [{"config.learning_rate": {"$gt": 0.05}}, {"state": "finished"}]},
    "order": "-summary_metrics.loss",
}
_CASES: Mapping[str, Mapping[str, Any]] = {
    "all": {},
    "filter, order": _FILTERED,
    "filter, order, lazy=False": {**_FILTERED, "lazy": False},
}
# The SDK asks for a page when the first run of it is wanted; the first request of a client opens its connection.
_READER = """
import json, sys, time
import wandb
folder, url, key, cases, per_page = sys.argv[1:]
per_page = int(per_page)
api = wandb.Api(overrides={"base_url": url}, api_key=key)
api.viewer
read = []
for arguments in json.loads(cases):
    # A client keeps its listings, also for other values of lazy.
    api.flush()
    began = time.perf_counter()
    runs = api.runs("local/many", per_page=per_page, **arguments)
    next(runs)
    first = time.perf_counter() - began
    pages = (len(runs) - 1) // per_page // 2 + 1
    for _ in range((pages - 1) * per_page - 1):
        next(runs)
    began = time.perf_counter()
    next(runs)
    read.append({"found": len(runs), "pages": pages, "first": first, "middle": time.perf_counter() - began})
print(json.dumps(read))
"""


def measure(rounds: int, *, runs: int = 10_000, per_page: int = 50) -> list[Figure]:
    """
    Return the seconds of the first page and of the one in the middle, as the SDK's caller and as the server see them.

    :param runs: How many runs the project has; the filter lets about half of them through.
    :param per_page: How many runs the SDK asks for at a time; 50 is its default.
    :raises RuntimeError: a listing has not as many runs as it should.
    """
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder, "data")) as server:
        found = _add_runs(server, runs)
        seconds = repeat(lambda: _read(folder, server, per_page, {"all": runs, "filtered": found}), rounds)
    return [milliseconds(f"{runs} runs, {name}", values, bar=_MOST_MS) for name, values in seconds.items()]


def _add_runs(server: RunningServer, count: int) -> int:
    """Add finished runs, and return how many the filter lets through."""
    chosen = random.Random(0)
    runs = [_run(number, chosen) for number in range(count)]
    add_runs(server, runs)
    return sum(json.loads(run["config"])["learning_rate"]["value"] > 0.05 for run in runs)


def _run(number: int, chosen: random.Random) -> dict[str, Any]:
    config: dict[str, Any] = {f"setting_{position}": {"value": position} for position in range(20)}
    config["learning_rate"] = {"value": chosen.uniform(0, 0.1)}
    summary = {f"metric_{position}": chosen.random() for position in range(20)}
    return {
        "entityName": "local",
        "modelName": "many",
        "name": f"run-{number}",
        "groupName": f"group-{number // 20}",
        "jobType": ("prepare", "train", "evaluate")[number % 3],
        "tags": ["nightly"] if number % 2 else [],
        "config": json.dumps(config),
        "summaryMetrics": json.dumps({**summary, "loss": chosen.random()}),
        "state": "finished",
    }


def _read(folder: str, server: RunningServer, per_page: int, expected: Mapping[str, int]) -> dict[str, float]:
    cases = json.dumps(list(_CASES.values()))
    read = json.loads(run_script(_READER, folder, server.url, server.api_key, cases, per_page))
    # The record of what the server was asked ends with the pages of this client, the only one.
    recorded = httpx.get(f"{server.url}/_control/requests", params={"op": "Runs"}).raise_for_status()
    requests = recorded.json()["requests"][-sum(listing["pages"] for listing in read) :]
    seconds: dict[str, float] = {}
    for (name, arguments), listing in zip(_CASES.items(), read, strict=True):
        if listing["found"] != expected["filtered" if arguments else "all"]:
            raise RuntimeError(f"The listing {name!r} has {listing['found']} runs; expected were {expected}.")
        pages, requests = requests[: listing["pages"]], requests[listing["pages"] :]
        for page, position in (("first", 0), ("middle", -1)):
            seconds[f"{name}: {page} page, SDK"] = listing[page]
            seconds[f"{name}: {page} page, server"] = pages[position]["seconds"]
    return seconds
