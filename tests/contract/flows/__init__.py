"""
What users do with the wandb SDK, as small flows that run unchanged on every minor of it.

A flow uses nothing but the standard library, wandb and wandb-workspaces: it runs in an environment that holds only
these. It asserts what the service promises; what the SDK sends meanwhile is recorded by the test that drives it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb

__all__ = ["FLOWS", "Ground", "flow"]


@dataclass(frozen=True)
class Ground:
    """Where one flow runs: a server, a project and a folder of its own."""

    url: str
    api_key: str
    entity: str
    project: str
    folder: Path

    @property
    def path(self) -> str:
        return f"{self.entity}/{self.project}"

    def api(self) -> wandb.Api:
        """Return a new client, which has nothing cached."""
        return wandb.Api(overrides={"base_url": self.url, "entity": self.entity}, api_key=self.api_key)

    def init(self, **arguments: Any) -> wandb.Run:
        """Open a run in the flow's project."""
        settings = wandb.Settings(
            base_url=self.url,
            api_key=self.api_key,
            silent=True,
            console=arguments.pop("console", "off"),
            disable_git=True,
            x_disable_machine_info=True,
            x_disable_stats=arguments.pop("x_disable_stats", True),
        )
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        defaults = {
            "entity": self.entity,
            "project": self.project,
            "dir": str(folder),
            "reinit": "create_new",
        }
        return wandb.init(**{**defaults, **arguments}, settings=settings)

    def file(self, name: str, content: str) -> Path:
        """Write a file to log."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def artifact(self, name: str, content: str, **arguments: Any) -> wandb.Artifact:
        """Return an artifact that holds one text file."""
        artifact = wandb.Artifact(name, **{"type": "dataset", **arguments})
        with artifact.new_file("data.txt") as file:
            file.write(content)
        return artifact


FLOWS: dict[str, Callable[[Ground], None]] = {}


def flow(function: Callable[[Ground], None]) -> Callable[[Ground], None]:
    """Register a flow under its function's name."""
    FLOWS[function.__name__] = function
    return function
