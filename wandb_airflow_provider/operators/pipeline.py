"""The tasks that open and close the pipeline run, the root of a DAG run's tree of W&B runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from wandb_airflow_provider.hooks.runs import EXIT_FAILURE, EXIT_SUCCESS, REASON_KEY, STATE_KEY
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RUN_KEY, RUN_URL_KEY, RunRef, TaskIdentity, clean_tags
from wandb_airflow_provider.links.run import WandbRunLink
from wandb_airflow_provider.provenance import map_index, task_provenance
from wandb_airflow_provider.sdk import RunSpec
from wandb_airflow_provider.timeline import Outcome, TaskRun, TaskState, dag_run_outcome, timeline

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.hierarchy import PipelineSettings
    from wandb_airflow_provider.hooks.run_record import RunRecord
    from wandb_airflow_provider.hooks.runs import RunSession

__all__ = ["WandbPipelineCloseOperator", "WandbPipelineOpenOperator"]

ROOT_JOB_TYPE = "pipeline"


class _PipelineOperator(BaseOperator):
    """What both ends of a pipeline share."""

    operator_extra_links = (WandbRunLink(),)
    ui_color = "#ffcc33"

    def __init__(self, *, settings: PipelineSettings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wandb_pipeline_settings = settings
        self._session: RunSession | None = None

    @property
    def hook(self) -> WandbHook:
        """The hook for the pipeline's connection. Constructing it reads nothing."""
        settings = self.wandb_pipeline_settings
        return WandbHook(settings.wandb_conn_id, entity=settings.entity, project=settings.project)

    def on_kill(self) -> None:
        """Finish the run as killed before Airflow ends the process."""
        if self._session is not None:
            self._session.kill()

    def _spec(self, context: Context, hook: WandbHook) -> RunSpec:
        settings, identity = self.wandb_pipeline_settings, _identity(context)
        provenance = {**task_provenance(context), "task_id": None, "parent_run": None, "upstream_runs": []}
        provenance["parent_run"] = next((s["run"] for s in provenance["triggered_by"] if s["run"]), None)
        return RunSpec(
            wandb_run_id=identity.root_wandb_run_id(),
            name=f"{identity.dag_id} · {identity.dag_run_id}",
            group=identity.group,
            job_type=ROOT_JOB_TYPE,
            entity=hook.entity,
            project=hook.project,
            tags=clean_tags([identity.dag_id, *settings.tags]),
            config={**settings.config, "airflow": provenance},
        )

    @staticmethod
    def _announce(context: Context, ref: RunRef) -> None:
        context["ti"].xcom_push(key=RUN_KEY, value=ref.to_json())
        context["ti"].xcom_push(key=RUN_URL_KEY, value=ref.url)


class WandbPipelineOpenOperator(_PipelineOperator):
    """
    Create the pipeline run, so that every task's run has a parent from the start.

    W&B has no state for a run that waits for its next writer: the run is finished here, with the summary
    ``airflow/state = running``, and resumed by the closing task, which gives it its final state.
    Pushes ``wandb_run`` and ``wandb_run_url``.
    """

    def execute(self, context: Context) -> None:
        """Create the run, or continue the one of the same DAG run after a clear."""
        hook = self.hook
        with hook.open_run(self._spec(context, hook)) as session:
            self._session = session
            self._announce(context, session.ref)
            session.state_on_success = "running"


class WandbPipelineCloseOperator(_PipelineOperator):
    """
    Close the pipeline run: the timeline of all tasks, totals, the outcome and, where it failed, why.

    A teardown task, so it runs however the DAG run went. Pushes ``wandb_run`` and ``wandb_run_url``.
    """

    def execute(self, context: Context) -> Mapping[str, Any]:
        """Read the tasks' states from Airflow and their runs from W&B, and finish the pipeline run."""
        hook, ti = self.hook, context["ti"]
        spec = self._spec(context, hook)
        states = [
            TaskState(row["task_id"], row["map_index"], row["state"], row["duration"])
            for row in ti.get_task_breadcrumbs(ti.dag_id, ti.run_id)  # type: ignore[attr-defined]
            if row["task_id"] != self.wandb_pipeline_settings.open_task_id
        ]
        runs = [
            _task_run(record)
            for record in hook.list_runs(str(spec.entity), str(spec.project), {"group": spec.group})
            if record.ref.wandb_run_id != spec.wandb_run_id
        ]
        outcome = dag_run_outcome(_leaves(context["dag"], self.task_id), states, runs)
        with hook.open_run(spec) as session:
            self._session = session
            self._announce(context, session.ref)
            self._write(session, outcome, timeline(states, runs))
            session.close(
                EXIT_FAILURE if outcome.failed else EXIT_SUCCESS,
                "failed" if outcome.failed else "success",
                reason=outcome.reason,
            )
        return outcome.to_json()

    @staticmethod
    def _write(session: RunSession, outcome: Outcome, rows: Sequence[Mapping[str, Any]]) -> None:
        session.log_table("timeline", rows)
        session.run.summary.update(outcome.totals())


def _identity(context: Context) -> TaskIdentity:
    ti = context["ti"]
    return TaskIdentity(ti.dag_id, ti.run_id, ti.task_id, map_index(ti), ti.try_number)


def _leaves(dag: Any, closing_task_id: str) -> frozenset[str]:
    """Return the tasks whose states decide the DAG run's, as Airflow's scheduler picks them."""

    def decides(task: Any) -> bool:
        if task.is_teardown and not task.on_failure_fail_dagrun:
            return False
        return all(down.is_teardown and not down.on_failure_fail_dagrun for down in task.downstream_list)

    return frozenset(task.task_id for task in dag.tasks if decides(task) and task.task_id != closing_task_id)


def _task_run(record: RunRecord) -> TaskRun:
    provenance = record.config.get("airflow") or {}
    return TaskRun(
        task_id=provenance.get("task_id"),
        map_index=int(provenance.get("map_index", -1)),
        try_number=int(provenance.get("try_number", 1)),
        path=record.ref.path,
        url=record.ref.url,
        created_at=record.created_at,
        state=record.summary.get(STATE_KEY),
        reason=record.summary.get(REASON_KEY),
    )
