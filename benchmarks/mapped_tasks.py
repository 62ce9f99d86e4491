"""A thousand mapped tasks, each with a run: is any lost, are two mixed up, has any no parent?"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from benchmarks.figure import Figure
from benchmarks.sdk_process import run_script
from benchmarks.server_process import RunningServer, running_server
from benchmarks.task_worker import TaskWorker, running_worker

_STEPS = 3
_DAG = f"""
from airflow.sdk import DAG, task

from wandb_airflow_provider import wandb_pipeline

with DAG("mapped", schedule=None), wandb_pipeline():

    @task.wandb
    def work(number, wandb_run):
        for step in range({_STEPS}):
            wandb_run.log({{"number": number}})

    work.expand(number=list(range(TASKS)))
"""
# As the reconciler and the closing task read a tree: with the package's hook.
_READER = """
import json, os, sys
import httpx
folder, url, key, project, group = sys.argv[1:]
extra = {"entity": "local", "project": project}
os.environ["AIRFLOW_CONN_WANDB_DEFAULT"] = json.dumps(
    {"conn_type": "wandb", "host": url, "password": key, "extra": extra}
)
os.environ["AIRFLOW_HOME"] = folder
from wandb_airflow_provider import WandbHook

def asked():
    return sum(httpx.get(f"{url}/_control/state").json()["requests"].values())

before = asked()
records = WandbHook().list_runs("local", project, {"group": group})
requests = asked() - before
api = WandbHook().get_conn()
rows = {
    record.ref.path: [row["number"] for row in api.run(record.ref.path).scan_history(keys=["number"])]
    for record in records if record.job_type != "pipeline"
}
runs = [
    {
        "path": record.ref.path, "state": record.state, "job_type": record.job_type,
        "airflow": record.config["airflow"], "rows": rows.get(record.ref.path),
    }
    for record in records
]
print(json.dumps({"runs": runs, "requests": requests}))
"""
_MOST_REQUESTS = 12
# As a deployment can have it, see docs/benchmarks.md.
_PRELOAD = ("wandb", "wandb.apis.public", "wandb.sdk.launch.inputs.internal")


@dataclass
class Tree:
    """
    What W&B has of one DAG run.

    :param seconds: For all mapped tasks.
    :param requests: What reading the tree back took.
    """

    runs: list[dict[str, Any]]
    seconds: float
    requests: int

    def lost(self, tasks: int) -> int:
        """Return how many tasks have no run that ended well with every row that they logged."""
        whole = {
            run["airflow"]["map_index"]
            for run in self._children()
            if run["state"] == "finished" and len(run["rows"]) == _STEPS
        }
        return tasks - len(whole)

    def collided(self) -> int:
        """Return how many runs have rows of another task than the one that they name."""
        return sum(set(run["rows"]) != {run["airflow"]["map_index"]} for run in self._children())

    def orphaned(self) -> int:
        """Return how many runs name a parent that does not exist."""
        paths = {run["path"] for run in self.runs}
        return sum(run["airflow"]["parent_run"] not in paths for run in self._children())

    def _children(self) -> list[dict[str, Any]]:
        return [run for run in self.runs if run["job_type"] != "pipeline"]


def measure(rounds: int, *, tasks: int = 1_000, workers: int = 4) -> list[Figure]:
    """
    Return what was lost in all rounds, the time per task, and the requests that reading the tree back takes.

    :param tasks: How many mapped tasks a DAG run has.
    :param workers: How many of them run at a time.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        server = stack.enter_context(running_server(Path(folder, "data")))
        connection = {
            "conn_type": "wandb",
            "host": server.url,
            "password": server.api_key,
            "extra": '{"entity": "local", "project": "mapped"}',
        }
        dags = {"mapped": _DAG.replace("TASKS", str(tasks))}
        running = [
            stack.enter_context(
                running_worker(Path(folder, f"worker-{number}"), dags, connection, preload=_PRELOAD)
            )
            for number in range(workers)
        ]
        trees = [
            _dag_run(running, server, folder, f"manual__{number}", tasks) for number in range(max(1, rounds))
        ]
    total = tasks * len(trees)
    seconds = sum(tree.seconds for tree in trees)
    return [
        Figure(
            f"lost of {total} runs of mapped tasks", sum(tree.lost(tasks) for tree in trees), "runs", bar=0
        ),
        Figure("collided with another", sum(tree.collided() for tree in trees), "runs", bar=0),
        Figure("without a parent", sum(tree.orphaned() for tree in trees), "runs", bar=0),
        Figure(
            f"to read back the tree of {tasks + 1} runs",
            max(tree.requests for tree in trees),
            "requests",
            bar=_MOST_REQUESTS,
        ),
        Figure(f"per mapped task, {workers} at a time", seconds / total * 1e3, "ms"),
    ]


def _dag_run(workers: list[TaskWorker], server: RunningServer, folder: str, run_id: str, tasks: int) -> Tree:
    first = workers[0]
    first.begin("mapped", "wandb_pipeline_open", run_id=run_id)
    root = first.end()[1]
    numbers: SimpleQueue[int] = SimpleQueue()
    for number in range(tasks):
        numbers.put(number)
    failures: list[BaseException] = []

    def drain(worker: TaskWorker) -> None:
        try:
            while not failures:
                number = numbers.get_nowait()
                worker.begin("mapped", "work", run_id=run_id, map_index=number, wandb_pipeline_open=root)
                worker.end()
        except Empty:
            pass
        except BaseException as error:
            failures.append(error)

    began = time.perf_counter()
    threads = [Thread(target=drain, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if failures:
        raise failures[0]
    first.begin("mapped", "wandb_pipeline_close", run_id=run_id)
    first.end()
    group = f"mapped__{run_id}"
    read = json.loads(run_script(_READER, folder, server.url, server.api_key, "mapped", group))
    return Tree(read["runs"], seconds, read["requests"])
