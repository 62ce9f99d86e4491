"""The pipeline run of a DAG run: which attempts belong to it, and how its end is written."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbUnavailableError
from wandb_airflow_provider.hooks.runs import EXIT_FAILURE, EXIT_SUCCESS, REASON_KEY, SECONDS_KEY, STATE_KEY
from wandb_airflow_provider.hooks.stage import PROVENANCE_SUFFIX
from wandb_airflow_provider.identity import RUN_KEY, RunRef, TaskIdentity
from wandb_airflow_provider.timeline import TASK_COUNTS, Outcome, TaskRun, TaskState, timeline

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.run_record import RunRecord
    from wandb_airflow_provider.hooks.runs import RunSession
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.sdk import RunSpec
    from wandb_airflow_provider.spool.manifest import Manifest

__all__ = ["attempts", "known_attempts", "stage_attempts", "task_states", "write_end"]

log = logging.getLogger(__name__)

TIMELINE = "timeline"
_MAX_TRIES = 100


def task_states(breadcrumbs: Sequence[Mapping[str, Any]], *, without: str | None = None) -> list[TaskState]:
    """
    Return the final states among what Airflow tells of the tasks of a DAG run.

    :param breadcrumbs: As ``RuntimeTaskInstance.get_task_breadcrumbs`` returns them.
    :param without: Id of a task to leave out.
    """
    return [
        TaskState(row["task_id"], row["map_index"], str(row["state"]), row["duration"])
        for row in breadcrumbs
        if row["task_id"] != without
    ]


def attempts(records: Sequence[RunRecord], root_id: str) -> list[TaskRun]:
    """
    Return the task attempts that the runs of a DAG run's group stand for.

    :param records: All runs of the group. The pipeline run stands for none itself, but for each stage that it holds.
    :param root_id: Run id of the pipeline run.
    """
    found: list[TaskRun] = []
    for record in records:
        if record.ref.wandb_run_id == root_id:
            found.extend(run for _, run in stage_attempts(record))
        else:
            found.append(_attempt(record, record.config.get("airflow") or {}, ""))
    return found


def known_attempts(hook: WandbHook, spec: RunSpec, ti: Any, states: Sequence[TaskState]) -> list[TaskRun]:
    """
    Return the task attempts of a DAG run: those that W&B knows and, under the policy ``offline``, those that wait.

    While W&B is away, an attempt that it received before is named by what its task pushed.

    :raises WandbUnavailableError: W&B cannot be reached, and the policy is ``fail``.
    """
    root = f"{spec.entity}/{spec.project}/{spec.wandb_run_id}"
    try:
        found = attempts(
            hook.list_runs(str(spec.entity), str(spec.project), {"group": spec.group}), spec.wandb_run_id
        )
    except WandbUnavailableError as error:
        if spec.on_unavailable == "fail":
            raise
        log.warning("W&B cannot tell which runs belong to this DAG run: %s", error)
        # A stage without an address is in the spool, which knows its try.
        found = [run for run in _pushed_attempts(ti, states) if run.path != root or run.url is not None]
    if spec.on_unavailable != "offline":
        return found
    from wandb_airflow_provider.hooks.outage import spooled_runs

    def key(run: TaskRun) -> Any:
        # The stages of the pipeline run have one path.
        return run.path if run.path != root else (run.task_id, run.map_index, run.try_number)

    group = hook.privacy.distinct(spec.group)
    spooled = map(_spooled_attempt, spooled_runs(str(spec.spool), group))
    waiting = {key(run): run for run in spooled if run.task_id is not None}
    return [run for run in found if key(run) not in waiting] + list(waiting.values())


def _pushed_attempts(ti: Any, states: Sequence[TaskState]) -> Iterator[TaskRun]:
    for state in states:
        pushed = ti.xcom_pull(task_ids=state.task_id, key=RUN_KEY, map_indexes=state.map_index)
        if pushed is not None:
            ref = RunRef.from_json(pushed)
            yield TaskRun(state.task_id, state.map_index, _try_of(ti, state, ref), ref.path, ref.url)


def _try_of(ti: Any, state: TaskState, ref: RunRef) -> int:
    for number in range(1, _MAX_TRIES):
        identity = TaskIdentity(ti.dag_id, ti.run_id, state.task_id, state.map_index, number)
        if identity.wandb_run_id() == ref.wandb_run_id:
            return number
    return 1


def _spooled_attempt(manifest: Manifest) -> TaskRun:
    prefix = manifest.prefix
    return TaskRun(
        task_id=manifest.task.get("task_id"),
        map_index=int(manifest.task.get("map_index", -1)),
        try_number=int(manifest.task.get("try_number") or 1),
        path=manifest.run.path,
        created_at=manifest.task.get("started_at") or manifest.started_at,
        state=manifest.summary.get(prefix + STATE_KEY),
        reason=manifest.summary.get(prefix + REASON_KEY),
        seconds=manifest.summary.get(prefix + SECONDS_KEY),
    )


def stage_attempts(root: RunRecord) -> Iterator[tuple[str, TaskRun]]:
    """Yield the stages of a run that the tasks of a DAG run share, with the attempts that wrote them."""
    for key, provenance in root.config.items():
        if key.endswith(PROVENANCE_SUFFIX) and isinstance(provenance, Mapping):
            stage = key.removesuffix(PROVENANCE_SUFFIX)
            yield stage, _attempt(root, provenance, f"{stage}/")


def write_end(
    session: RunSession, outcome: Outcome, states: Sequence[TaskState], runs: Sequence[TaskRun]
) -> None:
    """Write timeline, totals and outcome to the open pipeline run, and finish it."""
    session.log_table(TIMELINE, timeline(states, runs))
    totals = outcome.totals()
    summary: Any = session.run.summary
    for key in [key for key in summary.keys() if key.startswith(TASK_COUNTS) and key not in totals]:  # noqa: SIM118
        # A state that no task is in any more, since some were cleared.
        del summary[key]
    summary.update(totals)
    session.close(
        EXIT_FAILURE if outcome.failed else EXIT_SUCCESS,
        "failed" if outcome.failed else "success",
        reason=outcome.reason,
    )


def _attempt(record: RunRecord, provenance: Mapping[str, Any], prefix: str) -> TaskRun:
    return TaskRun(
        task_id=provenance.get("task_id"),
        map_index=int(provenance.get("map_index", -1)),
        try_number=int(provenance.get("try_number", 1)),
        path=record.ref.path,
        url=record.ref.url,
        created_at=provenance.get("started_at") or record.created_at,
        state=record.summary.get(prefix + STATE_KEY),
        reason=record.summary.get(prefix + REASON_KEY),
        seconds=record.summary.get(prefix + SECONDS_KEY),
    )
