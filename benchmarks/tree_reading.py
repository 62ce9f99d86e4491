"""Reading the runs of one DAG run back, as its closing task and the reconciler do, and as one writes it by hand."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figure import Figure, milliseconds, repeat
from benchmarks.sdk_process import run_script
from benchmarks.server_process import running_server
from benchmarks.stored_runs import add_runs

_GROUP = "weekly__manual__1"
_READER = """
import json, os, sys, time
import httpx
folder, url, key, group = sys.argv[1:]
os.environ["AIRFLOW_CONN_WANDB_DEFAULT"] = json.dumps(
    {"conn_type": "wandb", "host": url, "password": key, "extra": {"entity": "local", "project": "tree"}}
)
os.environ["AIRFLOW_HOME"] = folder
from wandb_airflow_provider import WandbHook

def by_hand():
    return [(run.config, dict(run.summary)) for run in api.runs("local/tree", filters={"group": group})]

def with_the_hook():
    return [(record.config, record.summary) for record in hook.list_runs("local", "tree", {"group": group})]

hook = WandbHook()
api = hook.get_conn()
api.viewer
found = {}
for name, read in (("hand", by_hand), ("hook", with_the_hook)):
    api.flush()
    before = httpx.get(f"{url}/_control/state").json()["requests"]
    began = time.perf_counter()
    runs = read()
    found[name] = time.perf_counter() - began
    after = httpx.get(f"{url}/_control/state").json()["requests"]
    found[f"{name}_requests"] = sum(after.values()) - sum(before.values())
    found[f"{name}_runs"] = len(runs)
    assert all("parent_run" in config["airflow"] and "loss" in summary for config, summary in runs)
pages = httpx.get(f"{url}/_control/requests", params={"op": "Runs"}).json()["requests"]
found["server"] = sum(page["seconds"] for page in pages[-found["hook_requests"]:])
print(json.dumps(found))
"""
_MOST_REQUESTS = 12


def measure(rounds: int, *, runs: int = 1_000) -> list[Figure]:
    """
    Return the time and the requests of both ways, and what of the time is the server's.

    :param runs: How many runs the DAG run has.
    :raises RuntimeError: one of them has not read all.
    """
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder, "data")) as server:
        chosen = random.Random(0)
        add_runs(server, [_run(number, chosen) for number in range(runs)])

        def read() -> dict[str, float]:
            found: dict[str, float] = json.loads(
                run_script(_READER, folder, server.url, server.api_key, _GROUP)
            )
            if {found["hand_runs"], found["hook_runs"]} != {runs}:
                raise RuntimeError(f"Of {runs} runs were read: {found}.")
            return found

        found = repeat(read, rounds)
    return [
        milliseconds(f"tree of {runs} runs, by hand", found["hand"]),
        milliseconds(f"tree of {runs} runs, the hook", found["hook"]),
        milliseconds(f"limit: of it, the server ({runs} runs)", found["server"]),
        Figure("the hook / by hand", median(found["hook"]) / median(found["hand"]), "x", bar=1),
        Figure("requests by hand", max(found["hand_requests"]), "requests"),
        Figure("requests of the hook", max(found["hook_requests"]), "requests", bar=_MOST_REQUESTS),
    ]


def _run(number: int, chosen: random.Random) -> dict[str, Any]:
    provenance = {
        "dag_id": "weekly",
        "dag_run_id": "manual__1",
        "task_id": "train",
        "map_index": number,
        "parent_run": "local/tree/root",
        "upstream_runs": [f"local/tree/prepare-{number}"],
    }
    config: dict[str, Any] = {f"setting_{position}": {"value": position} for position in range(20)}
    summary = {f"metric_{position}": chosen.random() for position in range(20)}
    return {
        "entityName": "local",
        "modelName": "tree",
        "name": f"train-{number}",
        "groupName": _GROUP,
        "jobType": "train",
        "config": json.dumps({**config, "airflow": {"value": provenance}}),
        "summaryMetrics": json.dumps({**summary, "loss": chosen.random()}),
        "state": "finished",
    }
