"""The services of ``docker-compose.yaml`` without containers, each worker on a machine of its own."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from tests.cluster import machine
from tests.cluster.compose_file import ROOT, Service, generated_variables, read_services
from tests.cluster.servers import REDIS_SERVER, start_postgres
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.demo.ports import LOOPBACK, claim_port
from wandb_airflow_provider.demo.processes import ManagedProcess, inherited_environment, run_to_end
from wandb_airflow_provider.demo.wandb_connection import WandbConnectionSettings

WORKERS = ("worker-1", "worker-2")
_SERVERS = ("redis", "s3", "devserver")
_AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")
_PORTS = {"postgres": 5432, "redis": 6379, "s3": 5000, "devserver": 8765, "api-server": 8080}
# Where a worker's machine can connect to: not to the database.
_OF_WORKERS = ("redis", "s3", "devserver", "api-server")
_ONCE_TIMEOUT = 180.0
_START_TIMEOUT = 180.0
_KILL_TIMEOUT = 30.0

# What no container sets: reactions within seconds, and recognition of a lost worker within a minute.
_QUICK = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
    # It would listen on every address of this machine.
    "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
}
WORKLOAD = {
    "WANDB_X_SAVE_REQUIREMENTS": "false",
    "WANDB_ERROR_REPORTING": "false",
    "OPENBLAS_NUM_THREADS": "1",
}
"""What tasks have in their environment, so that they do the same everywhere."""
IMPORT_WANDB = """
import sys

if {"celery", "scheduler"} & set(sys.argv):
    import airflow.dag_processing.dagbag
    import wandb.apis.public
"""
"""Each task is forked from its worker, so that what the worker has imported costs the task nothing."""


class Topology(AirflowCluster):
    """
    Every service of the Compose file as processes on loopback, with home, work and log folders of its own; a context
    manager.

    Each worker has a host name and a network of its own where the system allows it, and reaches Redis, the API server,
    the object store and the dev server there, but not PostgreSQL. Elsewhere it is a process like the others.
    """

    def __init__(self, folder: Path, dags_folder: Path) -> None:
        super().__init__(folder, dags_folder)
        self.ports = {name: claim_port(0, purpose=name, option="") for name in _PORTS}
        self.ports["api-server"] = self.port
        self.variables = generated_variables()
        self.services = read_services(self.variables)
        self.own_networks = machine.available("network")
        self._running: dict[str, ManagedProcess] = {}
        # Also for nobody to reach; see start_postgres().
        self._database = tempfile.TemporaryDirectory(
            prefix="wandb-airflow-postgres-", ignore_cleanup_errors=True
        )
        os.chmod(self._database.name, 0o755)

    @property
    def wandb(self) -> WandbConnectionSettings:
        """Where the dev server is, for a reader outside."""
        return WandbConnectionSettings(
            f"http://{LOOPBACK}:{self.ports['devserver']}",
            self.variables["DEVSERVER_API_KEY"],
            entity="local",
        )

    @property
    def storage(self) -> dict[str, str]:
        """What a client of the object store needs, as boto3 names it."""
        return {
            "endpoint_url": f"http://{LOOPBACK}:{self.ports['s3']}",
            "aws_access_key_id": self.variables["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": self.variables["AWS_SECRET_ACCESS_KEY"],
            "region_name": "us-east-1",
        }

    def start(self, on_step: Callable[[str], None] = lambda step: None) -> None:
        """Start everything in the order of the Compose file; returns when all is healthy."""
        began = time.monotonic()
        try:
            password = self.variables["POSTGRES_PASSWORD"]
            self._running["postgres"] = start_postgres(
                Path(self._database.name) / "postgres", self.ports["postgres"], "airflow", password
            )
            for name in _SERVERS:
                self._start(name)
            self._once("migrate")
            self._once("bucket")
            for name in (*_AIRFLOW, *WORKERS):
                self._start(name)
            wait_for("Airflow to be healthy", self._healthy, timeout=_START_TIMEOUT, check=self.check)
            for name in WORKERS:
                self.wait_for_worker(name)
        except BaseException:
            self.stop()
            raise
        self.startup_seconds["everything"] = time.monotonic() - began

    def stop(self) -> None:
        """End everything, the latest first."""
        for process in self._running.values():
            process.request_stop()
        while self._running:
            self._running.popitem()[1].stop()
        self.api.close()
        self._database.cleanup()

    def check(self) -> None:
        for process in self._running.values():
            process.check()

    def log_path(self, component: str) -> Path:
        return self.machine(component) / f"{component}.log"

    def machine(self, name: str) -> Path:
        """The folder that is all of a service's disk."""
        return self.home / name

    def kill(self, name: str) -> None:
        """End a service and all that descends from it by SIGKILL, at once, as if its machine lost power."""
        process = self._running.pop(name)
        for child in psutil.Process(process.pid).children():
            # Its guard then kills the rest, whatever sessions these have moved to.
            child.send_signal(signal.SIGKILL)
        process.wait(_KILL_TIMEOUT)

    def restart(self, name: str) -> None:
        """Start a service that was killed, with the disk that it had."""
        self._start(name)

    def wait_for_worker(self, name: str, *, times: int = 1) -> None:
        """
        Wait until a worker takes tasks.

        :param times: How often it has been started.
        """

        def ready() -> bool | None:
            text = self.log_path(name).read_text(errors="replace")
            return True if len(re.findall(r"celery@\S+ ready\.", text)) >= times else None

        wait_for(f"{name} to be ready", ready, timeout=_START_TIMEOUT, check=self.check)

    def task_logs(self, name: str) -> list[Path]:
        """The logs of tasks that lie on a worker's disk."""
        return sorted(self.machine(name).glob("airflow/logs/dag_id=*/**/*.log"))

    def _start(self, name: str) -> None:
        service = self.services[name]
        self._running[name] = ManagedProcess(
            name,
            self._command(service),
            env=self._environment_of(service),
            log_path=self.log_path(name),
            cwd=self._folder(name),
        )

    def _once(self, name: str) -> None:
        service = self.services[name]
        run_to_end(
            name,
            self._command(service),
            env=self._environment_of(service),
            log_path=self.log_path(name),
            cwd=self._folder(name),
            timeout=_ONCE_TIMEOUT,
        )

    def _command(self, service: Service) -> list[str]:
        """The container's command, with this machine's paths and ports."""
        port = _PORTS.get(service.name)
        translated = {
            "0.0.0.0": LOOPBACK,
            "/data": str(self._folder(service.name) / "data"),
            "/opt/wandb/create_bucket.py": str(ROOT / "docker" / "create_bucket.py"),
            "redis-server": str(REDIS_SERVER),
            **{
                name: str(Path(sys.executable).parent / name)
                for name in ("airflow", "moto_server", "wandb-airflow")
            },
            "python": sys.executable,
        }
        if port is not None:
            translated[str(port)] = str(self.ports[service.name])
        command = [translated.get(part, part) for part in service.command]
        if service.name == "triggerer":
            # The server of its logs would listen on every address of this machine.
            return [*command, "--skip-serve-logs"]
        if service.name not in WORKERS:
            return command
        if not self.own_networks:
            return [*command, "--skip-serve-logs", "--celery-hostname", f"celery@{service.name}"]
        relays = [part for name in _OF_WORKERS for part in ("--relay", str(self.ports[name]))]
        return [sys.executable, "-I", machine.__file__, "--name", service.name, *relays, "--", *command]

    def _environment_of(self, service: Service) -> Mapping[str, str]:
        folder = self._folder(service.name)
        env = {**inherited_environment(), **self._here(service.environment), **_QUICK, **WORKLOAD}
        for name in ("home", "tmp", "airflow/config"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "airflow" / "config" / "airflow_local_settings.py").write_text(IMPORT_WANDB)
        env["HOME"], env["TMPDIR"] = str(folder / "home"), str(folder / "tmp")
        env["AIRFLOW_HOME"] = str(folder / "airflow")
        env["AIRFLOW__CORE__DAGS_FOLDER"] = str(self.dags_folder)
        return env

    def _here(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Replace the names of the other containers by where they are on this machine."""
        return {key: self._addresses(value) for key, value in environment.items()}

    def _addresses(self, text: str) -> str:
        for name, port in _PORTS.items():
            text = text.replace(f"{name}:{port}", f"{LOOPBACK}:{self.ports[name]}")
        return text.replace(f"localhost:{_PORTS['api-server']}", f"{LOOPBACK}:{self.port}")

    def _folder(self, name: str) -> Path:
        folder = self.machine(name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
