"""Which run a further try of a task follows, or continues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from wandb_airflow_provider.identity import RUN_KEY, RunRef, TaskIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["RetryLink", "remember_run", "retry_link"]


class RetryLink(NamedTuple):
    """
    The place of an attempt among those of its task.

    :param wandb_run_id: The run that the attempt opens, or continues.
    :param retry_of: Path of the run of the attempt before; None for the first, and for one that continues its run.
    """

    wandb_run_id: str
    retry_of: str | None


def retry_link(
    context: Context, identity: TaskIdentity, retries: Literal["new", "resume"], entity: str, project: str
) -> RetryLink:
    """
    Return which run the attempt opens, and which it follows.

    Airflow's task state store (3.3) outlives retries and clears, and so knows the run of the last attempt that had
    one: a try that failed before its run was open is left out of the chain. Before 3.3 the id of the try before is
    computed, whether it had a run or not.
    """
    own = identity.wandb_run_id(retries)
    if identity.try_number <= 1:
        return RetryLink(own, None)
    store: Any = context.get("task_state_store")
    if store is None:
        previous = identity.previous()
        assert previous is not None
        before = RunRef(entity, project, previous.wandb_run_id()).path
        return RetryLink(own, before if retries == "new" else None)
    known = store.get(RUN_KEY)
    if not isinstance(known, Mapping):
        return RetryLink(own, None)
    last = RunRef.from_json(known["run"])
    if retries == "resume" and (last.entity, last.project) == (entity, project):
        return RetryLink(last.wandb_run_id, None)
    if known["try_number"] == identity.try_number:
        # The same try again, after a deferral.
        return RetryLink(own, known["retry_of"])
    return RetryLink(own, last.path)


def remember_run(context: Context, ref: RunRef, retry_of: str | None) -> None:
    """Keep the run of this attempt for the attempts that follow; without a task state store this does nothing."""
    store: Any = context.get("task_state_store")
    if store is not None:
        store.set(RUN_KEY, {"run": ref.path, "try_number": context["ti"].try_number, "retry_of": retry_of})
