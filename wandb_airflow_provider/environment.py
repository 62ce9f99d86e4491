"""What another process needs in its environment for its ``wandb.init()`` to open the run of its task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.identity import CONFIG_KEY, clean_tags
from wandb_airflow_provider.operators.base import TaskRunSource
from wandb_airflow_provider.record import Record

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.outage import OnUnavailable
    from wandb_airflow_provider.sdk import RunSpec

__all__ = ["KEY_VARIABLE", "ProcessRun", "RunArguments", "wandb_environment"]

KEY_VARIABLE = "WANDB_API_KEY"


class RunArguments(Record):
    """How the run of a process differs from its task's defaults; the arguments of :class:`WandbBaseOperator`."""

    wandb_conn_id: str | None = None
    entity: str | None = None
    project: str | None = None
    job_type: str | None = None
    run_name: str | None = None
    tags: Iterable[str] = ()
    wandb_config: Mapping[str, Any] | None = None
    wandb_retries: Literal["new", "resume"] | None = None
    on_unavailable: OnUnavailable | None = None
    wandb_spool: str | None = None


class ProcessRun(TaskRunSource):
    """The run that a process of a task opens."""

    def __init__(self, context: Context, arguments: RunArguments) -> None:
        from wandb_airflow_provider.hierarchy import find_pipeline, opens_run

        self.context = context
        for name, value in arguments._asdict().items():
            setattr(self, name, value)
        if self.wandb_retries not in (None, "new", "resume"):
            raise WandbConfigurationError(
                f"Task {context['ti'].task_id!r}: wandb_retries is {self.wandb_retries!r}; expected 'new' or 'resume'."
            )
        self.pipeline = find_pipeline(context["dag"])
        if self.pipeline is not None:
            # A process cannot take part in a run that tasks share: its run is its own, below the shared one.
            self.pipeline = self.pipeline._replace(stages=frozenset())
        self.task_has_run = opens_run(context["task"])

    def spec(self) -> RunSpec:
        """Return the run of the task attempt. May read XComs, and the default entity from W&B."""
        from wandb_airflow_provider.hooks.privacy_gate import redacted_spec

        return redacted_spec(self.hook.privacy, self._run_spec(self.context))

    def variables(self, spec: RunSpec, *, run_id: str | None = "child") -> dict[str, str]:
        """
        Return the environment for a run; nothing in it is secret.

        Place and config go by the variables with which W&B Launch starts a job: no other variable carries a config,
        and what a script passes to ``wandb.init()`` as entity, project or id is then ignored.
        """
        from wandb_airflow_provider import sdk
        from wandb_airflow_provider.process_context import config_variables

        config = dict(spec.config)
        found = {
            "WANDB_ENTITY": str(spec.entity),
            "WANDB_PROJECT": str(spec.project),
            "WANDB_RUN_GROUP": spec.group,
            "WANDB_JOB_TYPE": spec.job_type,
            # wandb splits at each comma.
            "WANDB_TAGS": ",".join(clean_tags(tag.replace(",", " ") for tag in spec.tags)),
            "WANDB_BASE_URL": sdk.base_url(self.hook.connection),
            # Airflow masks secrets in the log that it keeps; a copy in W&B would show them.
            "WANDB_CONSOLE": "off",
            "WANDB_LAUNCH": "true",
        }
        if not spec.machine:
            found |= sdk.unknown_machine_variables()
        if run_id is None:
            config[CONFIG_KEY] = self._below_the_task(spec)
        else:
            found["WANDB_RUN_ID"] = spec.wandb_run_id if run_id == "child" else run_id
            found["WANDB_NAME"] = spec.name
            found["WANDB_RESUME"] = "allow"
        return {**found, **dict(config_variables(config))}

    def _below_the_task(self, spec: RunSpec) -> dict[str, Any]:
        provenance = {**spec.config[CONFIG_KEY], "retry_of": None}
        if self.task_has_run:
            provenance["parent_run"] = f"{spec.entity}/{spec.project}/{spec.wandb_run_id}"
        return provenance


def wandb_environment(
    context: Context,
    *,
    wandb_conn_id: str | None = None,
    entity: str | None = None,
    project: str | None = None,
    job_type: str | None = None,
    run_name: str | None = None,
    tags: Iterable[str] = (),
    wandb_config: Mapping[str, Any] | None = None,
    wandb_retries: Literal["new", "resume"] | None = None,
    run_id: str | None = "child",
    secrets: Literal["none", "value"] = "none",
) -> dict[str, str]:
    """
    Return environment variables by which a process's plain ``wandb.init()`` opens a run in its task's place.

    Pass them to the process alone, never to ``os.environ``. The run is in the group of the DAG run, and its config
    names the parent run and the upstream runs.

    :param context: Context of the running task.
    :param wandb_config: Config of the run; wins over what the script passes.
    :param run_id: ``child``: the run of this task attempt. None: each ``wandb.init()`` of the process makes a run with
        an id of its own, below the task's run if it has one. Anything else is the id itself.
    :param secrets: ``none`` leaves the API key out: the process has its own credentials. ``value`` adds it as
        ``WANDB_API_KEY``; never put that into a template field, which Airflow stores and shows. For a connection
        that logs in with an identity token it names the token's file, which the process must be able to read.
    :raises WandbConfigurationError: the connection or an argument is wrong, or the task itself has the run open that
        ``child`` means. Not retried.
    """
    arguments = RunArguments(
        wandb_conn_id, entity, project, job_type, run_name, tags, wandb_config, wandb_retries
    )
    if secrets not in ("none", "value"):
        raise WandbConfigurationError(f"secrets is {secrets!r}; expected 'none' or 'value'.")
    source = ProcessRun(context, arguments)
    if run_id == "child" and source.task_has_run:
        raise WandbConfigurationError(
            f"Task {context['ti'].task_id!r} has its own W&B run open, and a run has one writer. Pass run_id=None: the "
            "process then opens a run below it."
        )
    variables = source.variables(source.spec(), run_id=run_id)
    if secrets == "none":
        return variables
    connection = source.hook.connection
    if connection.identity_token_file is not None:
        from wandb_airflow_provider.identity_token import login_variables

        return {**variables, **login_variables(connection.identity_token_file)}
    return {**variables, KEY_VARIABLE: connection.api_key or ""}
