"""Where the runs of a task belong whose operator knows nothing of W&B."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseSensorOperator

from wandb_airflow_provider import settings
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.identity import CONFIG_KEY, RunRef, TaskIdentity
from wandb_airflow_provider.operators.base import TaskRunSource
from wandb_airflow_provider.provenance import task_provenance
from wandb_airflow_provider.retry_chain import retry_link

if TYPE_CHECKING:
    from wandb_airflow_provider.hierarchy import PipelineSettings
    from wandb_airflow_provider.privacy import PrivacyGate
    from wandb_airflow_provider.sdk import RunSpec

__all__ = ["TaskSource"]


class TaskSource(TaskRunSource):
    """The account, identity and place of such a task, from its DAG's pipeline and the ``[wandb]`` options."""

    entity = None
    project = None
    job_type = None
    run_name = None
    tags = ()
    wandb_config = None
    wandb_retries = None

    def __init__(self, ti: Any, pipeline: PipelineSettings | None, identity: TaskIdentity) -> None:
        self.wandb_conn_id = None if pipeline is not None else settings.wandb_conn_id()
        # Only the tasks that a pipeline names share its run.
        self.pipeline = pipeline._replace(stages=frozenset()) if pipeline is not None else None
        self._ti = ti
        self._identity = identity

    @property
    def needs_run(self) -> bool:
        """Whether the task does work; a sensor waits, and in mode ``reschedule`` starts again for each look."""
        return not isinstance(self._ti.task, BaseSensorOperator)

    def run_spec(self) -> RunSpec:
        """
        Return what the run of the task itself is opened with.

        :raises WandbConfigurationError: the connection is missing or wrong, or names no project.
        :raises WandbUnavailableError: W&B could not be asked for the default entity.
        """
        return self._run_spec(self._ti.get_template_context())

    @cached_property
    def privacy(self) -> PrivacyGate:
        """
        What may be sent to W&B, as the connection and the DAG's pipeline say.

        User code has its own login, so there may be no connection.

        :raises WandbConfigurationError: there is one, and it or its policy is wrong. Then nothing may be sent.
        """
        from wandb_airflow_provider.hooks.privacy_gate import open_gate

        try:
            of_connection = self.hook.connection.redaction
        except WandbConfigurationError as error:
            if not isinstance(error.__cause__, AirflowNotFoundException):
                raise
            of_connection = None
        return open_gate(of_connection, self.pipeline.redaction if self.pipeline is not None else None)

    def provenance(self, entity: str, project: str, wandb_run_id: str) -> dict[str, Any]:
        """Return ``config["airflow"]`` of a run that the task's own code has opened."""
        context = self._ti.get_template_context()
        found = {
            **task_provenance(context),
            "parent_run": self._parent(self._ti, self._identity, entity, project),
            "upstream_runs": [ref.path for ref in self._upstream(self._ti)],
            "retry_of": self._follows(context, RunRef(entity, project, wandb_run_id)),
        }
        sent: dict[str, Any] = self.privacy.mapping("config", {CONFIG_KEY: found})[CONFIG_KEY]
        return sent

    def _follows(self, context: Any, ref: RunRef) -> str | None:
        """Return the run of an earlier try, which Airflow remembers since 3.3: nobody can compute its id."""
        if context.get("task_state_store") is None:
            return None
        self._retry = retry_link(context, self._identity, "new", ref.entity, ref.project)
        if self._retry.retry_of == ref.path:
            # The script resumes its own run.
            self._retry = self._retry._replace(retry_of=None)
        return self._retry.retry_of

    def announce(self, ref: RunRef) -> None:
        """Push the run's address, and name it in the events of the task's outlets."""
        self._announce(self._ti.get_template_context(), ref)
