"""What is done to the topology: three DAGs are run, the triggerer and a worker are lost, and W&B is read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from tests.cluster.dags.many_runs import HELD, RELEASED, STEPS
from tests.cluster.topology import WORKERS, Topology
from tests.cluster.workflow import (
    PROJECT,
    PROJECTS,
    RUN_TIMEOUT,
    approve,
    read_back,
    trigger,
    until_approval,
    until_deployed,
)
from tests.run_trees import RunTrees
from wandb_airflow_provider.demo.airflow_records import DagRun, TaskInstance
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.demo.ports import LOOPBACK

_LOG_CHARACTERS = 3000
# Seconds: to list two hundred tasks costs the API server a part of one.
_INTERVAL = 2.0


@dataclass(kw_only=True)
class History(RunTrees):
    """
    How it went.

    :param lost_worker: The worker that was killed.
    :param lost: A task instance that was at work on it then.
    :param deployed_while_away: DAG runs of the promotion's consumer before the triggerer was back.
    :param reconciled: What the reconciler closed afterwards.
    """

    topology: Topology
    tasks: dict[str, list[TaskInstance]] = field(default_factory=dict)
    lost_worker: str = ""
    lost: TaskInstance | None = None
    deployed_while_away: int = -1
    reconciled: list[dict[str, Any]] = field(default_factory=list)

    def failures(self, dag_id: str) -> str:
        """The end of the log of each task that failed, from the disk of the worker that it ran on."""
        failed = {task.task_id for task in self.tasks[dag_id] if task.state == "failed"}
        return "\n".join(
            f"{file}:\n{file.read_text()[-_LOG_CHARACTERS:]}"
            for worker in WORKERS
            for file in self.topology.task_logs(worker)
            if f"dag_id={dag_id}" in file.parts
            and failed & {part.removeprefix("task_id=") for part in file.parts}
        )


def make_history(topology: Topology, say: Callable[[str], None]) -> History:
    """
    Do everything, in an order in which a loss hits only what is meant to survive it.

    :param say: Told what has been done.
    """
    import wandb

    history = History(topology=topology)
    where = topology.wandb
    client = wandb.Api(api_key=where.api_key, overrides={"base_url": where.host})
    for dag_id in PROJECTS:
        topology.wait_for_dag(dag_id)
    topology.api.unpause("deploy_on_promotion")
    xcom = trigger(topology, "example_xcom")
    _promote_without_triggerer(history)
    say("promoted without a triggerer, and deployed")
    history.dag_runs["example_xcom"] = topology.wait_for_run(
        "example_xcom", xcom.dag_run_id, timeout=RUN_TIMEOUT
    )
    say("passed values between tasks")
    _lose_a_worker(history, client, say)
    topology.wait_for_dag("reconcile")
    cleaned = trigger(topology, "reconcile")
    cleaned = topology.wait_for_run("reconcile", cleaned.dag_run_id, timeout=RUN_TIMEOUT)
    history.reconciled = topology.api.xcom("reconcile", cleaned.dag_run_id, "reconcile")
    say("closed what was left open")
    for dag_id, run in history.dag_runs.items():
        history.tasks[dag_id] = topology.api.task_instances(dag_id, run.dag_run_id)
    read_back(history, client)
    say("ended, and read back")
    return history


def _promote_without_triggerer(history: History) -> None:
    """Run the weekly DAG; the alias moves while no triggerer is there to see it."""
    topology = history.topology
    api = topology.api
    run = until_approval(topology)
    wait_for("the watcher to have seen the registry", _baseline(topology), timeout=60, check=topology.check)
    topology.kill("triggerer")
    history.dag_runs["weekly_retraining"] = approve(topology, run)
    history.deployed_while_away = len(api.dag_runs("deploy_on_promotion"))
    topology.restart("triggerer")
    history.dag_runs["deploy_on_promotion"] = until_deployed(topology)


def _baseline(topology: Topology) -> Callable[[], bool | None]:
    def probe() -> bool | None:
        connection = psycopg2.connect(
            host=LOOPBACK,
            port=topology.ports["postgres"],
            user="airflow",
            dbname="airflow",
            password=topology.variables["POSTGRES_PASSWORD"],
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM asset_state_store")
            (found,) = cursor.fetchone() or (0,)
        connection.close()
        return True if found else None

    return probe


def _lose_a_worker(history: History, client: Any, say: Callable[[str], None]) -> None:
    """Run two hundred mapped tasks; a worker dies while some of them run on it, and comes back later."""
    topology = history.topology
    api = topology.api
    run = trigger(topology, "many_runs")

    def under_way() -> tuple[str, TaskInstance] | None:
        for task in api.task_instances("many_runs", run.dag_run_id):
            if task.map_index in HELD and task.state == "running" and _has_logged(client, run, task):
                for worker in WORKERS:
                    if _ran_on(topology, worker, task):
                        return worker, task
        return None

    history.lost_worker, history.lost = wait_for(
        "a worker to be busy", under_way, timeout=RUN_TIMEOUT, interval=_INTERVAL, check=topology.check
    )
    topology.kill(history.lost_worker)
    say(f"lost {history.lost_worker}")
    api.request("POST", "/variables", json={"key": RELEASED, "value": history.lost_worker})
    lost = history.lost.map_index

    def noticed() -> bool | None:
        tasks = api.task_instances("many_runs", run.dag_run_id)
        return True if any(task.map_index == lost and task.try_number > 1 for task in tasks) else None

    wait_for("Airflow to notice the loss", noticed, timeout=120, interval=_INTERVAL, check=topology.check)
    say("noticed the loss")
    topology.restart(history.lost_worker)
    topology.wait_for_worker(history.lost_worker, times=2)
    history.dag_runs["many_runs"] = topology.wait_for_run("many_runs", run.dag_run_id, timeout=RUN_TIMEOUT)


def _has_logged(client: Any, run: DagRun, task: TaskInstance) -> bool:
    """Whether W&B has all that a task logs."""
    client.flush()
    wanted = {"group": f"{run.dag_id}__{run.dag_run_id}", "displayName": task.label}
    found = client.runs(PROJECT.format(PROJECTS[run.dag_id]), filters=wanted, lazy=False)
    return any(each.lastHistoryStep == STEPS - 1 for each in found)


def _ran_on(topology: Topology, worker: str, task: TaskInstance) -> bool:
    log = (f"map_index={task.map_index}", f"attempt={task.try_number}.log")
    return any(file.parts[-2:] == log for file in topology.task_logs(worker))
