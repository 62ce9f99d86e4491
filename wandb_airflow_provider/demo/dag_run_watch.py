"""Follow one DAG run on the terminal: progress, questions to a person, and why it failed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.airflow_records import (
    WAITING_FOR_PERSON,
    DagRun,
    PendingApproval,
    TaskInstance,
)
from wandb_airflow_provider.demo.errors import DemoError, WaitTimeoutError
from wandb_airflow_provider.demo.progress import TaskProgress

__all__ = ["DagRunWatch", "TaskFailedError"]

APPROVE = "Approve"
_POLL_INTERVAL = 0.7
_LOG_LINES = 25
_REPORT_LINES = 12
_ESCAPED = re.compile(r"\\([^\w\s])")


class TaskFailedError(DemoError):
    """A DAG run failed; the message holds the end of the log of the task that did."""


class DagRunWatch:
    """
    Follow DAG runs of one Airflow.

    :param say: Prints one line.
    :param interactive: Leave approvals to the person at the keyboard; otherwise the watch answers for one.
    :param timeout: Longest time for one DAG run, in seconds; waiting for a real person does not count.
    """

    def __init__(
        self,
        cluster: AirflowCluster,
        *,
        say: Callable[[str], None],
        interactive: bool = False,
        timeout: float = 600.0,
    ) -> None:
        self._cluster = cluster
        self._say = say
        self._interactive = interactive
        self._timeout = timeout

    def run_url(self, run: DagRun) -> str:
        """Return the page of a DAG run in Airflow's UI."""
        return f"{self._cluster.url}/dags/{run.dag_id}/runs/{quote(run.dag_run_id, safe='')}"

    def follow(self, run: DagRun) -> DagRun:
        """
        Show the run's progress until it has ended, well or not, and return it as it is then.

        :raises WaitTimeoutError: it has not ended in time.
        """
        api, progress = self._cluster.api, TaskProgress()
        self._say(f"DAG run {run.dag_id} / {run.dag_run_id}")
        self._say(f"  {self.run_url(run)}")
        began, for_person = time.monotonic(), 0.0
        asked: set[str] = set()
        while True:
            self._cluster.check()
            run = api.dag_run(run.dag_id, run.dag_run_id)
            tasks = api.task_instances(run.dag_id, run.dag_run_id)
            elapsed = _elapsed(run)
            for line in progress.observe(elapsed, tasks):
                self._say(line)
            if run.finished:
                self._say(f"  {elapsed:6.1f} s  the DAG run has ended: {run.state}")
                return run
            waiting = self._questions(run, tasks)
            for approval in waiting:
                label = approval.task.label
                if label not in asked and self._cluster.has_parked(approval.task):
                    asked.add(label)
                    self._ask(run, approval)
            if waiting and self._interactive:
                for_person += _POLL_INTERVAL
            if time.monotonic() - began - for_person > self._timeout:
                states = ", ".join(f"{task.label}: {task.state}" for task in tasks if task.state != "success")
                raise WaitTimeoutError(
                    f"DAG run {run.dag_id}/{run.dag_run_id} has not ended within {self._timeout:.0f} s ({states}). "
                    f"Logs: {self._cluster.home / 'logs'}"
                )
            time.sleep(_POLL_INTERVAL)

    def failure(self, run: DagRun) -> str:
        """Return why a DAG run failed: its first failed task, the end of that task's log, and where to read on."""
        api = self._cluster.api
        tasks = api.task_instances(run.dag_id, run.dag_run_id)
        failed = sorted((task for task in tasks if task.state == "failed"), key=_end)
        if not failed:
            states = ", ".join(f"{task.label}: {task.state}" for task in tasks)
            return f"DAG run {run.dag_id}/{run.dag_run_id} ended as {run.state} ({states})."
        task = failed[0]
        log = "\n".join(f"    {line}" for line in api.task_log(task)[-_LOG_LINES:])
        return (
            f"Task {task.label!r} of DAG {run.dag_id!r} failed (try {task.try_number}). The end of its log:\n{log}\n"
            f"  The whole log: {self.run_url(run)}/tasks/{task.task_id}, files in {self._cluster.home / 'logs'}"
        )

    def _questions(self, run: DagRun, tasks: list[TaskInstance]) -> list[PendingApproval]:
        if any(task.state in WAITING_FOR_PERSON for task in tasks):
            return self._cluster.api.pending_approvals(run.dag_id, run.dag_run_id)
        return []

    def _ask(self, run: DagRun, approval: PendingApproval) -> None:
        self._say(f"\n  Task {approval.task.label} asks a person: {approval.subject}")
        for line in _first_lines(approval.body):
            self._say(f"    | {line}")
        if self._interactive:
            page = f"{self.run_url(run)}/tasks/{approval.task.task_id}/required_actions"
            self._say(f"  Answer here ({' or '.join(approval.options)}): {page}\n")
            return
        if APPROVE not in approval.options:
            raise DemoError(
                f"Task {approval.task.label!r} offers {list(approval.options)}, and the demo would answer {APPROVE!r}. "
                "Run it with --interactive and answer yourself."
            )
        self._cluster.api.answer(approval, APPROVE)
        self._say(f"  The demo answered {APPROVE!r} in place of a person, through Airflow's API.\n")


def _elapsed(run: DagRun) -> float:
    """Return the seconds since the run started, by this machine's clock, which is Airflow's too."""
    if run.start_date is None:
        return 0.0
    return ((run.end_date or datetime.now(UTC)) - run.start_date).total_seconds()


def _end(task: TaskInstance) -> float:
    return task.end_date.timestamp() if task.end_date else float("inf")


def _first_lines(report: str) -> list[str]:
    """Return the beginning of a Markdown report, without the marks that only a renderer needs."""
    lines = (_ESCAPED.sub(r"\1", line.rstrip()) for line in report.splitlines())
    return [line for line in lines if line.strip("|-: ")][:_REPORT_LINES]
