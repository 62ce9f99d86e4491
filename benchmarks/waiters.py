"""
What waiting for aliases costs a triggerer: requests, stalls of its loop, memory; and what a watcher misses.

The waiters run in a process of their own, with Airflow's own sharing of streams, against a dev server in another. The
rest is measured on a whole Airflow: how long after a move of an alias a task runs, and which moves are reported while
the triggerer is killed again and again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from urllib.request import urlopen

import psutil

from benchmarks.figure import Figure, spread
from benchmarks.server_process import RunningServer, running_server

# A collection whose alias moves, and the digest of the version that holds it then.
Move: TypeAlias = tuple[str, str]

_COLLECTIONS = 10
_INTERVAL = 1.0
_PATIENCE = 90.0

_WAITERS = """
import asyncio, gc, json, os, sys, time
import psutil
from airflow.triggers.shared_stream import SharedStreamManager
from wandb_airflow_provider import WandbRegistryAliasTrigger
count, interval, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
manager, late = SharedStreamManager(), []

async def wait(number):
    trigger = WandbRegistryAliasTrigger(
        registry="model", collection=f"c{number % 10}", alias=f"a{number}", mode="wait", not_version="v0",
        poll_interval=interval, end_time=time.time() + 3600)
    key = trigger.shared_stream_key()
    stream = manager.subscribe(trigger_id=number, trigger=trigger, key=key)
    async for event in trigger.filter_shared_stream(stream):
        return event.payload

async def watch_loop():
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        late.append(time.perf_counter() - before - 0.005)

async def main():
    memory = psutil.Process().memory_info
    first = asyncio.create_task(wait(0))
    await asyncio.sleep(5)
    gc.collect()
    before = memory().rss
    waiting = [asyncio.create_task(wait(number)) for number in range(1, count)]
    await asyncio.sleep(3 * interval + 2)
    gc.collect()
    used = memory().rss - before
    watching = asyncio.create_task(watch_loop())
    print("ready", flush=True)
    await asyncio.sleep(seconds)
    watching.cancel()
    late.sort()
    print(json.dumps({
        "bytes_per_waiter": used / (count - 1), "p50": late[len(late) // 2],
        "p99": late[int(len(late) * 0.99)], "max": late[-1],
        "waiting": sum(not task.done() for task in [first, *waiting])}), flush=True)
    for task in [first, *waiting]:
        task.cancel()
    await asyncio.wait([first, *waiting])
    await manager.stop_all()

asyncio.run(main())
os._exit(0)
"""

_DAGS = """
import os, time
from pathlib import Path
from airflow.sdk import DAG, AssetAny, task
from airflow.providers.standard.operators.empty import EmptyOperator
from wandb_airflow_provider import wandb_alias_asset

INTERVAL = {interval}
with DAG("watch_all", schedule=AssetAny(*(
    wandb_alias_asset("model", f"c{{n}}", "production", poll_interval=INTERVAL, first="fire")
    for n in range({collections})
)), max_active_runs=50):
    EmptyOperator(task_id="nothing")

with DAG("run_on_move", schedule=[wandb_alias_asset("model", "c0", "timed", poll_interval=INTERVAL, first="fire")]):
    @task
    def note(triggering_asset_events=None):
        now = time.time()
        (events,) = triggering_asset_events.values()
        key = events[-1].extra["payload"]["idempotency_key"]
        Path(os.environ["NOTES"], key).write_text(str(now))
    note()
"""


def measure(
    rounds: int, *, waiters: int = 1000, reads: int = 10, kills: int = 20, moves: int = 100
) -> list[Figure]:
    """
    Return the cost of waiting and the figures of a whole Airflow.

    :param rounds: How many moves are timed.
    :param waiters: How many triggers wait for as many aliases of one registry.
    :param reads: During how many intervals their requests and stalls are counted.
    :param kills: How often the triggerer is killed; 0 leaves the whole Airflow out.
    :param moves: During how many moves of aliases.
    """
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        os.environ.update({f"WANDB_{kind}_DIR": name for kind in ("CACHE", "DATA", "CONFIG", "ARTIFACT")})
        os.environ.update({"WANDB_DIR": name, "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"})
        with running_server(home / "w-and-b") as server:
            models = _log_versions(server, home, max(2, moves // _COLLECTIONS) if kills else 2)
            found = _waiting(server, models, waiters, reads)
            return [*found, *(_airflow(server, models, home, rounds, kills, moves) if kills else ())]


def _log_versions(server: RunningServer, folder: Path, count: int) -> list[Any]:
    import wandb

    settings = wandb.Settings(
        base_url=server.url, api_key=server.api_key, console="off", silent=True, disable_git=True
    )
    with wandb.init(entity="local", project="waiters", dir=folder, settings=settings) as run:
        logged = []
        for number in range(count):
            artifact = wandb.Artifact("model", type="model")
            with artifact.new_file("content.txt") as file:
                file.write(str(number))
            logged.append(run.log_artifact(artifact).wait().qualified_name)
    api = wandb.Api(api_key=server.api_key, overrides={"base_url": server.url})
    return [api.artifact(path) for path in logged]


def _waiting(server: RunningServer, models: list[Any], waiters: int, reads: int) -> list[Figure]:
    held: dict[str, list[str]] = {f"c{number}": [] for number in range(_COLLECTIONS)}
    for number in range(waiters):
        held[f"c{number % _COLLECTIONS}"].append(f"a{number}")
    for collection, aliases in held.items():
        models[0].link(f"wandb-registry-model/{collection}", aliases=aliases)
    seconds = reads * _INTERVAL
    command = [sys.executable, "-W", "ignore", "-c", _WAITERS, str(waiters), str(_INTERVAL), str(seconds)]
    with subprocess.Popen(
        command, env=_environment(server), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "ready":
                break
        before = _requests(server)
        time.sleep(seconds * 0.8)
        asked = _requests(server) - before
        told = json.loads(process.stdout.read().splitlines()[-1])
    counted = asked["RegistryVersions"]
    if told["waiting"] != waiters or not counted:
        raise RuntimeError(f"{told} of {waiters} waiters, {counted} reads: not what was to be measured.")
    return [
        Figure(f"requests an interval, {waiters} alias waiters", sum(asked.values()) / counted, "x", bar=2),
        Figure("stall of the event loop, p50", told["p50"] * 1e3, "ms"),
        Figure("stall of the event loop, p99", told["p99"] * 1e3, "ms", bar=50),
        Figure("stall of the event loop, longest", told["max"] * 1e3, "ms"),
        Figure("memory of a waiter", told["bytes_per_waiter"] / 1e3, "KB", bar=20),
    ]


def _airflow(
    server: RunningServer, models: list[Any], home: Path, rounds: int, kills: int, moves: int
) -> list[Figure]:
    from wandb_airflow_provider.demo.airflow_process import AirflowCluster
    from wandb_airflow_provider.demo.wandb_connection import WandbConnectionSettings

    dags, notes = home / "dags", home / "notes"
    dags.mkdir()
    notes.mkdir()
    (dags / "watch.py").write_text(_DAGS.format(interval=_INTERVAL, collections=_COLLECTIONS))
    connection = WandbConnectionSettings(
        host=server.url, api_key=server.api_key, entity="local", project="waiters"
    )
    faster = {
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
        "NOTES": str(notes),
    }
    with AirflowCluster(
        home / "airflow", dags, connections={"wandb_default": connection}, environment=faster
    ) as cluster:
        for dag_id in ("watch_all", "run_on_move"):
            cluster.wait_for_dag(dag_id)
            cluster.api.unpause(dag_id)
        watched = [f"c{number}" for number in range(_COLLECTIONS)]
        latencies = [_timed_move(models[number % 2], notes) for number in range(rounds + 1)][1:]
        return [
            spread(
                f"from the move of an alias to a running task, polled each {_INTERVAL:g} s",
                [latency * 1e3 for latency in latencies],
                "ms",
                bar=(_INTERVAL + 3) * 1e3,
            ),
            *_killing(cluster, models, watched, kills, moves),
        ]


def _timed_move(model: Any, notes: Path) -> float:
    known = set(notes.iterdir())
    model.link("wandb-registry-model/c0", aliases=["timed"])
    moved = time.time()
    (note,) = _until("the task to run", lambda: [path for path in notes.iterdir() if path not in known])
    _until("its note", lambda: note.read_text())
    return float(note.read_text()) - moved


def _killing(cluster: Any, models: list[Any], watched: list[str], kills: int, moves: int) -> list[Figure]:
    # Each move of an alias is to another version, so that no event can be taken for that of another move.
    batches = max(1, moves // len(watched))
    killed = 0
    moved: set[Move] = set()
    restarted: subprocess.Popen[bytes] | None = None
    try:
        for batch in range(batches):
            for collection in watched:
                models[batch].link(f"wandb-registry-model/{collection}", aliases=["production"])
                moved.add((collection, models[batch].digest))
            for part in range(kills * (batch + 1) // batches - killed):
                # Before the move was read, while it is reported, and after: what is hit differs from time to time.
                time.sleep((0.3, 6.0, 1.1, 7.5)[(batch + part) % 4])
                restarted = _restart_triggerer(cluster)
                killed += 1
            _until("every move to be reported", partial(_all_reported, cluster, frozenset(moved)))
    except TimeoutError:
        pass
    finally:
        if restarted is not None:
            _end(psutil.Process(restarted.pid))
    (payloads,) = _until("the events", partial(_answered, cluster))
    return reported(moved, payloads, killed)


def reported(moved: Collection[Move], payloads: list[dict[str, Any]], killed: int) -> list[Figure]:
    """
    Return how well events tell of moves: of each move once, or again in the very same way.

    :param payloads: Of all events. What an event is about is its collection and digest, whatever its key says.
    """
    told = _by_move(payloads)
    other = sum(len({json.dumps(payload, sort_keys=True) for payload in same}) - 1 for same in told.values())
    return [
        Figure(
            f"missed of {len(moved)} moves, the triggerer killed {killed} times",
            len(set(moved) - told.keys()),
            "moves",
            bar=0,
        ),
        Figure(
            "repeated, with the same idempotency key",
            sum(len(same) - len({payload["idempotency_key"] for payload in same}) for same in told.values()),
            "events",
        ),
        Figure("repeated with another key or content", other, "events", bar=0),
        Figure("of no move", sum(len(told[move]) for move in told.keys() - set(moved)), "events", bar=0),
    ]


def _by_move(payloads: list[dict[str, Any]]) -> Mapping[Move, list[dict[str, Any]]]:
    found = defaultdict(list)
    for payload in payloads:
        found[payload["collection"], payload["digest"]].append(payload)
    return found


def _all_reported(cluster: Any, moved: Collection[Move]) -> bool:
    answered = _answered(cluster)
    return bool(answered) and set(moved) <= _by_move(answered[0]).keys()


def _answered(cluster: Any) -> tuple[()] | tuple[list[dict[str, Any]]]:
    from wandb_airflow_provider.demo.errors import DemoError

    try:
        return (_payloads(cluster),)
    except DemoError:
        # SQLite is locked at times while a triggerer dies over it, and Airflow tells of no event whose run is queued.
        return ()


def _payloads(cluster: Any) -> list[dict[str, Any]]:
    """Return what the events for ``production`` carry, in order."""
    found: list[dict[str, Any]] = []
    offset, total = 0, 1
    while offset < total:
        page = {"limit": 100, "offset": offset, "order_by": "timestamp"}
        answer = cluster.api.request("GET", "/assets/events", params=page)
        total = answer["total_entries"]
        offset += len(answer["asset_events"]) or total
        carried = [event["extra"].get("payload", {}) for event in answer["asset_events"]]
        found += [payload for payload in carried if payload.get("alias") == "production"]
    return found


def _restart_triggerer(cluster: Any) -> subprocess.Popen[bytes]:
    """Kill the triggerer with all its processes, as a machine that fails does, and start another one."""
    for process in psutil.Process().children():
        if "triggerer" in process.cmdline():
            _end(process)
    with cluster.log_path("triggerer").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"],
            env=cluster.environment(),
            cwd=cluster.home,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _end(process: psutil.Process) -> None:
    for part in [process, *process.children(recursive=True)]:
        with _gone_already():
            part.kill()
    with _gone_already():
        process.wait(10)


@contextmanager
def _gone_already() -> Iterator[None]:
    try:
        yield
    except psutil.NoSuchProcess:
        return


def _until(what: str, probe: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + _PATIENCE
    while not (found := probe()):
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {_PATIENCE:g} s for {what}")
        time.sleep(0.05)
    return found


def _requests(server: RunningServer) -> Counter[str]:
    with urlopen(f"{server.url}/_control/state", timeout=10) as answer:
        return Counter(json.load(answer)["requests"])


def _environment(server: RunningServer) -> dict[str, str]:
    connection = {
        "conn_type": "wandb",
        "host": server.url,
        "password": server.api_key,
        "extra": {"entity": "local", "project": "waiters"},
    }
    return {**os.environ, "AIRFLOW_CONN_WANDB_DEFAULT": json.dumps(connection)}
