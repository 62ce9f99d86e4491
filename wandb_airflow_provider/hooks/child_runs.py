"""The run of another process, written from the task that starts it: made before it, completed after it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider.hooks.privacy_gate import redacted_spec
from wandb_airflow_provider.hooks.runs import (
    EXIT_FAILURE,
    EXIT_KILLED,
    EXIT_SUCCESS,
    REASON_KEY,
    SECONDS_KEY,
    STATE_KEY,
)
from wandb_airflow_provider.identity import CONFIG_KEY, RunRef
from wandb_airflow_provider.key_metrics import key_metrics

if TYPE_CHECKING:
    from wandb_airflow_provider.exceptions import WandbUnavailableError
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.sdk import RunSpec

__all__ = ["Completed", "complete_run", "reserve_run", "spool_run", "summary_of"]

_UNFINISHED = frozenset({"running", "pending"})
_EXIT_CODES = {
    "success": EXIT_SUCCESS,
    "skipped": EXIT_SUCCESS,
    "failed": EXIT_FAILURE,
    "killed": EXIT_KILLED,
}
_MAX_REASON = 1000


class Completed(NamedTuple):
    """
    What W&B has of the run of a process that has ended.

    :param by_process: The process had finished the run, and so sent all that it logged.
    :param metrics: The run's figures, see :func:`~wandb_airflow_provider.key_metrics.key_metrics`.
    """

    by_process: bool = False
    metrics: Mapping[str, float] = MappingProxyType({})


def reserve_run(hook: WandbHook, spec: RunSpec) -> RunRef:
    """
    Create the run, or find the one that an earlier try left, so that it has its place and URL from now on.

    Not through ``wandb.init()``: the process would then find a run to resume, and scripts that look at
    ``run.resumed`` would look for a checkpoint that is not there.

    :raises WandbNotFoundError: the project does not exist and the connection forbids to create it.
    :raises WandbRunDeletedError: the id belongs to a run that was deleted.
    """
    spec = redacted_spec(hook.privacy, spec)
    entity, project = str(spec.entity), str(spec.project)
    if not hook.connection.allow_project_creation:
        hook.require_project(entity, project)
    with hook.translate_errors(f"create the W&B run {spec.wandb_run_id!r} in project {project!r}"):
        api = hook.get_conn()
        created = api.create_run(run_id=spec.wandb_run_id, project=project, entity=entity)
        ref = RunRef(created.entity, created.project, created.id, url=created.url)
        # What `create_run` returns knows nothing of an earlier try, and would overwrite its config.
        run = _find(hook, ref)
        run.group, run.job_type, run.display_name = spec.group, spec.job_type, spec.name
        run.tags = list(spec.tags)
        run.config.update(spec.config)
        run.update()
    return ref


def summary_of(hook: WandbHook, state: str, reason: str | None, seconds: float) -> dict[str, Any]:
    """
    Return how a task ended, as keys of its run's summary.

    :param state: ``success``, ``skipped``, ``failed`` or ``killed``.
    """
    summary: dict[str, Any] = {STATE_KEY: state, SECONDS_KEY: round(seconds, 3)}
    if reason is not None:
        summary[REASON_KEY] = hook.privacy.text(reason)[:_MAX_REASON]
    return summary


def complete_run(hook: WandbHook, ref: RunRef, spec: RunSpec, summary: Mapping[str, Any]) -> Completed:
    """
    Write how the task ended, and what its process did not: the provenance, and the end of a run left open.

    A run that the process finished keeps the state in W&B that the process gave it.
    """
    spec = redacted_spec(hook.privacy, spec)
    state = str(summary[STATE_KEY])
    with hook.translate_errors(f"complete the W&B run {ref.path!r}"):
        run = _find(hook, ref)
        found = str(run.state)
        if found in _UNFINISHED and state in ("success", "skipped"):
            _finish(hook, spec, state)
            run = _find(hook, ref)
        elif found in _UNFINISHED:
            # Nothing but the state: the run's own record of host, program and arguments stays.
            run.update_state("failed")
        missing = {
            key: value
            for key, value in spec.config.items()
            if key not in run.config or (key == CONFIG_KEY and _full(run.config[key]) != _full(value))
        }
        if missing:
            run.config.update(missing)
            run.update()
        metrics = key_metrics(run.summary_metrics)
        run.summary.update(summary)
    return Completed(found not in _UNFINISHED, metrics)


def _finish(hook: WandbHook, spec: RunSpec, state: str) -> None:
    """Finish, as W&B allows it to no one else, a run that its process never opened or left without ``finish()``."""
    with hook.open_run(spec) as session:
        session.close(EXIT_SUCCESS, state)


def spool_run(
    hook: WandbHook, spec: RunSpec, folder: str, summary: Mapping[str, Any], error: WandbUnavailableError
) -> None:
    """
    Put what a process logged while W&B was away into the spool of the run, and tidy up.

    :param folder: The process's ``WANDB_DIR``.
    """
    from wandb_airflow_provider.hooks.outage import Opening

    opening = Opening(hook.connection, spec, folder)
    opening.mode = "offline"
    opening.settle(_EXIT_CODES[str(summary[STATE_KEY])], summary, error)


def _full(provenance: Any) -> Any:
    """Return it without empty mappings, which wandb does not send."""
    if not isinstance(provenance, Mapping):
        return provenance
    return {name: value for name, value in provenance.items() if value != {}}


def _find(hook: WandbHook, ref: RunRef) -> Any:
    api = hook.get_conn()
    api.flush()  # type: ignore[no-untyped-call]
    return api.run(ref.path)
