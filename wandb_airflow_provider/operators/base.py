"""The base of every operator that opens a W&B run around its work."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbError
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RUN_KEY, RUN_URL_KEY, RunRef, TaskIdentity, clean_tags
from wandb_airflow_provider.links.run import WandbRunLink

if TYPE_CHECKING:
    import wandb
    from airflow.sdk import Context

    from wandb_airflow_provider.hierarchy import PipelineSettings
    from wandb_airflow_provider.hooks.runs import RunSession
    from wandb_airflow_provider.sdk import RunSpec

__all__ = ["WandbBaseOperator"]

CONFIG_KEY = "airflow"


class WandbBaseOperator(BaseOperator):
    """
    Open a W&B run, work inside it, and finish it with the exit code of the work.

    Pushes ``wandb_run`` (the run's address as JSON) and ``wandb_run_url`` as soon as the run is open, so that
    both are there while the task runs; the return value is the subclass's own.

    :param wandb_conn_id: Airflow connection. Default: the pipeline's, else ``wandb_default``. (templated)
    :param entity: Team or user. Default: the pipeline's, else the connection's, else the key's. (templated)
    :param project: Default: the pipeline's, else the connection's. (templated)
    :param job_type: Default: the task id. (templated)
    :param run_name: What people read in W&B. Default: the task id with map index and try. (templated)
    :param tags: Tags of the run, added to the pipeline's. (templated)
    :param wandb_config: Config of the run; the key ``airflow`` is taken by the provenance. (templated)
    :param wandb_retries: ``new`` gives each try a run of its own, linked by ``retry_of``; ``resume`` continues the
        run of the try before, for checkpointed training. Default: the pipeline's, else ``new``.
    :raises WandbConfigurationError: the connection or an argument is wrong. Not retried.
    :raises WandbAuthenticationError: W&B does not accept the key. Not retried.
    :raises WandbUnavailableError: W&B cannot be reached. Retried.
    """

    opens_wandb_run: ClassVar[bool] = True

    template_fields: Sequence[str] = (
        "wandb_conn_id",
        "entity",
        "project",
        "job_type",
        "run_name",
        "tags",
        "wandb_config",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"wandb_config": "json"}
    operator_extra_links = (WandbRunLink(),)
    ui_color = "#fff3c9"

    def __init__(
        self,
        *,
        wandb_conn_id: str | None = None,
        entity: str | None = None,
        project: str | None = None,
        job_type: str | None = None,
        run_name: str | None = None,
        tags: Iterable[str] = (),
        wandb_config: Mapping[str, Any] | None = None,
        wandb_retries: Literal["new", "resume"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if wandb_retries not in (None, "new", "resume"):
            raise WandbConfigurationError(
                f"Task {self.task_id!r}: wandb_retries is {wandb_retries!r}; expected 'new' or 'resume'."
            )
        self.wandb_conn_id = wandb_conn_id
        self.entity = entity
        self.project = project
        self.job_type = job_type
        self.run_name = run_name
        self.tags = tags
        self.wandb_config = wandb_config
        self.wandb_retries = wandb_retries
        self._session: RunSession | None = None

    @abstractmethod
    def execute_in_run(self, context: Context, wandb_run: wandb.Run) -> Any:
        """Do the task's work while its run is open; what it returns lands in XCom."""

    def check(self) -> None:
        """Refuse what is wrong, arguments rendered, before a run is opened; may read W&B. Subclasses override it."""

    def execute(self, context: Context) -> Any:
        """Open the run, push its address, work, and finish it."""
        from wandb_airflow_provider import sdk

        try:
            self.check()
        except WandbError:
            sdk.release()
            raise
        with self.hook.open_run(self._run_spec(context)) as session:
            self._session = session
            self._announce(context, session.ref)
            return self.execute_in_run(context, session.run)

    def on_kill(self) -> None:
        """Finish the run as killed (exit code 143) before Airflow ends the process."""
        if self._session is not None:
            self._session.kill()

    @cached_property
    def pipeline(self) -> PipelineSettings | None:
        """The settings of the ``wandb_pipeline(...)`` of this task's DAG, if it has one."""
        from wandb_airflow_provider.hierarchy import find_pipeline

        return find_pipeline(self.dag)

    @cached_property
    def hook(self) -> WandbHook:
        """The hook for this task's connection, entity and project. Constructing it reads nothing."""
        pipeline = self.pipeline
        return WandbHook(
            self.wandb_conn_id or (pipeline.wandb_conn_id if pipeline else DEFAULT_CONN_ID),
            entity=self.entity or (pipeline.entity if pipeline else None),
            project=self.project or (pipeline.project if pipeline else None),
        )

    def _run_spec(self, context: Context) -> RunSpec:
        from wandb_airflow_provider.provenance import map_index, task_provenance
        from wandb_airflow_provider.sdk import RunSpec

        ti = context["ti"]
        pipeline = self.pipeline
        retries = self.wandb_retries or (pipeline.wandb_retries if pipeline else "new")
        identity = TaskIdentity(ti.dag_id, ti.run_id, ti.task_id, map_index(ti), ti.try_number)
        config = {**(pipeline.config if pipeline else {}), **(self.wandb_config or {})}
        if CONFIG_KEY in config:
            raise WandbConfigurationError(
                f"Task {ti.task_id!r}: the config key {CONFIG_KEY!r} is taken by the run's provenance; use another one."
            )
        entity, project = self.hook.entity, self.hook.project
        provenance = task_provenance(context)
        provenance["parent_run"] = self._parent(ti, identity, entity, project)
        provenance["upstream_runs"] = [ref.path for ref in self._upstream(ti)]
        previous = identity.previous() if retries == "new" else None
        provenance["retry_of"] = (
            RunRef(entity, project, previous.wandb_run_id()).path if previous is not None else None
        )
        return RunSpec(
            wandb_run_id=identity.wandb_run_id(retries),
            name=self.run_name or identity.display_name,
            group=identity.group,
            job_type=self.job_type or ti.task_id,
            entity=entity,
            project=project,
            tags=clean_tags([ti.dag_id, *(pipeline.tags if pipeline else ()), *self.tags]),
            config={**config, CONFIG_KEY: provenance},
        )

    def _parent(self, ti: Any, identity: TaskIdentity, entity: str, project: str) -> str | None:
        if self.pipeline is None:
            return None
        pushed = ti.xcom_pull(task_ids=self.pipeline.open_task_id, key=RUN_KEY, map_indexes=-1)
        if pushed is not None:
            return RunRef.from_json(pushed).path
        # Also nameable when the setup task has not run, as with a task that is run alone.
        root = RunRef(
            self.pipeline.entity or entity, self.pipeline.project or project, identity.root_wandb_run_id()
        )
        return root.path

    @staticmethod
    def _upstream(ti: Any) -> list[RunRef]:
        from wandb_airflow_provider.hierarchy import runs_from_xcom, upstream_run_tasks
        from wandb_airflow_provider.provenance import map_index

        upstream = upstream_run_tasks(ti.task)
        same = [found.task_id for found in upstream if found.same_map_index]
        every = [found.task_id for found in upstream if not found.same_map_index]
        pulled: list[Any] = []
        if same:
            pulled += ti.xcom_pull(task_ids=same, key=RUN_KEY, map_indexes=map_index(ti))
        if every:
            pulled += ti.xcom_pull(task_ids=every, key=RUN_KEY)
        return list(runs_from_xcom(pulled))

    def _announce(self, context: Context, ref: RunRef) -> None:
        ti = context["ti"]
        ti.xcom_push(key=RUN_KEY, value=ref.to_json())
        ti.xcom_push(key=RUN_URL_KEY, value=ref.url)
        for outlet in self.outlets:
            # A DAG run that this task's asset events start reads here which run it comes from.
            context["outlet_events"][outlet].extra[RUN_KEY] = ref.to_json()
