"""A W&B run as W&B has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from wandb_airflow_provider.identity import RunRef

__all__ = ["RunRecord"]


class RunRecord(NamedTuple):
    """
    One run as W&B has it now.

    :param state: W&B's own: running, finished, failed, crashed, killed, preempted, preempting or pending.
    """

    ref: RunRef
    name: str
    state: str
    group: str | None
    job_type: str | None
    tags: tuple[str, ...]
    config: dict[str, Any]
    summary: dict[str, Any]
    created_at: str
    heartbeat_at: str | None
