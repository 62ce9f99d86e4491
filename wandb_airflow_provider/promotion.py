"""What is kept about a promotion: the record in the version's metadata, and the approval. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbPromotionRefusedError
from wandb_airflow_provider.registry import RegistryAlias
from wandb_airflow_provider.rules import Verdict

__all__ = ["RECORD_KEY", "ROLLBACK_KEY", "Approval", "PromotionRecord", "TaskMark"]

RECORD_KEY = "airflow_promotion"
"""Metadata key of a version's promotions: ``registry/collection:alias`` to record."""
ROLLBACK_KEY = "airflow_rollback"
"""Metadata key of a version's restorations by a rollback, keyed alike."""

_APPROVE = "Approve"


class Approval(NamedTuple):
    """
    A person's consent, as Airflow's ``ApprovalOperator`` returns it.

    :param by: Name of who answered; None when nobody did and the default option was taken.
    :param at: Time of the answer, ISO 8601.
    :param params: What was filled into the form.
    """

    by: str | None
    at: str | None
    params: Mapping[str, Any]

    @classmethod
    def from_json(cls, value: Any) -> Approval:
        """
        Read the XCom of an ``ApprovalOperator``.

        :raises WandbPromotionRefusedError: the answer is not ``Approve``, or there is none.
        :raises WandbConfigurationError: not such a value.
        """
        if value is None:
            raise WandbPromotionRefusedError(
                "The approval has no answer: its task pushed nothing. Nothing is promoted without one."
            )
        if not isinstance(value, Mapping) or not isinstance(value.get("chosen_options"), list):
            raise WandbConfigurationError(
                f"Expected what Airflow's ApprovalOperator returns, with 'chosen_options', got {value!r}."
            )
        user = value.get("responded_by_user")
        by = (user.get("name") or user.get("id")) if isinstance(user, Mapping) else None
        if value["chosen_options"] != [_APPROVE]:
            raise WandbPromotionRefusedError(
                f"The promotion was not approved: {by or 'the default'} chose {value['chosen_options']!r}."
            )
        at: Any = value.get("responded_at")
        return cls(
            by=by,
            at=at.isoformat() if isinstance(at, datetime) else at,
            params=dict(value.get("params_input") or {}),
        )

    def require(self, judged_at: datetime, *, by_nobody: bool = False) -> None:
        """
        Refuse a consent that nobody gave, or that was given before there was this verdict to give it to.

        :param judged_at: When the verdict was made.
        :param by_nobody: Whether the default answer that Airflow took will do.
        :raises WandbPromotionRefusedError: one of the two, or it does not say when it was given.
        """
        if self.by is None and not by_nobody:
            raise WandbPromotionRefusedError(
                "Nobody approved the promotion: Airflow took the default answer when the time was over. Let a person "
                "answer, or set allow_default_approval=True where silence is to be consent."
            )
        answered = _parse_time(self.at)
        if answered is None or answered < judged_at:
            raise WandbPromotionRefusedError(
                f"The promotion was approved at {self.at!r}, and its verdict is of {judged_at.isoformat()!r}: what was "
                "approved is not what would be promoted. Clear the task of the approval too, so that it is asked for "
                "this verdict."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that is kept with the promotion."""
        return {"by": self.by, "at": self.at, "params": dict(self.params)}


class TaskMark(NamedTuple):
    """
    Which task instance did something. Without the try number, so that a retry recognises its own work.

    :param deployment: Tells an Airflow from others that run the same DAG; empty where that is not known.
    """

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int = -1
    deployment: str = ""

    def recognises(self, other: TaskMark) -> bool:
        """Say whether the work of another mark is this task's own. One that names no deployment may be an older one."""
        return other._replace(deployment=other.deployment or self.deployment) == self

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value."""
        return {
            "dag_id": self.dag_id,
            "dag_run_id": self.dag_run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
            "deployment": self.deployment,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskMark:
        """Read it back."""
        ids = value["dag_id"], value["dag_run_id"], value["task_id"], value["map_index"]
        return cls(*ids, value.get("deployment") or "")

    def __str__(self) -> str:
        index = f"[{self.map_index}]" if self.map_index >= 0 else ""
        where = f" (deployment {self.deployment!r})" if self.deployment else ""
        return f"task {self.task_id!r}{index} of DAG run {self.dag_run_id!r} of {self.dag_id!r}{where}"


class PromotionRecord(NamedTuple):
    """
    Why a version holds an alias. Written into the metadata of the version before the alias moves.

    A record that is only ``started`` on a version that does not hold the alias is an attempt that was refused
    or overtaken.

    :param previous: Who held the alias before; None for a first promotion.
    :param wandb_run: ``entity/project/run_id`` of the promoting task's run.
    :param at: Time of the promotion, ISO 8601.
    :param page: Address of that run, which has the page that says why.
    """

    target: RegistryAlias
    state: Literal["started", "completed"]
    verdict: Verdict
    previous: ArtifactRef | None
    approval: Mapping[str, Any] | None
    note: str | None
    task: TaskMark
    wandb_run: str
    at: str
    page: str | None = None

    def completed(self) -> PromotionRecord:
        """Return the record of the same promotion, done."""
        return self._replace(state="completed")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value kept in the metadata."""
        return {
            "target": self.target.to_json(),
            "state": self.state,
            "evaluated_run": self.verdict.run.path,
            "verdict": self.verdict.to_json(),
            "previous": self.previous.to_json() if self.previous else None,
            "approval": dict(self.approval) if self.approval else None,
            "note": self.note,
            "task": self.task.to_json(),
            "wandb_run": self.wandb_run,
            "at": self.at,
            "page": self.page,
        }

    @classmethod
    def find(cls, metadata: Mapping[str, Any], target: RegistryAlias) -> PromotionRecord | None:
        """
        Return the record of a promotion to this alias from a version's metadata, or None.

        :raises WandbConfigurationError: there is one, and it is damaged.
        """
        records = metadata.get(RECORD_KEY)
        value = records.get(str(target)) if isinstance(records, Mapping) else None
        if value is None:
            return None
        try:
            return cls(
                target=RegistryAlias.from_json(value["target"]),
                state=value["state"],
                verdict=Verdict.from_json(value["verdict"]),
                previous=ArtifactRef.from_json(value["previous"]) if value["previous"] else None,
                # A redaction policy may leave these out.
                approval=value.get("approval"),
                note=value.get("note"),
                task=TaskMark.from_json(value["task"]),
                wandb_run=value["wandb_run"],
                at=value["at"],
                page=value.get("page"),
            )
        except (KeyError, TypeError, WandbConfigurationError) as error:
            raise WandbConfigurationError(
                f"The promotion record for {str(target)!r} in the metadata key {RECORD_KEY!r} is damaged: {error}. "
                "Remove it there, and promote again."
            ) from error

    def added_to(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metadata change that keeps this record beside those for other aliases."""
        records = metadata.get(RECORD_KEY)
        kept = dict(records) if isinstance(records, Mapping) else {}
        return {RECORD_KEY: {**kept, str(self.target): self.to_json()}}


def _parse_time(value: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(value or "")
    except ValueError:
        return None
    return time if time.tzinfo else None
