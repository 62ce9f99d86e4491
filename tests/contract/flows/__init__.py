"""
What users do with the wandb SDK, as small flows that run unchanged on every minor of it.

A flow uses nothing but the standard library, wandb, wandb-workspaces and what they depend on: it runs in an environment
that holds only these. It asserts what the service promises; what the SDK sends meanwhile is recorded by the test that
drives it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb

__all__ = ["FLOWS", "Ground", "flow", "wait_until"]

_SECONDS = 60.0
_REASON = "the reason of a refusal"


@dataclass(frozen=True)
class Ground:
    """
    Where one flow runs: a server, a project and a folder of its own.

    :ivar ask: Has the dev server do what no SDK can ask it for, by name and keyword arguments.
    :ivar left_out: What this version of the SDK does not offer, so that the flow went on without it.
    """

    url: str
    api_key: str
    entity: str
    project: str
    folder: Path
    ask: Callable[..., Any]
    left_out: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"{self.entity}/{self.project}"

    def api(self, api_key: str | None = None) -> wandb.Api:
        """Return a new client, which has nothing cached; with another key than the flow's if it is given."""
        overrides = {"base_url": self.url, "entity": self.entity}
        return wandb.Api(overrides=overrides, api_key=api_key or self.api_key)

    def login(self, api_key: str | None = None) -> None:
        """Log in for the calls that take neither host nor key from a client or run."""
        wandb.login(key=api_key or self.api_key, host=self.url, relogin=True)

    def offers(self, owner: type, call: str) -> bool:
        """Return whether this version of the SDK has a public call; notes it as left out if not."""
        found = hasattr(owner, call)
        if not found:
            self.left_out.append(f"{owner.__name__}.{call}")
        return found

    def refused(self, call: Callable[[], Any], reason: str) -> None:
        """Assert that a call ends with an error for a reason; notes it as left out if the SDK keeps that to itself."""
        try:
            call()
        except Exception as error:
            chain = [error, *_causes(error)]
        else:
            raise AssertionError(f"it was not refused, although {reason}")
        told = [str(link) for link in chain]
        if any(reason in text for text in told):
            return
        answers = [link.response.text for link in chain if getattr(link, "response", None) is not None]
        assert any(reason in text for text in answers), f"{reason!r} is neither in {told} nor in {answers}"
        if _REASON not in self.left_out:
            self.left_out.append(_REASON)

    def init(
        self, *, api_key: str | None = None, settings: dict[str, Any] | None = None, **arguments: Any
    ) -> wandb.Run:
        """Open a run in the flow's project."""
        quiet = {
            "silent": True,
            "console": "off",
            "disable_git": True,
            "x_disable_machine_info": True,
            "x_disable_stats": True,
        }
        given = wandb.Settings(
            base_url=self.url, api_key=api_key or self.api_key, **{**quiet, **(settings or {})}
        )
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        defaults = {
            "entity": self.entity,
            "project": self.project,
            "dir": str(folder),
            "reinit": "create_new",
        }
        return wandb.init(**{**defaults, **arguments}, settings=given)

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


def _causes(error: BaseException) -> Iterator[Any]:
    below = error.__cause__ or error.__context__
    if below is not None:
        yield below
        yield from _causes(below)


def wait_until(reached: Callable[[], Any], what: str) -> None:
    """Try until something is so; an AssertionError says what was not."""
    deadline = time.monotonic() + _SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"not within {_SECONDS:g} seconds: {what}"
        time.sleep(0.05)
