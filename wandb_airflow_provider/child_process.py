"""``WandbChildRun``: a task's process, in a shell, virtualenv or container, as a W&B run in its task's place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from wandb_airflow_provider.environment import RunArguments
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbError
from wandb_airflow_provider.kubernetes_secret import KubernetesSecret

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.outage import OnUnavailable

__all__ = ["WandbChildRun"]


class WandbChildRun:
    """
    Make the ``wandb.init()`` of a process that a task starts open a run in the task's place.

    Pass it as ``pre_execute`` of a BashOperator, PythonVirtualenvOperator, ExternalPythonOperator, DockerOperator,
    KubernetesPodOperator or SSHOperator, or of their decorators. The script needs no change. The run is created
    before the process starts; when the process ends, it gets the outcome of the task, and is closed if the process
    died without doing so. Pushes ``wandb_run`` and ``wandb_run_url`` before the process starts.

    :param wandb_conn_id: Airflow connection. Default: the pipeline's, else ``wandb_default``. (templated)
    :param entity: Team or user. Default: the pipeline's, else the connection's, else the key's. (templated)
    :param project: Default: the pipeline's, else the connection's. (templated)
    :param job_type: Default: the task id. (templated)
    :param run_name: What people read in W&B. Default: the task id with map index and try. (templated)
    :param tags: Tags of the run, added to the pipeline's. (templated)
    :param wandb_config: Config of the run; wins over what the script passes. (templated)
    :param wandb_retries: ``new`` or ``resume``; see :class:`~wandb_airflow_provider.operators.base.WandbBaseOperator`.
    :param on_unavailable: When W&B cannot be reached as the task starts: ``fail`` fails the task, ``skip`` starts the
        process without a run, ``offline`` keeps the run of a process on the worker in the spool; from a container or
        another machine it cannot be fetched, and nothing is recorded. Default: the pipeline's, else ``fail``.
    :param wandb_spool: Where ``offline`` keeps runs. Default: the pipeline's. (templated)
    :param secrets: How the process gets the API key. ``auto``: on the worker by a file that only the worker's user
        can read, removed afterwards; in Docker by the private environment; elsewhere not at all, with a warning. Of a
        connection with an identity token, processes on the worker get the path of its file, others nothing. A
        :class:`KubernetesSecret` names the secret that holds it. ``none``: the process has its own credentials.
    :raises WandbConfigurationError: the connection or an argument is wrong. Not retried.
    :raises WandbAuthenticationError: W&B does not accept the key. Not retried.
    :raises WandbUnavailableError: W&B cannot be reached. Retried.
    """

    starts_wandb_run: ClassVar[bool] = True

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
        secrets: Literal["auto", "none"] | KubernetesSecret = "auto",
    ) -> None:
        if on_unavailable is not None:
            from wandb_airflow_provider.outage import check_outage_policy

            check_outage_policy("WandbChildRun(...)", on_unavailable, wandb_spool, complete=False)
        if secrets not in ("auto", "none") and not isinstance(secrets, KubernetesSecret):
            # Not by its value, which may be the key itself.
            raise WandbConfigurationError(
                f"secrets is a {type(secrets).__name__} that is neither 'auto', 'none' nor a KubernetesSecret."
            )
        self.arguments = RunArguments(
            wandb_conn_id,
            entity,
            project,
            job_type,
            run_name,
            tuple(tags),
            wandb_config,
            wandb_retries,
            on_unavailable,
            wandb_spool,
        )
        self.secrets = secrets

    def __call__(self, context: Context) -> None:
        """Create the run, give the operator its variables, and see to the run's end; Airflow calls it."""
        from wandb_airflow_provider.started_process import StartedProcess

        task: Any = context["task"]
        rendered = RunArguments(**task.render_template(self.arguments._asdict(), context))
        try:
            StartedProcess(context, rendered, self.secrets).begin()
        except WandbError:
            from wandb_airflow_provider import sdk

            sdk.release()
            raise
