"""A small client for Airflow's REST API, version 2."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from wandb_airflow_provider.demo.airflow_records import (
    WAITING_FOR_PERSON,
    DagRun,
    PendingApproval,
    TaskInstance,
)
from wandb_airflow_provider.demo.errors import DemoError

__all__ = ["AirflowApiError", "AirflowClient"]

_PAGE = 100


class AirflowApiError(DemoError):
    """Airflow's API refused a request, or did not answer."""


class AirflowClient:
    """
    Talk to one API server.

    :param base_url: Where it listens, without ``/api/v2``.
    :raises AirflowApiError: from every method, when Airflow cannot be reached or refuses.
    """

    def __init__(self, base_url: str, *, timeout: float = 60.0) -> None:
        self.base_url = base_url.rstrip("/")
        # The environment's proxies are for the outside world, and this server is on loopback.
        self._http = httpx.Client(base_url=self.base_url, timeout=timeout, trust_env=False)
        self._authorized = False

    def close(self) -> None:
        """Release the connections."""
        self._http.close()

    def health(self) -> dict[str, str | None]:
        """Return the status word of every component; empty while the server does not answer yet."""
        try:
            answer = self._http.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return {}
        if answer.status_code != 200:
            return {}
        return {name: (value or {}).get("status") for name, value in answer.json().items()}

    def warm_up(self) -> bool:
        """Have the server build what it builds on the first request of a task; say whether it did."""
        try:
            return self._http.get("/execution/health", timeout=60.0).is_success
        except httpx.TransportError:
            return False

    def request(self, method: str, path: str, **options: Any) -> Any:
        """
        Send one request below ``/api/v2`` and return the decoded answer.

        :param options: Passed to httpx: ``params``, ``json``, ``headers``.
        """
        answer = self._send(method, path, **options)
        self._accept(answer, method, path)
        return answer.json() if answer.content else None

    def find(self, path: str, **params: Any) -> Any | None:
        """Like a GET :meth:`request`, but None when the object does not exist."""
        answer = self._send("GET", path, params=params)
        if answer.status_code == 404:
            return None
        self._accept(answer, "GET", path)
        return answer.json()

    # DAGs

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """Return what Airflow knows about a DAG, or None before it was parsed."""
        found: dict[str, Any] | None = self.find(f"/dags/{_part(dag_id)}")
        return found

    def import_errors(self) -> dict[str, str]:
        """Return the stack trace of every DAG file that cannot be imported, by file name."""
        return {
            entry["filename"]: entry["stack_trace"] for entry in self._pages("/importErrors", "import_errors")
        }

    def unpause(self, dag_id: str) -> None:
        """
        Let the scheduler start runs of a DAG, and have its file parsed again.

        Airflow starts the watchers of a DAG's assets only when it parses the file of a DAG that is not paused.
        """
        details = self.request("PATCH", f"/dags/{_part(dag_id)}", json={"is_paused": False})
        path = f"/parseDagFile/{details['file_token']}"
        answer = self._send("PUT", path)
        # 409: the same file waits already to be parsed, for another DAG in it.
        if answer.status_code != 409:
            self._accept(answer, "PUT", path)

    def scheduled_on(self, dag_id: str) -> list[str]:
        """Return the URIs of the assets in the schedule of a DAG."""
        entries = self._pages("/assets", "assets", dag_ids=[dag_id])
        return [
            entry["uri"]
            for entry in entries
            if any(consumer["dag_id"] == dag_id for consumer in entry["scheduled_dags"])
        ]

    # DAG runs

    def trigger(
        self, dag_id: str, *, conf: Mapping[str, Any] | None = None, dag_run_id: str | None = None,
        logical_date: datetime | None = None,
    ) -> DagRun:  # fmt: skip
        """
        Start a manual run.

        :param logical_date: None gives a run without one.
        """
        body: dict[str, Any] = {
            "logical_date": logical_date.isoformat() if logical_date else None,
            "conf": dict(conf or {}),
        }
        if dag_run_id is not None:
            body["dag_run_id"] = dag_run_id
        return DagRun.from_json(self.request("POST", f"/dags/{_part(dag_id)}/dagRuns", json=body))

    def dag_run(self, dag_id: str, dag_run_id: str) -> DagRun:
        """Return one run."""
        return DagRun.from_json(self.request("GET", f"/dags/{_part(dag_id)}/dagRuns/{_part(dag_run_id)}"))

    def dag_runs(self, dag_id: str) -> list[DagRun]:
        """Return the runs of a DAG, oldest first."""
        path = f"/dags/{_part(dag_id)}/dagRuns"
        return [DagRun.from_json(entry) for entry in self._pages(path, "dag_runs", order_by="id")]

    def upstream_asset_events(self, dag_id: str, dag_run_id: str) -> list[dict[str, Any]]:
        """Return the asset events that started a run."""
        path = f"/dags/{_part(dag_id)}/dagRuns/{_part(dag_run_id)}/upstreamAssetEvents"
        events: list[dict[str, Any]] = self.request("GET", path)["asset_events"]
        return events

    # Task instances

    def task_instances(self, dag_id: str, dag_run_id: str) -> list[TaskInstance]:
        """Return the task instances of a run, mapped ones one by one."""
        path = f"/dags/{_part(dag_id)}/dagRuns/{_part(dag_run_id)}/taskInstances"
        return [TaskInstance.from_json(entry) for entry in self._pages(path, "task_instances")]

    def clear(
        self, dag_id: str, dag_run_id: str, task_ids: list[str], *, downstream: bool = False, only_failed: bool = False
    ) -> None:  # fmt: skip
        """Clear task instances, so that they run again in the same DAG run."""
        body = {
            "dry_run": False,
            "dag_run_id": dag_run_id,
            "task_ids": task_ids,
            "include_downstream": downstream,
            "only_failed": only_failed,
        }
        self.request("POST", f"/dags/{_part(dag_id)}/clearTaskInstances", json=body)

    def set_task_state(
        self, dag_id: str, dag_run_id: str, task_id: str, state: str, *, map_index: int = -1
    ) -> None:
        """
        Mark a task instance as a person does in the UI.

        :param state: ``failed``, ``success`` or ``skipped``.
        """
        path = f"/dags/{_part(dag_id)}/dagRuns/{_part(dag_run_id)}/taskInstances/{_part(task_id)}"
        if map_index >= 0:
            path += f"/{map_index}"
        self.request("PATCH", path, json={"new_state": state})

    def task_log(self, task: TaskInstance, *, try_number: int | None = None) -> list[str]:
        """Return the messages of one try's log (the latest by default), tracebacks included."""
        path = (
            f"/dags/{_part(task.dag_id)}/dagRuns/{_part(task.dag_run_id)}/taskInstances/{_part(task.task_id)}"
            f"/logs/{try_number or task.try_number}"
        )
        answer = self.request(
            "GET",
            path,
            params={"full_content": True, "map_index": task.map_index},
            headers={"Accept": "application/json"},
        )
        return [line for entry in answer["content"] for line in _log_lines(entry)]

    def xcom(
        self, dag_id: str, dag_run_id: str, task_id: str, *, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """Return a pushed value as it is stored, or None when there is none."""
        entry = self.find(
            f"/dags/{_part(dag_id)}/dagRuns/{_part(dag_run_id)}/taskInstances/{_part(task_id)}"
            f"/xcomEntries/{_part(key)}",
            map_index=map_index,
        )
        if entry is None:
            return None
        value = entry["value"]
        if isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                return value
        return value

    # Approvals

    def pending_approvals(self, dag_id: str, dag_run_id: str) -> list[PendingApproval]:
        """Return what waits for a person in a run."""
        path = f"/dags/{_part(dag_id)}/dagRuns/{_part(dag_run_id)}/hitlDetails"
        return [
            PendingApproval(
                task=TaskInstance.from_json(entry["task_instance"]),
                subject=entry["subject"],
                body=entry["body"] or "",
                options=tuple(entry["options"]),
            )
            for entry in self._pages(path, "hitl_details", response_received=False)
            if entry["task_instance"]["state"] in WAITING_FOR_PERSON
        ]

    def answer(self, approval: PendingApproval, option: str, params: Mapping[str, Any] | None = None) -> None:
        """Answer for a person."""
        task = approval.task
        self.request(
            "PATCH",
            f"/dags/{_part(task.dag_id)}/dagRuns/{_part(task.dag_run_id)}/taskInstances/{_part(task.task_id)}"
            f"/{task.map_index}/hitlDetails",
            json={"chosen_options": [option], "params_input": dict(params or {})},
        )

    def _pages(self, path: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            answer = self.request("GET", path, params={**params, "limit": _PAGE, "offset": offset})
            entries: list[dict[str, Any]] = answer[key]
            yield from entries
            offset += len(entries)
            if not entries or offset >= answer["total_entries"]:
                return

    def _accept(self, answer: httpx.Response, method: str, path: str) -> None:
        if answer.status_code >= 400:
            raise AirflowApiError(
                f"Airflow at {self.base_url} refused {method} {path} with HTTP {answer.status_code}: {_detail(answer)}"
            )

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            if not self._authorized:
                token = self._http.get("/auth/token")
                token.raise_for_status()
                self._http.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
                self._authorized = True
            return self._http.request(method, f"/api/v2{path}", **options)
        except httpx.HTTPError as error:
            raise AirflowApiError(
                f"Airflow at {self.base_url} did not answer {method} {path}: {error!r}"
            ) from error


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]


def _log_lines(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
        return
    yield str(entry.get("event", ""))
    for error in entry.get("error_detail") or []:
        for frame in error.get("frames", []):
            yield f"  {frame['filename']}:{frame['lineno']} in {frame['name']}"
        yield f"{error.get('exc_type')}: {error.get('exc_value')}"


def _part(text: str) -> str:
    return quote(text, safe="")
