"""From the move of an alias in W&B to the first line of the task that it starts: by webhook and by polling."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figure import Figure, spread
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.demo.wandb_connection import WandbConnectionSettings
from wandb_airflow_provider.devserver import DevServer

_SECRET = "secret-of-the-benchmark"
_POLL_SECONDS = 2
_COLLECTIONS = ("pushed", "polled", "both")
# Both sides look at the clock of this machine.
_DAGS = f"""
import time

from airflow.sdk import DAG, task

from wandb_airflow_provider import WandbCreateAutomationOperator, wandb_alias_asset


@task
def started():
    return time.time()


# Watchers of one connection and registry share a poll, at the shortest of their intervals: each gets a connection.
for name, interval in (("pushed", 3600), ("polled", {_POLL_SECONDS}), ("both", 1)):
    asset = wandb_alias_asset("model", name, "production", wandb_conn_id=name, poll_interval=interval)
    with DAG(name, schedule=[asset]):
        started()

with DAG("automation", schedule=None):
    for collection in ("pushed", "both"):
        WandbCreateAutomationOperator(
            task_id=collection,
            name=collection,
            event="alias_added",
            registry="model",
            collection=collection,
            alias="production",
            action="webhook",
            integration="airflow",
        )
"""


def measure(rounds: int) -> list[Figure]:
    """Move an alias of each kind once a round, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "dags").mkdir()
        (folder / "dags" / "latency.py").write_text(_DAGS)
        with DevServer(folder / "devserver") as server, _cluster(folder, server) as cluster:
            server.add_webhook_integration("airflow", f"{cluster.url}/wandb/webhook", secret=_SECRET)
            with _mover(server, folder) as move:
                for collection in _COLLECTIONS:
                    move(collection, "nothing yet", [])
                cluster.run_dag("automation")
                found = _rounds(cluster, move, rounds)
            started = sum(len(cluster.api.dag_runs(dag_id)) for dag_id in _COLLECTIONS)
    return [
        spread("webhook: alias move to running task", found["pushed"], "s", bar=3.0),
        spread("poll: alias move to running task", found["polled"], "s", bar=_POLL_SECONDS + 3.0),
        spread("webhook and poll each second: alias move to running task", found["both"], "s", bar=3.0),
        Figure(
            f"DAG runs beyond one for each of {len(_COLLECTIONS) * (rounds + 1)} moves",
            started - len(_COLLECTIONS) * (rounds + 1),
            "runs",
            bar=0,
        ),
    ]


def _cluster(folder: Path, server: DevServer) -> AirflowCluster:
    connection = WandbConnectionSettings(server.url, server.api_key, entity="local", project="latency")
    return AirflowCluster(
        folder / "airflow",
        folder / "dags",
        connections=dict.fromkeys(("wandb_default", *_COLLECTIONS), connection),
        environment={
            "AIRFLOW__WANDB__WEBHOOK_CONN_ID": "wandb_webhook",
            "AIRFLOW_CONN_WANDB_WEBHOOK": json.dumps({"conn_type": "generic", "password": _SECRET}),
        },
    )


@contextmanager
def _mover(server: DevServer, folder: Path) -> Iterator[Callable[[str, str, list[str]], float]]:
    """Yield what moves an alias and tells when it began; its run stays open, so that a move is two requests."""
    import wandb

    settings = wandb.Settings(base_url=server.url, api_key=server.api_key, console="off", silent=True)

    def move(collection: str, content: str, aliases: list[str]) -> float:
        artifact = wandb.Artifact(collection, type="model")
        with artifact.new_file("weights.txt") as file:
            file.write(content)
        logged = run.log_artifact(artifact).wait()
        began = time.time()
        run.link_artifact(logged, f"wandb-registry-model/{collection}", aliases=aliases)
        return began

    with wandb.init(entity="local", project="latency", dir=folder, settings=settings) as run:
        yield move
    wandb.teardown()


def _rounds(
    cluster: AirflowCluster, move: Callable[[str, str, list[str]], float], rounds: int
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in _COLLECTIONS}
    for dag_id in found:
        cluster.wait_for_dag(dag_id)
        cluster.api.unpause(dag_id)
        wait_for(f"the watcher of {dag_id}", lambda dag_id=dag_id: _is_watched(cluster, dag_id), timeout=60)
    # The first round warms up what later ones find warm, and is not counted.
    for number in range(rounds + 1):
        for dag_id, seconds in found.items():
            known = frozenset(run.dag_run_id for run in cluster.api.dag_runs(dag_id))
            began = move(dag_id, f"content {number}", ["production"])
            run = cluster.wait_for_new_run(dag_id, known)
            cluster.wait_for_run(dag_id, run.dag_run_id)
            if number:
                seconds.append(cluster.api.xcom(dag_id, run.dag_run_id, "started") - began)
    return found


def _is_watched(cluster: AirflowCluster, dag_id: str) -> bool | None:
    (asset,) = cluster.api.request("GET", "/assets", params={"dag_ids": [dag_id]})["assets"]
    store = cluster.api.request("GET", f"/assets/{asset['id']}/state-store")
    return True if store["total_entries"] else None
