"""A W&B run as W&B has it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from wandb_airflow_provider.identity import RunRef

__all__ = ["RunRecord", "began_by"]


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


def began_by(moment: datetime) -> dict[str, str]:
    """
    Return the condition, for ``created_at`` in a filter of runs, that a run began by a time.

    The whole second counts, because W&B tells the beginning of a run without its fraction.

    :param moment: With its time zone.
    """
    return {"$lt": (moment.astimezone(UTC) + timedelta(seconds=1)).isoformat(timespec="seconds")}
