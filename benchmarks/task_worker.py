"""
A worker of Airflow without an Airflow: runs tasks one after another, each as Airflow's executors start it.

A worker is a process that has imported Airflow's task runner. For each task Airflow's own supervisor forks a process
from it, which parses the DAG file, runs the task, and talks to the supervisor; the supervisor talks to Airflow's API.
Here that API is a dictionary in the worker, and each of its answers takes as long as a real one.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 0.012
"""What a real API server takes for a small answer."""


class TaskWorker:
    """A running worker; see :func:`running_worker`."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process that forks the tasks."""
        return self._process.pid

    def begin(self, dag_id: str, task_id: str, *, run_id: str, map_index: int = -1, **xcoms: Any) -> None:
        """
        Start a task of the DAG file ``<dag_id>.py``.

        :param xcoms: By task id, the XComs of other tasks that this one finds, by key.
        """
        assert self._process.stdin is not None
        task = {"dag_id": dag_id, "task_id": task_id, "run_id": run_id, "map_index": map_index}
        self._process.stdin.write(json.dumps({"task": task, "xcoms": xcoms}) + "\n")
        self._process.stdin.flush()

    def end(self) -> tuple[float, dict[str, Any]]:
        """
        Wait for the end of the task that was begun; return the seconds it took, and its XComs by key.

        :raises RuntimeError: the task did not succeed; the message has its log.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_ANSWER):
                answer = json.loads(line.removeprefix(_ANSWER))
                if answer["state"] != "success":
                    raise RuntimeError(f"A task of a benchmark ended as {answer['state']}:\n{answer['log']}")
                return answer["seconds"], answer["xcoms"]
        said = self._log.read_text(encoding="utf-8")
        raise RuntimeError(f"A worker of a benchmark ended with exit code {self._process.wait()}:\n{said}")

    def run(self, dag_id: str, task_id: str, *, run_id: str, map_index: int = -1) -> float:
        """Run a task to its end and return the seconds it took."""
        self.begin(dag_id, task_id, run_id=run_id, map_index=map_index)
        return self.end()[0]


@contextmanager
def running_worker(
    home: Path, dags: Mapping[str, str], connection: Mapping[str, Any], *, preload: tuple[str, ...] = ()
) -> Iterator[TaskWorker]:
    """
    Start a worker, and end it after the block.

    :param home: A folder of its own, for Airflow and wandb.
    :param dags: DAG files by the id of the DAG in them.
    :param connection: The Airflow connection ``wandb_default``, as JSON.
    :param preload: Modules that the worker imports, so that its tasks need not.
    """
    folder = home / "dags"
    folder.mkdir(parents=True)
    for dag_id, text in dags.items():
        (folder / f"{dag_id}.py").write_text(text, encoding="utf-8")
    environment = {
        # Without compiled files, each process would pay for the compiler.
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        **{f"WANDB_{name}_DIR": str(home / name.lower()) for name in ("CACHE", "DATA", "CONFIG", "ARTIFACT")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "WANDB_ERROR_REPORTING": "false",
        "TMPDIR": str(home),
    }
    arguments = [json.dumps(connection), str(home), *preload]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.task_worker", *arguments]
    pipe = subprocess.PIPE
    with (
        (home / "worker.log").open("w") as log,
        subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=log, text=True) as process,
    ):
        try:
            yield TaskWorker(process, Path(log.name))
        finally:
            # At the end of its input it ends by itself.
            process.communicate()


_ANSWER = "answer: "


def _serve(connection: Mapping[str, Any], home: Path) -> None:
    import httpx
    from airflow.sdk.api.client import Client
    from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.supervisor import supervise_task

    assert task_runner is not None
    for number, line in enumerate(sys.stdin):
        command = json.loads(line)
        api = _Api(command, connection)
        ti = TaskInstance(id=uuid.uuid4(), try_number=1, dag_version_id=uuid.uuid4(), **command["task"])
        log = home / "logs" / f"{number}.log"
        began = time.perf_counter()
        supervise_task(
            ti=ti,
            bundle_info=BundleInfo(name="dags-folder"),
            dag_rel_path=f"{ti.dag_id}.py",
            token="",
            log_path=str(log),
            client=Client(base_url=None, dry_run=True, token="", transport=httpx.MockTransport(api.answer)),
        )
        seconds = time.perf_counter() - began
        text = "" if api.state == "success" else log.read_text(encoding="utf-8")
        answer = {"seconds": seconds, "state": api.state, "xcoms": api.pushed, "log": text}
        print(_ANSWER + json.dumps(answer), flush=True)


class _Api:
    """What Airflow's API answers to one task."""

    def __init__(self, command: Mapping[str, Any], connection: Mapping[str, Any]) -> None:
        self._task = command["task"]
        self._xcoms: dict[str, dict[str, Any]] = command["xcoms"]
        self._connection = connection
        self.pushed: dict[str, Any] = {}
        self.state = "lost"

    def answer(self, request: Any) -> Any:
        import httpx

        time.sleep(ANSWER_SECONDS)
        kind, *rest = request.url.path.strip("/").split("/")
        body = json.loads(request.content or "null")
        if kind == "connections":
            empty = dict.fromkeys(("login", "schema", "port"))
            return httpx.Response(200, json={"conn_id": rest[0], **empty, **self._connection})
        if kind == "xcoms":
            _, _, task_id, key, *part = rest
            if request.method == "POST":
                self.pushed[key] = body
                return httpx.Response(201, json={})
            known = self._xcoms.get(task_id, {})
            if part == ["slice"]:
                return httpx.Response(200, json=[known[key]] if key in known else [])
            if key not in known:
                return httpx.Response(404, json={"detail": {"reason": "not_found"}})
            return httpx.Response(200, json={"key": key, "value": known[key]})
        if kind == "task-instances" and rest[-1] == "run":
            return httpx.Response(200, json=self._context())
        if kind == "task-instances" and rest[-1] == "state":
            self.state = body["state"]
            return httpx.Response(204)
        if kind == "store" and request.method == "GET":
            return httpx.Response(404, json={"detail": {"reason": "not_found"}})
        if kind == "task-instances" and rest[-1] == "breadcrumbs":
            return httpx.Response(200, json={"breadcrumbs": []})
        return httpx.Response(200, json={})

    def _context(self) -> dict[str, Any]:
        now = "2026-03-01T00:00:00Z"
        run = {name: self._task[name] for name in ("dag_id", "run_id")}
        dates = dict.fromkeys(
            ("logical_date", "data_interval_start", "data_interval_end", "start_date", "run_after"), now
        )
        none = dict.fromkeys(("end_date", "partition_key", "partition_date"))
        dag_run = {**run, **dates, **none, "run_type": "manual", "state": "running"}
        dag_run |= {"conf": {}, "consumed_asset_events": []}
        return {"dag_run": dag_run, "max_tries": 0, "should_retry": False}


if __name__ == "__main__":
    for module in sys.argv[3:]:
        importlib.import_module(module)
    _serve(json.loads(sys.argv[1]), Path(sys.argv[2]))
