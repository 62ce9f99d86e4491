"""Close the runs whose tasks ended without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.hooks.wandb import WandbHook

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.hooks.run_record import RunRecord
    from wandb_airflow_provider.reconciling import AirflowSays, Ending
    from wandb_airflow_provider.sdk import RunSpec
    from wandb_airflow_provider.timeline import TaskRun, TaskState

__all__ = ["WandbReconcileOperator"]

RECONCILED_KEY = "airflow/reconciled"


class WandbReconcileOperator(BaseOperator):
    """
    Close the W&B runs of a project whose task or DAG run has ended without closing them.

    So end the runs of tasks that got SIGKILL or were out of memory, whose worker was lost, and the pipeline runs of
    DAG runs that ended before their closing task could run (``dagrun_timeout``). Each is closed with the exit code
    that Airflow's state stands for, and says in its summary ``airflow/reconciled`` how that is known and when it was
    written. A pipeline run gets its timeline and totals too.

    Asks Airflow through the task's own API for states, nothing else: no REST API, no metadata database. Run it every
    few minutes from a DAG of its own, with ``max_active_runs=1``. It returns what it closed, as a list of JSON objects
    with ``run``, ``state``, ``exit_code`` and ``source``.

    :param wandb_conn_id: Airflow connection. (templated)
    :param entity: Team or user. Default: the connection's, else the key's. (templated)
    :param project: Default: the connection's. (templated)
    :param quiet_for: Leave runs alone that W&B has heard from within so many seconds; their task may be about to
        close them.
    :param created_within: Look at runs created within so many days.
    :param close_unknown: Close runs of DAG runs that Airflow has deleted, too, as failed with the state ``unknown``.
    :param dry_run: Return what would be closed, and close nothing.
    :raises WandbUnavailableError: W&B cannot be reached. Retried.
    :raises WandbPermanentError: some runs could not be closed, one was deleted meanwhile, say; all others are. Not
        retried: the next DAG run looks at them again.
    """

    template_fields: Sequence[str] = ("wandb_conn_id", "entity", "project")
    ui_color = "#fff3c9"

    def __init__(
        self,
        *,
        wandb_conn_id: str = DEFAULT_CONN_ID,
        entity: str | None = None,
        project: str | None = None,
        quiet_for: float = 300.0,
        created_within: float = 14.0,
        close_unknown: bool = False,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wandb_conn_id = wandb_conn_id
        self.entity = entity
        self.project = project
        self.quiet_for = quiet_for
        self.created_within = created_within
        self.close_unknown = close_unknown
        # BaseOperator has a method of the name dry_run.
        self.only_report = dry_run

    @cached_property
    def hook(self) -> WandbHook:
        """The hook for this task's connection, entity and project. Constructing it reads nothing."""
        return WandbHook(self.wandb_conn_id, entity=self.entity, project=self.project)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Find the runs that are open, ask Airflow for their tasks, and close those that have ended."""
        from wandb_airflow_provider.hooks.runs import release_when_idle

        try:
            return self._reconcile(context)
        finally:
            release_when_idle()

    def _reconcile(self, context: Context) -> list[dict[str, Any]]:
        from wandb_airflow_provider.exceptions import WandbAuthenticationError, WandbPermanentError

        now, ti = datetime.now(UTC), context["ti"]
        airflow = _Airflow(ti)
        closed, refused = [], []
        groups: dict[str, list[TaskRun]] = {}
        # Tasks before pipelines, whose timelines tell how their tasks have ended.
        for record in sorted(self._open_runs(now, ti.log_url), key=_is_root):
            try:
                ended = self._ended(record, record.config["airflow"], airflow, groups)
                if ended is None or (ended.state == "unknown" and not self.close_unknown):
                    continue
                if not self.only_report:
                    self._close(record, ended, now, airflow)
            except WandbAuthenticationError:
                raise
            except WandbPermanentError as error:
                self.log.error("Could not close %s: %s", record.ref, error)
                refused.append(f"{record.ref}: {error}")
                continue
            self.log.info(
                "%s %s: %s", "Would close" if self.only_report else "Closed", record.ref, ended.source
            )
            closed.append({"run": record.ref.path, **ended._asdict()})
        if refused:
            raise WandbPermanentError(
                f"{len(refused)} runs could not be closed ({len(closed)} others were). {' '.join(refused)}"
            )
        return closed

    def _open_runs(self, now: datetime, log_url: str) -> list[RunRecord]:
        from wandb_airflow_provider.hooks.runs import RUNNING, STATE_KEY
        from wandb_airflow_provider.reconciling import belongs_here, quiet_seconds

        since = (now - timedelta(days=self.created_within)).strftime("%Y-%m-%dT%H:%M:%S")
        filters = {
            "$and": [
                {"created_at": {"$gte": since}},
                {
                    "$or": [
                        {"state": {"$in": ["running", "pending", "crashed", "preempting"]}},
                        {f"summary_metrics.{STATE_KEY}": RUNNING},
                    ]
                },
            ]
        }
        return [
            record
            for record in self.hook.list_runs(self.hook.entity, self.hook.project, filters)
            if belongs_here(record.config.get("airflow"), log_url)
            and quiet_seconds(record.heartbeat_at or record.created_at, now) >= self.quiet_for
        ]

    def _ended(
        self,
        record: RunRecord,
        provenance: Mapping[str, Any],
        airflow: _Airflow,
        groups: dict[str, list[TaskRun]],
    ) -> Ending | None:
        from wandb_airflow_provider.hierarchy import CLOSE_TASK_ID
        from wandb_airflow_provider.reconciling import attempt_ending, pipeline_ending

        says = airflow.says(provenance["dag_id"], provenance["dag_run_id"])
        if _is_root(record):
            return pipeline_ending(says, CLOSE_TASK_ID)
        task_id, index = provenance["task_id"], int(provenance["map_index"])
        # A thousand lost runs of one DAG run are one list.
        group = record.group or ""
        if group not in groups:
            groups[group] = self._attempts(record)
        tries = [run.try_number for run in groups[group] if (run.task_id, run.map_index) == (task_id, index)]
        return attempt_ending(says, task_id, index, int(provenance["try_number"]), max(tries, default=0))

    def _attempts(self, record: RunRecord) -> list[TaskRun]:
        """Return the attempts of the DAG run of a run, read afresh."""
        from wandb_airflow_provider.hooks.pipeline_run import attempts
        from wandb_airflow_provider.identity import TaskIdentity

        provenance = record.config["airflow"]
        root = TaskIdentity(provenance["dag_id"], provenance["dag_run_id"], "").root_wandb_run_id()
        group = self.hook.list_runs(record.ref.entity, record.ref.project, {"group": record.group})
        return attempts(group, root)

    @staticmethod
    def _open_stages(record: RunRecord, airflow: _Airflow) -> dict[str, str]:
        """Return, as summary keys, how the stages of a shared run have ended that did not say so themselves."""
        from wandb_airflow_provider.hooks.pipeline_run import stage_attempts
        from wandb_airflow_provider.hooks.runs import RUNNING, STATE_KEY
        from wandb_airflow_provider.reconciling import attempt_ending

        stages = dict(stage_attempts(record))
        last: dict[tuple[str | None, int], int] = {}
        for run in stages.values():
            key = (run.task_id, run.map_index)
            last[key] = max(last.get(key, 0), run.try_number)
        provenance = record.config["airflow"]
        says = airflow.says(provenance["dag_id"], provenance["dag_run_id"])
        found = {}
        for stage, run in stages.items():
            # None: its process ended before W&B had received anything.
            if run.state in (None, RUNNING):
                tried = last[(run.task_id, run.map_index)]
                ended = attempt_ending(says, str(run.task_id), run.map_index, run.try_number, tried)
                found[f"{stage}/{STATE_KEY}"] = ended.state if ended else "unknown"
        return found

    def _close(self, record: RunRecord, ended: Ending, now: datetime, airflow: _Airflow) -> None:
        from wandb_airflow_provider.hooks.pipeline_run import write_end
        from wandb_airflow_provider.timeline import dag_run_outcome

        states: list[TaskState] = []
        runs: list[TaskRun] = []
        is_root = _is_root(record)
        if is_root:
            provenance = record.config["airflow"]
            states = airflow.final_states(provenance["dag_id"], provenance["dag_run_id"])
            runs = self._attempts(record)
        with self.hook.open_run(_spec(record)) as session:
            session.run.summary.update(
                {
                    RECONCILED_KEY: {
                        "source": ended.source,
                        "at": now.isoformat(),
                        "wandb_state": record.state,
                    },
                    **self._open_stages(record, airflow),
                }
            )
            if is_root:
                outcome = dag_run_outcome((), states, runs)
                reason = outcome.reason or ended.reason("DAG run")
                write_end(
                    session, outcome._replace(failed=bool(ended.exit_code), reason=reason), states, runs
                )
            else:
                session.close(ended.exit_code, ended.state, reason=ended.reason("task"))


class _Airflow:
    """What a task may ask of Airflow about other DAG runs; each DAG run is asked for once."""

    def __init__(self, ti: Any) -> None:
        self._ti = ti
        self._said: dict[tuple[str, str], AirflowSays] = {}

    def says(self, dag_id: str, dag_run_id: str) -> AirflowSays:
        from wandb_airflow_provider.reconciling import AirflowSays

        key = (dag_id, dag_run_id)
        if key not in self._said:
            # Asking for the state of a DAG run that does not exist would be an error.
            if self._ti.get_dr_count(dag_id=dag_id, run_ids=[dag_run_id]) == 0:
                self._said[key] = AirflowSays(None, {})
            else:
                states = self._ti.get_task_states(dag_id=dag_id, run_ids=[dag_run_id]).get(dag_run_id, {})
                self._said[key] = AirflowSays(
                    _text(self._ti.get_dagrun_state(dag_id, dag_run_id)),
                    {name: _text(state) for name, state in states.items()},
                )
        return self._said[key]

    def final_states(self, dag_id: str, dag_run_id: str) -> list[TaskState]:
        from wandb_airflow_provider.capabilities import task_breadcrumbs
        from wandb_airflow_provider.hierarchy import CLOSE_TASK_ID, OPEN_TASK_ID
        from wandb_airflow_provider.hooks.pipeline_run import task_states

        rows = [
            row
            for row in task_breadcrumbs(self._ti, dag_id, dag_run_id)
            if row["task_id"] not in (OPEN_TASK_ID, CLOSE_TASK_ID)
        ]
        return task_states(rows)


def _is_root(record: RunRecord) -> bool:
    from wandb_airflow_provider.hierarchy import ROOT_JOB_TYPE

    return record.job_type == ROOT_JOB_TYPE and record.config["airflow"].get("task_id") is None


def _text(state: Any) -> str:
    return str(getattr(state, "value", state) or "none")


def _spec(record: RunRecord) -> RunSpec:
    """Return what opens a run again without changing what it says of itself."""
    from wandb_airflow_provider.sdk import RunSpec

    return RunSpec(
        wandb_run_id=record.ref.wandb_run_id,
        name=record.name,
        group=record.group or "",
        job_type=record.job_type or "",
        entity=record.ref.entity,
        project=record.ref.project,
        tags=record.tags,
        # The run is not of this machine, whatever policy its own DAG has.
        machine=False,
        resume="must",
    )
