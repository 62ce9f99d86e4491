"""A whole Airflow on this machine: its processes, started and ended as one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wandb_airflow_provider.demo.airflow_api import AirflowClient
from wandb_airflow_provider.demo.airflow_records import DagRun, TaskInstance
from wandb_airflow_provider.demo.airflow_settings import airflow_environment
from wandb_airflow_provider.demo.errors import DemoError
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.demo.ports import LOOPBACK, claim_port
from wandb_airflow_provider.demo.processes import ManagedProcess, ProcessGroup, run_to_end
from wandb_airflow_provider.demo.wandb_connection import WandbConnectionSettings

__all__ = ["AirflowCluster"]

_COMPONENTS: dict[str, tuple[str, ...]] = {
    "api-server": ("api-server", "--host", LOOPBACK, "--workers", "1"),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
_MIGRATE_TIMEOUT = 180.0
_START_TIMEOUT = 180.0
_IMPORT_ERROR_GRACE = 5.0


class AirflowCluster:
    """
    Scheduler, triggerer, DAG processor and API server on SQLite, with the LocalExecutor; a context manager.

    Bound to the loopback interface, where everybody is admin. Tuned to react within a second rather than to
    spare the machine.

    :param home: Becomes ``AIRFLOW_HOME``; holds the database and all logs. Reused when it has been used before.
    :param dags_folder: Where the DAG files are.
    :param connections: Airflow connections by id.
    :param port: Of the API server and the UI; 0 for any free one.
    :param environment: Further variables for every process, so for every task too.
    :param parallelism: Most tasks at the same time.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        connections: Mapping[str, WandbConnectionSettings] | None = None,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
        parallelism: int = 8,
    ) -> None:
        self.home = home
        self.dags_folder = dags_folder
        self.port = claim_port(port, purpose="Airflow", option="--airflow-port")
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.api = AirflowClient(self.url)
        self.startup_seconds: dict[str, float] = {}
        self._processes = ProcessGroup()
        self._warm = False
        self._connections = dict(connections or {})
        self._environment = dict(environment or {})
        self._parallelism = parallelism

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, on_step: Callable[[str], None] = lambda step: None) -> None:
        """
        Create the database and start every process; returns when all report that they are healthy.

        :param on_step: Told what happens next.
        :raises DemoError: one of them did not start; the message holds the end of its log.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        env = self.environment()
        try:
            on_step("creating the database")
            # The API server takes longest to start and needs the database only when asked something.
            self._start_component("api-server", env)
            self.startup_seconds["database"] = run_to_end(
                "The creation of Airflow's database",
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=env,
                log_path=self.log_path("db-migrate"),
                cwd=self.home,
                timeout=_MIGRATE_TIMEOUT,
            )
            on_step("starting " + ", ".join(_COMPONENTS))
            started = time.monotonic()
            for name in _COMPONENTS:
                if name != "api-server":
                    self._start_component(name, env)
            wait_for(
                "Airflow's processes to report that they are healthy",
                self._healthy,
                timeout=_START_TIMEOUT,
                check=self._processes.check,
            )
            self.startup_seconds["processes"] = time.monotonic() - started
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process, running tasks included; returns when they are gone."""
        self._processes.stop()
        self.api.close()

    def check(self) -> None:
        """:raises ProcessExitedError: one of the processes has ended."""
        self._processes.check()

    def log_path(self, component: str) -> Path:
        """Return the file that holds the output of a component: ``scheduler``, ``triggerer``, …"""
        return self.home / "logs" / f"{component}.log"

    def wait_for_dag(self, dag_id: str, *, timeout: float = 120.0) -> dict[str, Any]:
        """
        Wait until the DAG processor has read a DAG, and return what Airflow knows about it.

        :param timeout: Seconds.
        :raises DemoError: a file in the DAG folder cannot be imported, or the DAG did not appear.
        """

        broken_since: float | None = None

        def probe() -> dict[str, Any] | None:
            nonlocal broken_since
            details = self.api.dag(dag_id)
            if details is None and (errors := self.api.import_errors()):
                # Not necessarily this DAG's file: the others get the time to be read.
                broken_since = broken_since or time.monotonic()
                if time.monotonic() - broken_since > _IMPORT_ERROR_GRACE:
                    traces = "\n".join(f"{name}:\n{trace.strip()}" for name, trace in errors.items())
                    raise DemoError(
                        f"DAG {dag_id!r} is missing, and files in {self.dags_folder} cannot be imported:\n{traces}"
                    )
            return details

        return wait_for(
            f"DAG {dag_id!r} to appear from {self.dags_folder} (log: {self.log_path('dag-processor')})",
            probe,
            timeout=timeout,
            check=self.check,
        )

    def run_dag(
        self,
        dag_id: str,
        *,
        conf: Mapping[str, Any] | None = None,
        dag_run_id: str | None = None,
        timeout: float = 300.0,
    ) -> DagRun:
        """
        Unpause a DAG if need be, trigger it and wait until the run has ended, well or not.

        :param timeout: Seconds.
        """
        if self.wait_for_dag(dag_id)["is_paused"]:
            self.api.unpause(dag_id)
        run = self.api.trigger(dag_id, conf=conf, dag_run_id=dag_run_id)
        return self.wait_for_run(dag_id, run.dag_run_id, timeout=timeout)

    def wait_for_run(self, dag_id: str, dag_run_id: str, *, timeout: float = 300.0) -> DagRun:
        """
        Wait until a DAG run has ended, well or not.

        :param timeout: Seconds.
        :raises WaitTimeoutError: it has not; the message lists its tasks.
        """

        def probe() -> DagRun | None:
            run = self.api.dag_run(dag_id, dag_run_id)
            return run if run.finished else None

        try:
            return wait_for(f"DAG run {dag_id}/{dag_run_id} to end", probe, timeout=timeout, check=self.check)
        except DemoError as error:
            tasks = self.api.task_instances(dag_id, dag_run_id)
            states = ", ".join(f"{task.label}={task.state}" for task in tasks)
            error.add_note(f"Tasks: {states}")
            raise

    def wait_for_task(
        self,
        dag_id: str,
        dag_run_id: str,
        task_id: str,
        states: frozenset[str],
        *,
        map_index: int = -1,
        timeout: float = 120.0,
    ) -> TaskInstance:
        """
        Wait until a task instance is in one of the given states, and return it.

        :param timeout: Seconds.
        """

        def probe() -> TaskInstance | None:
            for task in self.api.task_instances(dag_id, dag_run_id):
                if (task.task_id, task.map_index) == (task_id, map_index) and task.state in states:
                    return task
            return None

        return wait_for(
            f"task {task_id!r} of {dag_id}/{dag_run_id} to be in state {'/'.join(sorted(states))}",
            probe,
            timeout=timeout,
            check=self.check,
        )

    def has_parked(self, task: TaskInstance) -> bool:
        """
        Return whether the scheduler has seen that the process of a task that waits for a person has ended.

        Airflow 3.3.2 fails a task that is answered before: the event of that end then meets a task that is queued
        again.
        """
        key = f"dag_id={task.dag_id!r}, task_id={task.task_id!r}, run_id={task.dag_run_id!r}, "
        key += f"try_number={task.try_number}, map_index={task.map_index}"
        seen = f"executor event with state success for task instance TaskInstanceKey({key})"
        return seen in self.log_path("scheduler").read_text("utf-8", errors="replace")

    def wait_for_new_run(
        self, dag_id: str, known: frozenset[str] = frozenset(), *, timeout: float = 120.0
    ) -> DagRun:
        """
        Wait until a DAG has a run whose id is not among the known ones, and return it.

        :param timeout: Seconds.
        """

        def probe() -> DagRun | None:
            return next((run for run in self.api.dag_runs(dag_id) if run.dag_run_id not in known), None)

        return wait_for(f"a new run of DAG {dag_id!r}", probe, timeout=timeout, check=self.check)

    def environment(self) -> dict[str, str]:
        """Return the complete environment of the processes."""
        env = airflow_environment(self.home, self.dags_folder, self.url, parallelism=self._parallelism)
        for conn_id, connection in self._connections.items():
            env[f"AIRFLOW_CONN_{conn_id.upper()}"] = connection.to_json()
        return {**env, **self._environment}

    def _start_component(self, name: str, env: Mapping[str, str]) -> None:
        self._processes.add(
            ManagedProcess(
                f"Airflow's {name}",
                [sys.executable, "-m", "airflow", *_COMPONENTS[name]],
                env=env,
                log_path=self.log_path(name),
                cwd=self.home,
            )
        )

    def _healthy(self) -> bool | None:
        # The first request that a task makes costs seconds, which are better spent while others still start.
        self._warm = self._warm or self.api.warm_up()
        health = self.api.health()
        wanted = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return True if self._warm and all(health.get(name) == "healthy" for name in wanted) else None
