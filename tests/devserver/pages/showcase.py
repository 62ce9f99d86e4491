"""A server whose clock stands still, and the means to fill it and to read its pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import wandb

from tests.devserver.pages.page import Page
from wandb_airflow_provider.devserver import DevServer

PROJECT = "retrieval"


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, start: datetime) -> None:
        self.time = start

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Site:
    """
    The server, its clock, and the URLs that the SDK gave for what it wrote.

    :ivar urls: By a short name, such as ``train`` or ``weights``.
    """

    server: DevServer
    clock: Clock
    folder: Path
    client: httpx.Client
    urls: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> httpx.Response:
        """Ask for a page as a browser does: without a key."""
        return self.client.get(path)

    def page(self, path: str) -> Page:
        """Return a page that must be there."""
        response = self.get(path)
        assert response.status_code == 200, f"{path}: {response.status_code}"
        return self.read(response)

    @staticmethod
    def read(response: httpx.Response) -> Page:
        """Return what is in a page that was answered."""
        return Page(response)

    def group_page(self, name: str) -> Page:
        """Return the page of a group of the project."""
        return self.page(f"/local/{PROJECT}/groups/{quote(name, safe='')}")

    @contextmanager
    def run(
        self,
        run_id: str,
        *,
        seconds: float,
        exit_code: int = 0,
        settings: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Iterator[wandb.Run]:
        """Open a run that takes so many seconds by the server's clock; ``settings`` are the SDK's."""
        folder = self.folder / f"{run_id}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        quiet = {"console": "off", "silent": True, "disable_git": True, "x_disable_machine_info": True}
        told = wandb.Settings(
            base_url=self.server.url, api_key=self.server.api_key, **{**quiet, **(settings or {})}
        )
        defaults = {"entity": "local", "project": PROJECT, "dir": folder, "reinit": "create_new"}
        run = wandb.init(id=run_id, settings=told, **{**defaults, **arguments})
        yield run
        self.clock.advance(seconds)
        run.finish(exit_code=exit_code)
