"""Which W&B run belongs to which task instance. The only place that forms run ids, groups and tags."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.record import Record

__all__ = ["CONFIG_KEY", "METRICS_KEY", "RUN_KEY", "RUN_URL_KEY", "RunRef", "TaskIdentity"]

CONFIG_KEY = "airflow"
"""Key in the config of a run under which it says where it comes from."""
RUN_KEY = "wandb_run"
"""XCom key of the JSON value of a task's :class:`RunRef`."""
RUN_URL_KEY = "wandb_run_url"
"""XCom key of the URL of a task's run."""
METRICS_KEY = "wandb_metrics"
"""XCom key of the figures that a task's run ended with, for Airflow's own pages."""

RetryPolicy = Literal["new", "resume"]

_UNSAFE_ID = r"[^a-zA-Z0-9_.-]+"
_MAX_TAG = 64
_MAX_GROUP = 128
_ROOT_TASK = ""


class RunRef(NamedTuple):
    """
    The address of one W&B run; prints as ``entity/project/run_id``.

    :param wandb_run_id: Short id from the run's URL, not its display name.
    :param offline: The run waits in a spool; W&B knows it once that is synced.
    """

    entity: str
    project: str
    wandb_run_id: str
    url: str | None = None
    offline: bool = False

    @property
    def path(self) -> str:
        """``entity/project/run_id``, as ``wandb.Api().run()`` takes it."""
        return f"{self.entity}/{self.project}/{self.wandb_run_id}"

    def __str__(self) -> str:
        return self.path

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that lands in XCom under ``wandb_run``."""
        value = {
            "entity": self.entity,
            "project": self.project,
            "wandb_run_id": self.wandb_run_id,
            "url": self.url,
            "path": self.path,
        }
        return {**value, "offline": True} if self.offline else value

    @classmethod
    def from_json(cls, value: Any) -> RunRef:
        """
        Accept the pushed JSON value, or the printed path.

        :raises WandbConfigurationError: neither of the two.
        """
        if isinstance(value, str) and value.count("/") == 2 and all(value.split("/")):
            entity, project, wandb_run_id = value.split("/")
            return cls(entity, project, wandb_run_id)
        if isinstance(value, Mapping):
            parts = [value.get(key) for key in ("entity", "project", "wandb_run_id")]
            if all(isinstance(part, str) and part for part in parts):
                url = value.get("url")
                return cls(
                    str(parts[0]),
                    str(parts[1]),
                    str(parts[2]),
                    url if isinstance(url, str) else None,
                    offline=value.get("offline") is True,
                )
        raise WandbConfigurationError(
            f"Expected a W&B run as pushed under the XCom key 'wandb_run', or 'entity/project/run_id'; got {value!r}."
        )


class TaskIdentity(Record):
    """
    One task instance attempt, in Airflow's terms.

    :param map_index: -1 for a task that is not mapped.
    :param try_number: 1 for the first attempt; Airflow only ever increases it, also across clears.
    """

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = 1

    def wandb_run_id(self, retries: RetryPolicy = "new") -> str:
        """
        Return the run id of this attempt: a readable slug and a hash of the identity.

        With ``new`` the try number is part of it, so that each attempt is its own run; with ``resume`` it
        is left out, so that a retry continues the run of the attempt before.
        """
        parts = [self.dag_id, self.dag_run_id, self.task_id, str(self.map_index)]
        if retries == "new":
            parts.append(str(self.try_number))
        return _run_id(self.task_id, parts)

    def root_wandb_run_id(self) -> str:
        """Return the id of the pipeline run, one per DAG run, which every task can name before it exists."""
        return _run_id(self.dag_id, [self.dag_id, self.dag_run_id, _ROOT_TASK])

    @property
    def root_name(self) -> str:
        """What a person reads of the pipeline run."""
        return f"{self.dag_id} · {self.dag_run_id}"

    @property
    def triggered_tag(self) -> str:
        """
        The tag of the pipeline runs that this DAG run started, by which they are found.

        The root's id is at most 57 characters long, so that the tag keeps within the 64 that W&B allows.
        """
        return f"from:{self.root_wandb_run_id()}"

    def stage(self, retries: RetryPolicy = "new") -> str:
        """
        Return the first part of the names of this attempt's metrics in a run that all tasks share.

        The task id, with ``/`` between its groups and itself, and the map index. With ``new`` a retry adds
        ``_try<n>``, so that its metrics stay apart from those of the attempt that failed.
        """
        index = f"/{self.map_index}" if self.map_index >= 0 else ""
        attempt = f"_try{self.try_number}" if retries == "new" and self.try_number > 1 else ""
        return f"{self.task_id.replace('.', '/')}{index}{attempt}"

    @property
    def group(self) -> str:
        """The W&B group that holds all runs of the DAG run."""
        return _shorten(f"{self.dag_id}__{self.dag_run_id}", _MAX_GROUP)

    @property
    def display_name(self) -> str:
        """What a person reads in W&B: ``train``, ``train[3]``, ``train[3] · try 2``."""
        index = f"[{self.map_index}]" if self.map_index >= 0 else ""
        attempt = f" · try {self.try_number}" if self.try_number > 1 else ""
        return f"{self.task_id}{index}{attempt}"

    def previous(self) -> TaskIdentity | None:
        """Return the attempt before this one, or None for the first."""
        if self.try_number <= 1:
            return None
        return TaskIdentity(self.dag_id, self.dag_run_id, self.task_id, self.map_index, self.try_number - 1)


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return distinct tags in order, each within the 64 characters that W&B allows."""
    return tuple(dict.fromkeys(_shorten(str(tag), _MAX_TAG) for tag in tags if str(tag).strip()))


def slug(text: str, length: int = 64) -> str:
    """Return the text with every character outside ``[a-zA-Z0-9_.-]`` replaced, at most ``length`` long."""
    return re.sub(_UNSAFE_ID, "-", text).strip("-.")[:length].strip("-.")


def _run_id(readable: str, parts: Iterable[str]) -> str:
    # NUL cannot occur in an Airflow id, so that no two identities join to the same text.
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return f"{slug(readable, 40) or 'run'}-{digest}"


def _shorten(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: length - 9]}-{digest}"
