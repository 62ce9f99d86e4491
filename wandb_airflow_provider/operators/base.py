"""The base of every operator that opens a W&B run around its work."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbError
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import (
    CONFIG_KEY,
    METRICS_KEY,
    RUN_KEY,
    RUN_URL_KEY,
    RunRef,
    TaskIdentity,
    clean_tags,
)
from wandb_airflow_provider.links.run import WandbRunLink

if TYPE_CHECKING:
    import wandb
    from airflow.sdk import Context

    from wandb_airflow_provider.hierarchy import PipelineSettings
    from wandb_airflow_provider.hooks.runs import RunSession
    from wandb_airflow_provider.outage import OnUnavailable
    from wandb_airflow_provider.retry_chain import RetryLink
    from wandb_airflow_provider.sdk import RunSpec

__all__ = ["TaskRunSource", "WandbBaseOperator"]


class TaskRunSource:
    """
    What it takes to open the run of a task attempt: its account, its identity, its place and its announcement.

    The arguments are those of :class:`WandbBaseOperator`.
    """

    wandb_conn_id: str | None
    entity: str | None
    project: str | None
    job_type: str | None
    run_name: str | None
    tags: Iterable[str]
    wandb_config: Mapping[str, Any] | None
    wandb_retries: Literal["new", "resume"] | None
    pipeline: PipelineSettings | None
    on_unavailable: OnUnavailable | None = None
    wandb_spool: str | None = None
    _retry: RetryLink | None = None

    @cached_property
    def hook(self) -> WandbHook:
        """The hook for this task's connection, entity and project. Constructing it reads nothing."""
        pipeline = self.pipeline
        return WandbHook(
            self.wandb_conn_id or (pipeline.wandb_conn_id if pipeline else DEFAULT_CONN_ID),
            entity=self.entity or (pipeline.entity if pipeline else None),
            project=self.project or (pipeline.project if pipeline else None),
            redaction=pipeline.redaction if pipeline else None,
        )

    def _run_spec(self, context: Context) -> RunSpec:
        from wandb_airflow_provider.provenance import map_index, task_provenance
        from wandb_airflow_provider.retry_chain import retry_link
        from wandb_airflow_provider.sdk import RunSpec

        ti = context["ti"]
        pipeline = self.pipeline
        retries = self.wandb_retries or (pipeline.wandb_retries if pipeline else "new")
        identity = TaskIdentity(ti.dag_id, ti.run_id, ti.task_id, map_index(ti), ti.try_number)
        config = {**(pipeline.config if pipeline else {}), **(self.wandb_config or {})}
        is_stage = pipeline is not None and ti.task_id in pipeline.stages
        if CONFIG_KEY in config:
            raise WandbConfigurationError(
                f"Task {ti.task_id!r}: the config key {CONFIG_KEY!r} is taken by the run's provenance; use another one."
            )
        on_unavailable = self.on_unavailable or (pipeline.on_unavailable if pipeline else "fail")
        spool = self.wandb_spool or (pipeline.spool if pipeline else None)
        self.hook.check_outage_policy(f"Task {ti.task_id!r}", on_unavailable, spool)
        entity, project = self.hook.entity, self.hook.project
        provenance = task_provenance(context)
        provenance["parent_run"] = self._parent(ti, identity, entity, project)
        provenance["upstream_runs"] = [ref.path for ref in self._upstream(ti)]
        if pipeline is not None and is_stage:
            spec = self._stage_spec(pipeline, identity, provenance)
            return spec._replace(on_unavailable=on_unavailable, spool=spool)
        self._retry = retry_link(context, identity, retries, entity, project)
        provenance["retry_of"] = self._retry.retry_of
        return RunSpec(
            wandb_run_id=self._retry.wandb_run_id,
            name=self.run_name or identity.display_name,
            group=identity.group,
            job_type=self.job_type or ti.task_id,
            entity=entity,
            project=project,
            tags=clean_tags([ti.dag_id, *(pipeline.tags if pipeline else ()), *self.tags]),
            config={**config, CONFIG_KEY: provenance},
            on_unavailable=on_unavailable,
            spool=spool,
        )

    def _stage_spec(
        self, pipeline: PipelineSettings, identity: TaskIdentity, provenance: dict[str, Any]
    ) -> RunSpec:
        """Return what the pipeline run is opened with by one of the tasks that write to it in turn."""
        from wandb_airflow_provider.hierarchy import ROOT_JOB_TYPE
        from wandb_airflow_provider.sdk import RunSpec

        stage = identity.stage(self.wandb_retries or pipeline.wandb_retries)
        # The tasks before this one that are stages too have pushed this very run.
        others = [path for path in provenance["upstream_runs"] if path != provenance["parent_run"]]
        place = {**provenance, "upstream_runs": others, "retry_of": None}
        config = {**(self.wandb_config or {}), CONFIG_KEY: place}
        return RunSpec(
            wandb_run_id=identity.root_wandb_run_id(),
            name=identity.root_name,
            group=identity.group,
            job_type=ROOT_JOB_TYPE,
            entity=self.hook.entity,
            project=self.hook.project,
            tags=clean_tags(self.tags),
            config={f"{stage}/{key}": value for key, value in config.items()},
            stage=stage,
            shared=pipeline.shared,
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

    def _place(self, context: Context, entity: str, project: str) -> tuple[str | None, str]:
        """Return the path of the pipeline run, and the name of this task in it."""
        from wandb_airflow_provider.identity import slug
        from wandb_airflow_provider.provenance import map_index

        ti: Any = context["ti"]
        index = map_index(ti)
        identity = TaskIdentity(ti.dag_id, ti.run_id, ti.task_id, index, ti.try_number)
        name = slug(ti.task_id if index < 0 else f"{ti.task_id}-{index}")
        return self._parent(ti, identity, entity, project), name

    @staticmethod
    def _upstream(ti: Any) -> list[RunRef]:
        from wandb_airflow_provider import settings
        from wandb_airflow_provider.hierarchy import (
            Upstream,
            nearest_runs,
            runs_from_xcom,
            upstream_run_tasks,
        )
        from wandb_airflow_provider.provenance import map_index

        if settings.auto_instrument():
            # Then any task may have a run.
            def runs_of(upstream: Upstream) -> list[RunRef]:
                index = {"map_indexes": map_index(ti)} if upstream.same_map_index else {}
                return list(runs_from_xcom(ti.xcom_pull(task_ids=[upstream.task_id], key=RUN_KEY, **index)))

            return nearest_runs(ti.task, runs_of)
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
        from wandb_airflow_provider.retry_chain import remember_run

        ti = context["ti"]
        ti.xcom_push(key=RUN_KEY, value=ref.to_json())
        if ref.url is not None:
            ti.xcom_push(key=RUN_URL_KEY, value=ref.url)
        if self._retry is not None:
            remember_run(context, ref, self._retry.retry_of)
        for outlet in context["task"].outlets:
            # A DAG run that this task's asset events start reads here which run it comes from.
            context["outlet_events"][outlet].extra[RUN_KEY] = ref.to_json()


class WandbBaseOperator(TaskRunSource, BaseOperator):
    """
    Open a W&B run, work inside it, and finish it with the exit code of the work.

    Pushes ``wandb_run`` (the run's address as JSON) and ``wandb_run_url`` as soon as the run is open, so that
    both are there while the task runs, and ``wandb_metrics`` (at most 12 numbers of the run's summary) when the work
    ends; the return value is the subclass's own.

    :param wandb_conn_id: Airflow connection. Default: the pipeline's, else ``wandb_default``. (templated)
    :param entity: Team or user. Default: the pipeline's, else the connection's, else the key's. (templated)
    :param project: Default: the pipeline's, else the connection's. (templated)
    :param job_type: Default: the task id. (templated)
    :param run_name: What people read in W&B. Default: the task id with map index and try. (templated)
    :param tags: Tags of the run, added to the pipeline's. (templated)
    :param wandb_config: Config of the run; the key ``airflow`` is taken by the provenance. (templated)
    :param wandb_retries: ``new`` gives each try a run of its own, linked by ``retry_of``; ``resume`` continues the
        run of the try before, for checkpointed training. Default: the pipeline's, else ``new``.
    :param on_unavailable: When W&B cannot be reached: ``fail`` fails the task, ``offline`` keeps the run in the spool
        for :class:`~wandb_airflow_provider.operators.sync.WandbSyncOperator`, ``skip`` works without a run. A wrong key
        or a missing permission stays an error. Default: the pipeline's, else ``fail``.
    :param wandb_spool: Where ``offline`` keeps runs: a folder, or an URL of an object store. Default: the pipeline's.
        (templated)
    :raises WandbConfigurationError: the connection or an argument is wrong. Not retried.
    :raises WandbAuthenticationError: W&B does not accept the key. Not retried.
    :raises WandbUnavailableError: W&B cannot be reached. Retried.
    """

    opens_wandb_run: ClassVar[bool] = True
    runs_user_code: ClassVar[bool] = False

    template_fields: Sequence[str] = (
        "wandb_conn_id",
        "entity",
        "project",
        "job_type",
        "run_name",
        "tags",
        "wandb_config",
        "wandb_spool",
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
        on_unavailable: OnUnavailable | None = None,
        wandb_spool: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_unavailable is not None:
            from wandb_airflow_provider.outage import check_outage_policy

            check_outage_policy(f"Task {self.task_id!r}", on_unavailable, wandb_spool, complete=False)
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
        self.on_unavailable = on_unavailable
        self.wandb_spool = wandb_spool
        self._session: RunSession | None = None
        self._stopped = False

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
        with self._open(context) as session:
            self._begin(context, session)
            with self._metrics_pushed(context, session):
                return self._stored(context, self.execute_in_run(context, session.task_run))

    @property
    def wandb_run(self) -> wandb.Run:
        """The open run, for the method in which a subclass that deferred goes on; see :meth:`resume_execution`."""
        if self._session is None:
            raise RuntimeError(f"The task {self.task_id!r} has no open W&B run.")
        return self._session.task_run

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral inside the same run, which the method finds as ``self.wandb_run``."""
        with self._open(context) as session:
            self._begin(context, session)
            with self._metrics_pushed(context, session):
                result = super().resume_execution(next_method, next_kwargs, context)
                return self._stored(context, result)

    def _open(self, context: Context) -> RunSession:
        """Put together what the run is opened with, while wandb starts."""
        from wandb_airflow_provider import sdk
        from wandb_airflow_provider.hooks.runs import release_when_idle

        try:
            sdk.start()
            return self.hook.open_run(self._run_spec(context))
        except BaseException:
            release_when_idle(1)
            raise

    def _stored(self, context: Context, value: Any) -> Any:
        """Let this package's XCom backend, where it is set, log what it stores of the result in the open run."""
        from wandb_airflow_provider.xcom import seam

        if self.do_xcom_push and value is not None and seam.is_configured():
            seam.store_result(context["ti"], value, each=bool(getattr(self, "multiple_outputs", False)))
        return value

    def _begin(self, context: Context, session: RunSession) -> None:
        from wandb_airflow_provider.xcom import seam

        self._session = session
        if seam.is_configured():
            seam.record_uses(session.run)
        if not self.runs_user_code:
            session.guard()
        if session.is_recorded:
            self._announce(context, session.ref)
        if self._stopped:
            session.kill()
            raise AirflowException(
                f"The task {self.task_id!r} was stopped (SIGTERM) while its W&B run was being opened."
            )

    @contextmanager
    def _metrics_pushed(self, context: Context, session: RunSession) -> Iterator[None]:
        """Push the run's figures when the work in it has ended, however it did: Airflow's pages show them."""
        try:
            yield
        finally:
            if session.is_recorded:
                try:
                    metrics = session.metrics
                    if metrics:
                        context["ti"].xcom_push(key=METRICS_KEY, value=metrics)
                except Exception as error:
                    # The outcome of the task is that of its work.
                    self.log.warning("The figures of the W&B run are not shown in Airflow: %s", error)

    def on_kill(self) -> None:
        """Finish the run as killed (exit code 143) before Airflow ends the process."""
        self._stopped = True
        if self._session is not None:
            self._session.kill()

    @cached_property
    def pipeline(self) -> PipelineSettings | None:  # type: ignore[override]
        """The settings of the ``wandb_pipeline(...)`` of this task's DAG, if it has one."""
        from wandb_airflow_provider.hierarchy import find_pipeline

        return find_pipeline(self.dag)
