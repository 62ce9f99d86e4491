"""The demo's scenario: weekly retraining, a person's approval, promotion, and the deployment it sets off."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from wandb_airflow_provider.demo.airflow_api import (
    WAITING_FOR_PERSON,
    DagRun,
    PendingApproval,
    TaskInstance,
)
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.errors import DemoError, WaitTimeoutError
from wandb_airflow_provider.demo.ledger import AliasHolder, Ledger, LedgerRun, RegistryAlias, build_tree
from wandb_airflow_provider.demo.progress import TaskProgress
from wandb_airflow_provider.demo.result import render_alias, render_dag_run, render_tree, render_verdict

__all__ = ["Scenario", "TaskFailedError", "WeeklyDemo", "WeeklyResult"]

_POLL_INTERVAL = 0.7
_LOG_LINES = 25


class TaskFailedError(DemoError):
    """A DAG run failed; the message holds the end of the log of the task that did."""


@dataclass(frozen=True)
class Scenario:
    """
    The names that the demo takes from its DAGs.

    :param dag_id: Trains, judges and promotes.
    :param downstream_dag_id: Runs on the change of the alias, which it names in its schedule.
    :param gate_task_id: Last part of the id of the task that pushes the verdict.
    :param approve_option: What the demo answers for a person.
    :param degrade_conf: DAG run configuration that makes the candidate worse.
    :param run_timeout: Longest time for one DAG run, in seconds; waiting for a real person does not count.
    :param downstream_timeout: Longest time from the promotion to the end of the downstream run, in seconds.
    """

    dag_id: str = "weekly_retraining"
    downstream_dag_id: str = "deploy_on_promotion"
    gate_task_id: str = "gate"
    approve_option: str = "Approve"
    degrade_conf: tuple[tuple[str, Any], ...] = (("degrade", True),)
    run_timeout: float = 600.0
    downstream_timeout: float = 120.0


@dataclass(frozen=True)
class WeeklyResult:
    """What one weekly run brought."""

    run: DagRun
    alias: RegistryAlias
    before: AliasHolder | None
    after: AliasHolder | None
    verdict: dict[str, Any] | None
    downstream: DagRun | None
    tree: tuple[LedgerRun, ...]

    @property
    def promoted(self) -> bool:
        """Whether the alias moved to another version."""
        return self.after is not None and self.after != self.before

    @property
    def already_held(self) -> bool:
        """Whether the candidate passed and is, byte for byte, what the alias pointed to already."""
        verdict = self.verdict
        if self.promoted or self.after is None or verdict is None:
            return False
        return bool(verdict["passed"]) and self.after.digest == verdict.get("digest")


class WeeklyDemo:
    """
    Run the scenario on a running Airflow.

    :param say: Prints one line.
    :param interactive: Leave the approval to the person at the keyboard.
    """

    def __init__(
        self,
        cluster: AirflowCluster,
        ledger: Ledger,
        *,
        scenario: Scenario,
        say: Callable[[str], None],
        interactive: bool = False,
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._scenario = scenario
        self._say = say
        self._interactive = interactive

    def prepare(self) -> RegistryAlias:
        """
        Wait for both DAGs, let them run, and return the alias that the downstream one watches.

        :raises DemoError: a DAG file cannot be imported, or the downstream DAG watches no alias.
        """
        api, scenario = self._cluster.api, self._scenario
        for dag_id in (scenario.dag_id, scenario.downstream_dag_id):
            self._cluster.wait_for_dag(dag_id)
        alias = next(
            filter(None, map(RegistryAlias.from_uri, api.scheduled_on(scenario.downstream_dag_id))), None
        )
        if alias is None:
            raise DemoError(
                f"DAG {scenario.downstream_dag_id!r} is not scheduled on an asset 'wandb://registry/collection?alias=…'."
            )
        api.unpause(scenario.downstream_dag_id)
        return alias

    def run_week(self, alias: RegistryAlias, *, degrade: bool = False) -> WeeklyResult:
        """
        Run the weekly DAG once to its end, the approval and the downstream DAG included.

        :param degrade: Make the candidate worse, so that the gate has something to stop.
        :raises TaskFailedError: the run failed where it should not have.
        """
        scenario, api = self._scenario, self._cluster.api
        known = frozenset(run.dag_run_id for run in api.dag_runs(scenario.downstream_dag_id))
        run = self._start(dict(scenario.degrade_conf) if degrade else {})
        self._say(f"DAG run {run.dag_id} / {run.dag_run_id}")
        self._say(f"  {self.run_url(run)}")
        # While the first tasks run: nothing can be promoted before the person has been asked.
        before = self._ledger.alias_holder(alias)
        run = self._follow(run)
        after = self._ledger.alias_holder(alias)
        result = WeeklyResult(run, alias, before, after, self._verdict(run), None, ())
        if run.state != "success" and not self._stopped_by_gate(result):
            raise TaskFailedError(self._failure(run))
        if result.promoted:
            result = replace(result, downstream=self._follow_downstream(known))
        else:
            result = replace(result, downstream=self._new_run(scenario.downstream_dag_id, known))
        return replace(result, tree=tuple(self._tree(result)))

    def check(self, result: WeeklyResult, *, degraded: bool) -> None:
        """
        Compare a result with what the scenario promises.

        :raises DemoError: it broke the promise; the message says which.
        """
        if degraded:
            if result.promoted or result.downstream is not None:
                raise DemoError(f"A worse candidate was promoted: {result.alias} is now {result.after}.")
            return
        if result.already_held:
            return
        if not result.promoted:
            reason = result.verdict["summary"] if result.verdict else "the gate pushed no verdict"
            raise DemoError(f"Nothing was promoted to {result.alias}: {reason}")
        if result.downstream is None or result.downstream.state != "success":
            raise DemoError(
                f"DAG {self._scenario.downstream_dag_id!r} did not follow the promotion to success."
            )

    def report(self, result: WeeklyResult) -> list[str]:
        """Return the result as text."""
        downstream = result.downstream
        lines = ["", "W&B runs, as read back from W&B:", *render_tree(result.tree), ""]
        lines += ["Verdict of the gate:"]
        lines += render_verdict(result.verdict) if result.verdict else ["  none"]
        lines += ["", "Alias in the registry:", *render_alias(result.alias, result.before, result.after)]
        lines += ["", "DAG run that the promotion started:"]
        lines += render_dag_run(downstream, self.run_url(downstream) if downstream else None)
        lines += ["", "To open:", f"  DAG run in Airflow   {self.run_url(result.run)}"]
        lines += [f"  Run tree in W&B      {root.url}" for root in result.tree if root.url]
        if result.after and result.after.url:
            lines.append(f"  Registry in W&B      {result.after.url}")
        return lines

    def run_url(self, run: DagRun) -> str:
        """Return the page of a DAG run in Airflow's UI."""
        return f"{self._cluster.url}/dags/{run.dag_id}/runs/{quote(run.dag_run_id, safe='')}"

    def _start(self, conf: dict[str, Any]) -> DagRun:
        """
        Start a run, or take the one that the schedule is about to start.

        Letting a DAG with a schedule run makes Airflow start its latest interval at once, when that was never run.
        A second run beside it would compete for the alias.
        """
        scenario, api = self._scenario, self._cluster.api
        details = self._cluster.wait_for_dag(scenario.dag_id)
        if details["is_paused"]:
            due = details["next_dagrun_run_after"]
            known = frozenset(run.dag_run_id for run in api.dag_runs(scenario.dag_id))
            api.unpause(scenario.dag_id)
            if due is not None and datetime.fromisoformat(due.replace("Z", "+00:00")) <= datetime.now(UTC):
                scheduled = self._cluster.wait_for_new_run(scenario.dag_id, known)
                if not conf:
                    return scheduled
                self._say("The schedule's latest interval runs first; the worse candidate comes after it.")
                self._follow(scheduled)
        return api.trigger(scenario.dag_id, conf=conf)

    def _follow(self, run: DagRun) -> DagRun:
        """Show the run's progress until it has ended, answering for a person on the way."""
        api, progress = self._cluster.api, TaskProgress()
        paused = 0.0
        announced: set[str] = set()
        while True:
            self._cluster.check()
            run = api.dag_run(run.dag_id, run.dag_run_id)
            tasks = api.task_instances(run.dag_id, run.dag_run_id)
            elapsed = (datetime.now(UTC) - run.start_date).total_seconds() if run.start_date else 0.0
            for line in progress.observe(elapsed, tasks):
                self._say(line)
            if run.finished:
                self._say(f"  {elapsed:6.1f} s  the DAG run has ended: {run.state}")
                return run
            waits = any(task.state in WAITING_FOR_PERSON for task in tasks)
            waiting = api.pending_approvals(run.dag_id, run.dag_run_id) if waits else []
            for approval in waiting:
                if approval.task.label not in announced:
                    announced.add(approval.task.label)
                    self._ask(approval)
            if waiting and self._interactive:
                paused += _POLL_INTERVAL
            if elapsed - paused > self._scenario.run_timeout:
                states = ", ".join(f"{task.label}: {task.state}" for task in tasks if task.state != "success")
                raise WaitTimeoutError(
                    f"DAG run {run.dag_id}/{run.dag_run_id} has not ended within {self._scenario.run_timeout:.0f} s "
                    f"({states}). Logs: {self._cluster.home / 'logs'}"
                )
            time.sleep(_POLL_INTERVAL)

    def _ask(self, approval: PendingApproval) -> None:
        run = self._cluster.api.dag_run(approval.task.dag_id, approval.task.dag_run_id)
        self._say("")
        self._say(f"  Task {approval.task.label} asks a person: {approval.subject}")
        for line in _headline(approval.body):
            self._say(f"    | {line}")
        if self._interactive:
            page = f"{self.run_url(run)}/tasks/{approval.task.task_id}/required_actions"
            self._say(f"  Answer it here ({' / '.join(approval.options)}): {page}")
        else:
            option = self._scenario.approve_option
            if option not in approval.options:
                raise DemoError(
                    f"Task {approval.task.label!r} offers {list(approval.options)}, and the demo would answer "
                    f"{option!r}. Run it with --interactive and answer yourself."
                )
            self._cluster.api.answer(approval, option)
            self._say(f"  The demo answered {option!r} in place of a person, through Airflow's API.")
        self._say("")

    def _follow_downstream(self, known: frozenset[str]) -> DagRun:
        dag_id, timeout = self._scenario.downstream_dag_id, self._scenario.downstream_timeout
        self._say(f"The alias has moved; waiting for DAG {dag_id} to notice.")
        run = self._cluster.wait_for_new_run(dag_id, known, timeout=timeout)
        self._say(f"DAG run {run.dag_id} / {run.dag_run_id}")
        run = self._follow(run)
        if run.state != "success":
            raise TaskFailedError(self._failure(run))
        return run

    def _new_run(self, dag_id: str, known: frozenset[str]) -> DagRun | None:
        return next((run for run in self._cluster.api.dag_runs(dag_id) if run.dag_run_id not in known), None)

    def _verdict(self, run: DagRun) -> dict[str, Any] | None:
        for task in self._cluster.api.task_instances(run.dag_id, run.dag_run_id):
            if task.task_id.rpartition(".")[2] == self._scenario.gate_task_id:
                verdict = self._cluster.api.xcom(run.dag_id, run.dag_run_id, task.task_id)
                return verdict if isinstance(verdict, dict) and "passed" in verdict else None
        return None

    def _stopped_by_gate(self, result: WeeklyResult) -> bool:
        return result.verdict is not None and not result.verdict["passed"] and not result.promoted

    def _tree(self, result: WeeklyResult) -> list[LedgerRun]:
        """Read the runs of the DAG run and of the one that followed; the latter hang below their cause."""
        runs = filter(None, (result.run, result.downstream))
        paths = [ref["path"] for run in runs if (ref := self._any_wandb_run(run)) is not None]
        return build_tree(self._ledger.read(result.alias, paths)[1])

    def _any_wandb_run(self, run: DagRun) -> dict[str, Any] | None:
        for task in self._cluster.api.task_instances(run.dag_id, run.dag_run_id):
            ref = self._cluster.api.xcom(
                run.dag_id, run.dag_run_id, task.task_id, key="wandb_run", map_index=task.map_index
            )
            if isinstance(ref, dict):
                return ref
        return None

    def _failure(self, run: DagRun) -> str:
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


def _end(task: TaskInstance) -> float:
    return task.end_date.timestamp() if task.end_date else float("inf")


def _headline(body: str) -> list[str]:
    """Return the first lines of a report that say something."""
    return [line.rstrip() for line in body.splitlines() if line.strip()][:12]
