"""What Airflow's REST API tells about DAG runs and their tasks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

__all__ = ["WAITING_FOR_PERSON", "DagRun", "PendingApproval", "TaskInstance"]

# Airflow 3.3 has a state for it; before that the task was deferred.
WAITING_FOR_PERSON = frozenset({"awaiting_input", "deferred"})
FINISHED_RUN_STATES = frozenset({"success", "failed"})


@dataclass(frozen=True)
class DagRun:
    """One DAG run as the API reports it."""

    dag_id: str
    dag_run_id: str
    state: str
    run_type: str
    logical_date: datetime | None
    start_date: datetime | None
    end_date: datetime | None
    conf: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the run has ended, well or not."""
        return self.state in FINISHED_RUN_STATES

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, or None before the end."""
        if self.start_date is None or self.end_date is None:
            return None
        return (self.end_date - self.start_date).total_seconds()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DagRun:
        """Read one entry of the API's answer."""
        return cls(
            dag_id=value["dag_id"],
            dag_run_id=value["dag_run_id"],
            state=value["state"],
            run_type=value["run_type"],
            logical_date=_moment(value["logical_date"]),
            start_date=_moment(value["start_date"]),
            end_date=_moment(value["end_date"]),
            conf=value.get("conf") or {},
        )


@dataclass(frozen=True)
class TaskInstance:
    """
    One task instance as the API reports it.

    :param map_index: -1 for a task that is not mapped.
    :param state: Airflow's word, or ``none`` before the scheduler has looked at it.
    :param duration: Seconds of the latest try, or None before its end.
    """

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int
    state: str
    try_number: int
    duration: float | None
    start_date: datetime | None
    end_date: datetime | None

    @property
    def label(self) -> str:
        """``train`` or ``train[3]``."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskInstance:
        """Read one entry of the API's answer."""
        return cls(
            dag_id=value["dag_id"],
            dag_run_id=value["dag_run_id"],
            task_id=value["task_id"],
            map_index=value["map_index"],
            state=value["state"] or "none",
            try_number=value["try_number"],
            duration=value["duration"],
            start_date=_moment(value["start_date"]),
            end_date=_moment(value["end_date"]),
        )


@dataclass(frozen=True)
class PendingApproval:
    """A task that waits for a person: what is asked, and the answers allowed."""

    task: TaskInstance
    subject: str
    body: str
    options: tuple[str, ...]


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
