"""Variables of the task process by which users' own ``wandb.init()`` finds its place, also in child processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from wandb_airflow_provider.identity import clean_tags

if TYPE_CHECKING:
    from wandb_airflow_provider.privacy import PrivacyGate

__all__ = ["GROUP", "JOB_TYPE", "TAGS", "Labels", "RunEnvironment"]

GROUP = "WANDB_RUN_GROUP"
JOB_TYPE = "WANDB_JOB_TYPE"
TAGS = "WANDB_TAGS"


class Labels(NamedTuple):
    """By what people find the runs of a task in W&B."""

    group: str
    job_type: str
    tags: tuple[str, ...]

    def redacted(self, gate: PrivacyGate) -> Labels:
        """Return what may be sent of them."""
        return Labels(
            gate.distinct(self.group),
            gate.text(self.job_type, mask=False),
            clean_tags(gate.text(tag) for tag in self.tags),
        )


class RunEnvironment:
    """
    Sets group, job type and tags of runs for this process and its children; nothing secret among them.

    What the worker's environment sets is kept, and tags are added to its own.
    """

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}

    def export(self, labels: Labels, settings: Mapping[str, str]) -> None:
        """
        Set the variables.

        :param settings: Others, by their names.
        """
        wanted = {GROUP: labels.group, JOB_TYPE: labels.job_type, **settings}
        changes = {name: value for name, value in wanted.items() if not os.environ.get(name)}
        # wandb splits the variable at commas.
        given = [tag for tag in os.environ.get(TAGS, "").split(",") if tag]
        changes[TAGS] = ",".join(dict.fromkeys([*given, *(tag for tag in labels.tags if "," not in tag)]))
        self._before = {name: os.environ.get(name) for name in changes}
        os.environ.update(changes)

    def sets(self, name: str) -> bool:
        """Return whether a variable has its value from here, and not from the worker's environment."""
        return name in self._before

    @property
    def tags_before(self) -> list[str]:
        """The tags of the worker's environment."""
        return [tag for tag in (self._before.get(TAGS) or "").split(",") if tag]

    def restore(self) -> None:
        """Put back what :meth:`export` found."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before = {}
