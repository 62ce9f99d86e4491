"""The steps of a flow that have begun on this machine: its other processes, and the flow itself, read it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["Step", "StepLog"]

FOLDER_VARIABLE = "WANDB_AIRFLOW_STEPS"


class Step(NamedTuple):
    """
    One step, as far as it has come.

    :param task: What the flow calls it.
    :param path: ``entity/project/run_id`` of its run.
    :param state: ``running``, ``success`` or ``failed``.
    """

    task: str
    path: str
    state: str


class StepLog:
    """A folder with one file for each step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, step: Step) -> None:
        """Note a step, in place of what was noted of it before."""
        name = step.path.rpartition("/")[2]
        part = self.folder / f"{name}.{os.getpid()}.part"
        part.write_text(json.dumps(step), "utf-8")
        part.replace(self.folder / f"{name}.json")

    def steps(self) -> list[Step]:
        """Return all steps."""
        return [Step(*json.loads(path.read_text("utf-8"))) for path in sorted(self.folder.glob("*.json"))]

    def paths_of(self, tasks: Iterable[str]) -> list[str]:
        """Return the runs of the steps that succeeded in these tasks."""
        wanted = frozenset(tasks)
        return [step.path for step in self.steps() if step.task in wanted and step.state == "success"]
