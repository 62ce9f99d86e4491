"""``wandb_pipeline``: the part of a DAG whose runs hang under one pipeline run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.identity import RUN_KEY

if TYPE_CHECKING:
    from wandb_airflow_provider.hierarchy import PipelineSettings
    from wandb_airflow_provider.redaction import RedactionPolicy

__all__ = ["wandb_pipeline"]

_TRIGGER_MODULE = "airflow.providers.standard.operators.trigger_dagrun"


@contextmanager
def wandb_pipeline(
    *,
    wandb_conn_id: str = DEFAULT_CONN_ID,
    entity: str | None = None,
    project: str | None = None,
    tags: Iterable[str] = (),
    wandb_retries: Literal["new", "resume"] = "new",
    config: Mapping[str, Any] | None = None,
    strategy: Literal["nested", "single"] = "nested",
    shared: bool = False,
    redaction: RedactionPolicy | Mapping[str, Any] | str | None = None,
    on_unavailable: Literal["fail", "offline", "skip"] = "fail",
    spool: str | None = None,
) -> Iterator[PipelineSettings]:
    """
    Give the tasks defined inside one pipeline run per DAG run, the root of their tree.

    Use it inside a DAG. It adds a setup task ``wandb_pipeline_open`` before the tasks and a teardown task
    ``wandb_pipeline_close`` after them, which runs however they went and never decides the DAG run's state.
    The arguments are defaults for every W&B task inside; a task's own arguments win. A
    ``TriggerDagRunOperator`` inside gets a key ``wandb_triggered_by`` in its ``conf``, by which the DAG that it
    starts names this pipeline run as its parent.

    :param wandb_conn_id: Airflow connection.
    :param entity: Team or user. Default: the connection's, else the key's.
    :param project: Default: the connection's.
    :param tags: Tags of every run.
    :param wandb_retries: ``new`` or ``resume``; see :class:`~wandb_airflow_provider.operators.base.WandbBaseOperator`.
    :param config: Config of every run.
    :param strategy: ``nested`` gives each task a run of its own under the pipeline run. With ``single`` every task
        continues the pipeline run in turn; the names of its metrics begin with the task's, and have a step axis of
        their own.
    :param shared: With ``single``: let tasks write at the same time, by W&B's shared mode. W&B calls that mode
        experimental, and what concurrent tasks write to the config can be lost.
    :param redaction: What may be sent to W&B, as a policy, its JSON value, or JSON or YAML text; it can only add to
        what the connection's policy forbids.
    :param on_unavailable: What the tasks, and the pipeline run itself, do when W&B cannot be reached: ``fail``,
        ``offline`` or ``skip``; see :class:`~wandb_airflow_provider.operators.base.WandbBaseOperator`.
    :param spool: Where ``offline`` keeps runs until :class:`~wandb_airflow_provider.operators.sync.WandbSyncOperator`
        uploads them: a folder that outlives the worker, or an URL of an object store.
    :raises WandbConfigurationError: the DAG has a pipeline already, or with ``single`` two of its tasks could write at
        the same time. Raised when the DAG is parsed.
    """
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    from wandb_airflow_provider.hierarchy import (
        CLOSE_TASK_ID,
        OPEN_TASK_ID,
        PipelineSettings,
        find_pipeline,
    )
    from wandb_airflow_provider.operators.pipeline import (
        WandbPipelineCloseOperator,
        WandbPipelineOpenOperator,
    )
    from wandb_airflow_provider.outage import check_outage_policy

    if wandb_retries not in ("new", "resume"):
        raise WandbConfigurationError(f"wandb_retries is {wandb_retries!r}; expected 'new' or 'resume'.")
    if strategy not in ("nested", "single"):
        raise WandbConfigurationError(f"strategy is {strategy!r}; expected 'nested' or 'single'.")
    if shared and strategy != "single":
        raise WandbConfigurationError(
            "shared=True lets tasks write to one W&B run at the same time, and needs strategy='single'."
        )
    check_outage_policy("wandb_pipeline(...)", on_unavailable, spool)
    settings = PipelineSettings(
        open_task_id=OPEN_TASK_ID,
        close_task_id=CLOSE_TASK_ID,
        wandb_conn_id=wandb_conn_id,
        entity=entity,
        project=project,
        tags=tuple(tags),
        wandb_retries=wandb_retries,
        config=dict(config or {}),
        strategy=strategy,
        shared=shared,
        on_unavailable=on_unavailable,
        spool=spool,
        redaction=_policy(redaction),
    )
    dag = DagContext.get_current()
    if dag is None:
        raise WandbConfigurationError(
            "wandb_pipeline(...) must be used inside a DAG: `with DAG(...), wandb_pipeline():`."
        )
    if find_pipeline(dag) is not None:
        raise WandbConfigurationError(
            f"DAG {dag.dag_id!r} has a wandb_pipeline already; a DAG run has one root run."
        )
    outside = set(dag.task_dict)
    opening = WandbPipelineOpenOperator(task_id=OPEN_TASK_ID, settings=settings)
    opening.as_setup()  # type: ignore[no-untyped-call]
    yield settings
    inside = [task for task in dag.tasks if task.task_id not in outside and task.task_id != OPEN_TASK_ID]
    if strategy == "single":
        settings = opening.wandb_pipeline_settings = _with_stages(dag.dag_id, settings, inside)
    closing = WandbPipelineCloseOperator(task_id=CLOSE_TASK_ID, settings=settings)
    inside_ids = {task.task_id for task in inside}
    for task in inside:
        if not task.upstream_task_ids & inside_ids:
            task.set_upstream(opening)
        # A task that shares the pipeline's run must have ended before it is closed, whatever else has failed.
        if not task.downstream_task_ids & inside_ids or task.task_id in settings.stages:
            task.set_downstream(closing)
        _name_parent(task)
    closing.as_teardown(setups=opening)


def _policy(value: RedactionPolicy | Mapping[str, Any] | str | None) -> RedactionPolicy | None:
    if value is None:
        return None
    from wandb_airflow_provider.redaction import RedactionPolicy

    return RedactionPolicy.parse(value)


def _with_stages(dag_id: str, settings: PipelineSettings, inside: list[Any]) -> PipelineSettings:
    """Return the settings with the tasks that share the pipeline's run, once they are known to be able to."""
    from wandb_airflow_provider.grouping import (
        refuse_concurrent_writers,
        refuse_unshareable_arguments,
        stages,
    )

    writers = stages(inside)
    refuse_unshareable_arguments(dag_id, writers)
    if not settings.shared:
        refuse_concurrent_writers(dag_id, writers)
    return settings._replace(stages=frozenset(task.task_id for task in writers))


def _name_parent(task: Any) -> None:
    """Let the DAG run that a TriggerDagRunOperator starts know where it comes from."""
    from wandb_airflow_provider.provenance import TRIGGERED_BY

    module = sys.modules.get(_TRIGGER_MODULE)
    if module is None or not isinstance(task, module.TriggerDagRunOperator):
        return
    if task.conf is None or isinstance(task.conf, Mapping):
        task.conf = {
            **(task.conf or {}),
            TRIGGERED_BY: {
                "dag_id": "{{ dag.dag_id }}",
                "dag_run_id": "{{ run_id }}",
                "task_id": "{{ task.task_id }}",
                "run": _of_root("path"),
                "url": _of_root("url"),
            },
        }


def _of_root(part: str) -> str:
    from wandb_airflow_provider.hierarchy import OPEN_TASK_ID

    # There is none where an outage was skipped, and no address of one that waits in a spool.
    return f"{{{{ (ti.xcom_pull(task_ids={OPEN_TASK_ID!r}, key={RUN_KEY!r}) or {{}}).get({part!r}) or '' }}}}"
