"""What is done to the topology: three DAGs are run, the triggerer and a worker are lost, and W&B is read back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg2

from tests.cluster.dags.many_runs import LONG, LONG_SECONDS
from tests.cluster.topology import WORKERS, Topology
from tests.run_trees import RunTrees, path
from wandb_airflow_provider.demo.airflow_records import WAITING_FOR_PERSON, DagRun, TaskInstance
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.demo.ports import LOOPBACK

PROJECTS = {
    "weekly_retraining": "docstring-retrieval",
    "deploy_on_promotion": "docstring-retrieval",
    "example_xcom": "xcom-example",
    "many_runs": "many-runs",
}
_RUN_TIMEOUT = 300.0
_LOG_CHARACTERS = 3000
_BEFORE_THE_LOSS = 40
# Airflow fails a task that is answered before the scheduler has seen it go to wait.
_SETTLING_SECONDS = 2.0


@dataclass(kw_only=True)
class History(RunTrees):
    """
    How it went.

    :param lost_worker: The worker that was killed.
    :param lost: A task instance that was at work on it then.
    :param deployed_while_away: DAG runs of the promotion's consumer before the triggerer was back.
    """

    topology: Topology
    tasks: dict[str, list[TaskInstance]] = field(default_factory=dict)
    lost_worker: str = ""
    lost: TaskInstance | None = None
    deployed_while_away: int = -1

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


def make_history(topology: Topology) -> History:
    """Do everything, in an order in which a loss hits only what is meant to survive it."""
    import wandb

    history = History(topology=topology)
    for dag_id in PROJECTS:
        topology.wait_for_dag(dag_id)
    topology.api.unpause("deploy_on_promotion")
    xcom = _trigger(topology, "example_xcom")
    _promote_without_triggerer(history)
    history.dag_runs["example_xcom"] = topology.wait_for_run(
        "example_xcom", xcom.dag_run_id, timeout=_RUN_TIMEOUT
    )
    _lose_a_worker(history)
    for dag_id, run in history.dag_runs.items():
        history.tasks[dag_id] = topology.api.task_instances(dag_id, run.dag_run_id)
    where = topology.wandb
    client = wandb.Api(api_key=where.api_key, overrides={"base_url": where.host})
    for project in sorted(set(PROJECTS.values())):
        for run in client.runs(f"local/{project}", order="+created_at", per_page=500, lazy=False):
            history.runs[path(run)] = run
    return history


def _trigger(topology: Topology, dag_id: str) -> DagRun:
    topology.api.unpause(dag_id)
    return topology.api.trigger(dag_id)


def _promote_without_triggerer(history: History) -> None:
    """Run the weekly DAG; the alias moves while no triggerer is there to see it."""
    topology = history.topology
    api = topology.api
    known = {run.dag_run_id for run in api.dag_runs("weekly_retraining")}
    # Its schedule starts the latest interval as soon as it is let run.
    api.unpause("weekly_retraining")
    run = topology.wait_for_new_run("weekly_retraining", frozenset(known))
    topology.wait_for_task(
        "weekly_retraining", run.dag_run_id, "approve", WAITING_FOR_PERSON, timeout=_RUN_TIMEOUT
    )
    wait_for("the watcher to have seen the registry", _baseline(topology), timeout=60, check=topology.check)
    topology.kill("triggerer")
    settled = time.monotonic() + _SETTLING_SECONDS
    wait_for("the question to settle", lambda: True if time.monotonic() > settled else None, timeout=10)
    (question,) = api.pending_approvals("weekly_retraining", run.dag_run_id)
    api.answer(question, "Approve")
    history.dag_runs["weekly_retraining"] = topology.wait_for_run(
        "weekly_retraining", run.dag_run_id, timeout=_RUN_TIMEOUT
    )
    history.deployed_while_away = len(api.dag_runs("deploy_on_promotion"))
    topology.restart("triggerer")
    deployed = topology.wait_for_new_run("deploy_on_promotion", timeout=120)
    history.dag_runs["deploy_on_promotion"] = topology.wait_for_run(
        "deploy_on_promotion", deployed.dag_run_id, timeout=_RUN_TIMEOUT
    )


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


def _lose_a_worker(history: History) -> None:
    """Run two hundred mapped tasks; a worker dies while some of them run on it, and comes back later."""
    topology = history.topology
    run = _trigger(topology, "many_runs")

    def under_way() -> tuple[str, TaskInstance] | None:
        tasks = topology.api.task_instances("many_runs", run.dag_run_id)
        if sum(task.state == "success" for task in tasks) < _BEFORE_THE_LOSS:
            return None
        for task in tasks:
            if task.map_index not in LONG or task.state != "running" or task.start_date is None:
                continue
            for worker in WORKERS:
                begun = (datetime.now(UTC) - task.start_date).total_seconds()
                if begun < LONG_SECONDS / 3 and _ran_on(topology, worker, task):
                    return worker, task
        return None

    history.lost_worker, history.lost = wait_for(
        "a worker to be busy", under_way, timeout=_RUN_TIMEOUT, interval=0.1, check=topology.check
    )
    topology.kill(history.lost_worker)

    def noticed() -> bool | None:
        tasks = topology.api.task_instances("many_runs", run.dag_run_id)
        lost = history.lost.map_index
        return True if any(task.map_index == lost and task.try_number > 1 for task in tasks) else None

    wait_for("Airflow to notice the loss", noticed, timeout=120, interval=1.0, check=topology.check)
    topology.restart(history.lost_worker)
    topology.wait_for_worker(history.lost_worker, times=2)
    history.dag_runs["many_runs"] = topology.wait_for_run("many_runs", run.dag_run_id, timeout=_RUN_TIMEOUT)


def _ran_on(topology: Topology, worker: str, task: TaskInstance) -> bool:
    log = (f"map_index={task.map_index}", f"attempt={task.try_number}.log")
    return any(file.parts[-2:] == log for file in topology.task_logs(worker))
