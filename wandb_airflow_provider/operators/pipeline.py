"""The tasks that open and close the pipeline run, the root of a DAG run's tree of W&B runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from wandb_airflow_provider import sdk
from wandb_airflow_provider.capabilities import task_breadcrumbs
from wandb_airflow_provider.hierarchy import ROOT_JOB_TYPE, known_pipelines
from wandb_airflow_provider.hooks.pipeline_run import known_attempts, task_states, write_end
from wandb_airflow_provider.hooks.runs import borrowed_sdk
from wandb_airflow_provider.hooks.triggered_runs import name_in_sources
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import CONFIG_KEY, RUN_KEY, RUN_URL_KEY, TaskIdentity, clean_tags
from wandb_airflow_provider.links.run import WandbRunLink
from wandb_airflow_provider.provenance import map_index, task_provenance
from wandb_airflow_provider.sdk import RunSpec
from wandb_airflow_provider.timeline import dag_run_outcome

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.hierarchy import PipelineSettings
    from wandb_airflow_provider.hooks.runs import RunSession

__all__ = ["WandbPipelineCloseOperator", "WandbPipelineOpenOperator"]


class _PipelineOperator(BaseOperator):
    """What both ends of a pipeline share."""

    operator_extra_links = (WandbRunLink(),)
    ui_color = "#ffcc33"

    def __init__(self, *, settings: PipelineSettings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wandb_pipeline_settings = settings
        known_pipelines[self.dag_id] = settings
        self._session: RunSession | None = None

    @property
    def hook(self) -> WandbHook:
        """The hook for the pipeline's connection. Constructing it reads nothing."""
        settings = self.wandb_pipeline_settings
        return WandbHook(
            settings.wandb_conn_id,
            entity=settings.entity,
            project=settings.project,
            redaction=settings.redaction,
        )

    def on_kill(self) -> None:
        """Finish the run as killed before Airflow ends the process."""
        if self._session is not None:
            self._session.kill()

    def _spec(self, context: Context, hook: WandbHook) -> RunSpec:
        settings, identity = self.wandb_pipeline_settings, _identity(context)
        hook.check_outage_policy("wandb_pipeline(...)", settings.on_unavailable, settings.spool)
        provenance = {**task_provenance(context), "task_id": None, "parent_run": None, "upstream_runs": []}
        provenance["parent_run"] = next(
            filter(None, (source.get("run") for source in provenance["triggered_by"])), None
        )
        return RunSpec(
            wandb_run_id=identity.root_wandb_run_id(),
            name=identity.root_name,
            group=identity.group,
            job_type=ROOT_JOB_TYPE,
            entity=hook.entity,
            project=hook.project,
            tags=clean_tags([identity.dag_id, *settings.tags, *_source_tags(provenance["triggered_by"])]),
            config={**settings.config, CONFIG_KEY: provenance},
            shared=settings.shared,
            on_unavailable=settings.on_unavailable,
            spool=settings.spool,
        )

    @staticmethod
    def _announce(context: Context, session: RunSession) -> None:
        if not session.is_recorded:
            return
        ref = session.ref
        context["ti"].xcom_push(key=RUN_KEY, value=ref.to_json())
        if ref.url is not None:
            context["ti"].xcom_push(key=RUN_URL_KEY, value=ref.url)

    @staticmethod
    def _complete(
        hook: WandbHook, session: RunSession, provenance: Mapping[str, Any], *, again: bool = False
    ) -> None:
        """
        Let this run and those that started its DAG run lead to each other.

        :param again: The opening task has done so; only its config is replaced by that of the closing one.
        """
        if not session.is_recorded or session.ref.offline:
            return
        if again and all(cause.get("url") or not cause.get("run") for cause in provenance["triggered_by"]):
            return
        urls = name_in_sources(hook, session.ref, provenance)
        causes = [
            {**cause, "url": cause.get("url") or urls.get(cause.get("run"))}
            for cause in provenance["triggered_by"]
        ]
        if causes != provenance["triggered_by"]:
            completed = {CONFIG_KEY: {**provenance, "triggered_by": causes}}
            session.run.config.update(hook.privacy.mapping("config", completed), allow_val_change=True)  # type: ignore[no-untyped-call]


class WandbPipelineOpenOperator(_PipelineOperator):
    """
    Create the pipeline run, so that every task's run has a parent from the start.

    W&B has no state for a run that waits for its next writer: the run is finished here, with the summary
    ``airflow/state = running``, and resumed by the closing task, which gives it its final state.
    Pushes ``wandb_run`` and ``wandb_run_url``.
    """

    def execute(self, context: Context) -> None:
        """Create the run, or continue the one of the same DAG run after a clear."""
        if self.wandb_pipeline_settings.shared:
            self.log.warning(
                "The tasks of DAG %r share one W&B run and may write to it at the same time (shared=True). W&B calls "
                "its shared mode experimental; what concurrent tasks write to the config can be lost.",
                self.dag_id,
            )
        hook = self.hook
        with borrowed_sdk(keep=True):
            sdk.start()
            spec = self._spec(context, hook)
            opening = hook.open_run(spec)
        with opening as session:
            self._session = session
            self._announce(context, session)
            self._complete(hook, session, spec.config[CONFIG_KEY])
            session.state_on_success = "running"


class WandbPipelineCloseOperator(_PipelineOperator):
    """
    Close the pipeline run: the timeline of all tasks, totals, the outcome and, where it failed, why.

    A teardown task, so it runs however the DAG run went. Pushes ``wandb_run`` and ``wandb_run_url``.
    """

    def execute(self, context: Context) -> Mapping[str, Any]:
        """Read the tasks' states from Airflow and their runs from W&B, and finish the pipeline run."""
        hook, ti = self.hook, context["ti"]
        with borrowed_sdk(keep=True):
            sdk.start()
            spec = self._spec(context, hook)
            states = task_states(
                task_breadcrumbs(ti, ti.dag_id, ti.run_id, context["dag"].task_ids),
                without=self.wandb_pipeline_settings.open_task_id,
            )
            runs = known_attempts(hook, spec, ti, states)
            outcome = dag_run_outcome(_leaves(context["dag"], self.task_id), states, runs)
            # The tags that the run has got from its tasks stay as they are.
            opening = hook.open_run(spec._replace(tags=()))
        with opening as session:
            self._session = session
            self._announce(context, session)
            self._complete(hook, session, spec.config[CONFIG_KEY], again=True)
            session.run.summary.update(_wall_time(context))
            write_end(session, outcome, states, runs)
        return outcome.to_json()


def _identity(context: Context) -> TaskIdentity:
    ti = context["ti"]
    return TaskIdentity(ti.dag_id, ti.run_id, ti.task_id, map_index(ti), ti.try_number)


def _source_tags(triggered_by: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the tags by which this DAG run is found from those that started it."""
    sources = ((entry.get("dag_id"), entry.get("dag_run_id")) for entry in triggered_by)
    return [TaskIdentity(str(dag), str(run), "").triggered_tag for dag, run in sources if dag and run]


def _leaves(dag: Any, closing_task_id: str) -> frozenset[str]:
    """Return the tasks whose states decide the DAG run's, as Airflow's scheduler picks them."""

    def decides(task: Any) -> bool:
        if task.is_teardown and not task.on_failure_fail_dagrun:
            return False
        return all(down.is_teardown and not down.on_failure_fail_dagrun for down in task.downstream_list)

    return frozenset(task.task_id for task in dag.tasks if decides(task) and task.task_id != closing_task_id)


def _wall_time(context: Context) -> dict[str, float]:
    """Return the seconds from the start of the DAG run until now, as a summary key."""
    started = context["dag_run"].start_date
    return {} if started is None else {"airflow/wall_seconds": (datetime.now(UTC) - started).total_seconds()}
