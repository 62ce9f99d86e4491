"""The demo's scenario: weekly retraining, a person's approval, promotion, and the deployment it sets off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.airflow_records import DagRun
from wandb_airflow_provider.demo.dag_run_watch import DagRunWatch, TaskFailedError
from wandb_airflow_provider.demo.errors import DemoError
from wandb_airflow_provider.demo.ledger import (
    AliasHolder,
    Decision,
    Ledger,
    LedgerRun,
    WatchedAlias,
    build_tree,
)
from wandb_airflow_provider.demo.result import (
    render_alias,
    render_dag_run,
    render_decisions,
    render_tree,
    render_verdict,
)

__all__ = ["Scenario", "WeeklyDemo", "WeeklyResult"]


@dataclass(frozen=True)
class Scenario:
    """
    The names that the demo takes from its DAGs.

    :param dag_id: Trains, judges and promotes.
    :param downstream_dag_id: Runs on the change of the alias, which it names in its schedule.
    :param gate_task_id: Last part of the id of the task that pushes the verdict.
    :param promote_task_id: The same of the task that moves the alias.
    :param degrade_conf: DAG run configuration that makes the candidate worse.
    :param downstream_timeout: Longest time from the promotion to the end of the downstream run, in seconds.
    """

    dag_id: str = "weekly_retraining"
    downstream_dag_id: str = "deploy_on_promotion"
    gate_task_id: str = "gate"
    promote_task_id: str = "promote"
    degrade_conf: tuple[tuple[str, Any], ...] = (("degrade", True),)
    downstream_timeout: float = 120.0


@dataclass(frozen=True)
class WeeklyResult:
    """What one weekly run brought."""

    run: DagRun
    alias: WatchedAlias
    before: AliasHolder | None
    after: AliasHolder | None
    verdict: dict[str, Any] | None
    downstream: DagRun | None
    tree: tuple[LedgerRun, ...]
    decisions: tuple[Decision, ...] = ()
    page: str | None = None
    """Where W&B shows why the alias moved."""

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

    :param watch: Follows DAG runs on the terminal.
    :param say: Prints one line.
    """

    def __init__(
        self,
        cluster: AirflowCluster,
        ledger: Ledger,
        *,
        scenario: Scenario,
        watch: DagRunWatch,
        say: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._scenario = scenario
        self._watch = watch
        self._say = say

    def prepare(self) -> WatchedAlias:
        """
        Wait for both DAGs, let them run, and return the alias that the downstream one watches.

        :raises DemoError: a DAG file cannot be imported, or the downstream DAG watches no alias.
        """
        api, scenario = self._cluster.api, self._scenario
        for dag_id in (scenario.dag_id, scenario.downstream_dag_id):
            self._cluster.wait_for_dag(dag_id)
        alias = next(
            filter(None, map(WatchedAlias.from_uri, api.scheduled_on(scenario.downstream_dag_id))), None
        )
        if alias is None:
            raise DemoError(
                f"DAG {scenario.downstream_dag_id!r} is not scheduled on an asset 'wandb://registry/<registry>/<collection>?alias=<alias>'."
            )
        api.unpause(scenario.downstream_dag_id)
        return alias

    def run_week(self, alias: WatchedAlias, *, degrade: bool = False) -> WeeklyResult:
        """
        Run the weekly DAG once to its end, the approval and the downstream DAG included.

        :param degrade: Make the candidate worse, so that the gate has something to stop.
        :raises TaskFailedError: the run failed where it should not have.
        """
        scenario, api = self._scenario, self._cluster.api
        known = frozenset(run.dag_run_id for run in api.dag_runs(scenario.downstream_dag_id))
        run = self._start(dict(scenario.degrade_conf) if degrade else {})
        # While the first tasks run: nothing can be promoted before the person has been asked.
        before = self._ledger.alias_holder(alias)
        run = self._watch.follow(run)
        after = self._ledger.alias_holder(alias)
        result = WeeklyResult(run, alias, before, after, self._verdict(run), None, ())
        if run.state != "success" and not self._stopped_by_gate(result):
            raise TaskFailedError(self._watch.failure(run))
        if result.promoted:
            result = replace(result, downstream=self._follow_downstream(known))
        else:
            result = replace(result, downstream=self._new_run(scenario.downstream_dag_id, known))
        tree, decisions = self._read(result)
        return replace(result, tree=tree, decisions=decisions, page=self._page(run))

    def check(self, result: WeeklyResult, *, degraded: bool) -> None:
        """
        Compare a result with what the scenario promises.

        :raises DemoError: it broke the promise; the message says which.
        """
        if degraded:
            if result.promoted or result.downstream is not None:
                raise DemoError(f"A worse candidate was promoted: {result.alias} is now {result.after}.")
            if result.verdict is None or result.verdict["passed"]:
                raise DemoError("The gate did not stop the worse candidate.")
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
        lines = ["", "W&B runs, as read back from W&B:", *render_tree(result.tree, result.verdict), ""]
        lines += ["Verdict of the gate:"]
        lines += render_verdict(result.verdict) if result.verdict else ["  none"]
        lines += ["", "Alias in the registry:", *render_alias(result.alias, result.before, result.after)]
        lines += ["", "Audit of the registry's collection, the latest decisions:"]
        lines += render_decisions(result.decisions)
        lines += ["", "DAG run that the promotion started:"]
        lines += render_dag_run(downstream, self._watch.run_url(downstream) if downstream else None)
        lines += ["", "To open:", f"  DAG run in Airflow   {self._watch.run_url(result.run)}"]
        lines += [f"  Run tree in W&B      {root.url}" for root in result.tree if root.url]
        if result.after and result.after.url:
            lines.append(f"  Registry in W&B      {result.after.url}")
        if result.page:
            lines.append(f"  Why it is there      {result.page}")
        return lines

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
                return self._cluster.wait_for_new_run(scenario.dag_id, known)
        return api.trigger(scenario.dag_id, conf=conf)

    def _follow_downstream(self, known: frozenset[str]) -> DagRun:
        dag_id, timeout = self._scenario.downstream_dag_id, self._scenario.downstream_timeout
        self._say(f"The alias has moved; waiting for DAG {dag_id} to notice.")
        run = self._cluster.wait_for_new_run(dag_id, known, timeout=timeout)
        run = self._watch.follow(run)
        if run.state != "success":
            raise TaskFailedError(self._watch.failure(run))
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

    def _page(self, run: DagRun) -> str | None:
        """Return the address of the page that the promotion has pushed."""
        for task in self._cluster.api.task_instances(run.dag_id, run.dag_run_id):
            if task.task_id.rpartition(".")[2] == self._scenario.promote_task_id:
                pushed = self._cluster.api.xcom(run.dag_id, run.dag_run_id, task.task_id)
                return pushed.get("page") if isinstance(pushed, dict) else None
        return None

    def _read(self, result: WeeklyResult) -> tuple[tuple[LedgerRun, ...], tuple[Decision, ...]]:
        """Read the runs of the DAG run and of the one that followed, which hang below their cause, and the audit."""
        runs = filter(None, (result.run, result.downstream))
        paths = [ref["path"] for run in runs if (ref := self._any_wandb_run(run)) is not None]
        _, records, decisions = self._ledger.read(result.alias, paths)
        return tuple(build_tree(records)), tuple(decisions)

    def _any_wandb_run(self, run: DagRun) -> dict[str, Any] | None:
        for task in self._cluster.api.task_instances(run.dag_id, run.dag_run_id):
            ref = self._cluster.api.xcom(
                run.dag_id, run.dag_run_id, task.task_id, key="wandb_run", map_index=task.map_index
            )
            if isinstance(ref, dict):
                return ref
        return None
