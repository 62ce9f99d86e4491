"""The local W&B as a process of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from wandb_airflow_provider.demo.polling import wait_for
from wandb_airflow_provider.demo.ports import LOOPBACK, claim_port
from wandb_airflow_provider.demo.processes import ManagedProcess, inherited_environment
from wandb_airflow_provider.demo.wandb_connection import WandbConnectionSettings
from wandb_airflow_provider.devserver import DEFAULT_API_KEY

__all__ = ["DevServerProcess"]

_START_TIMEOUT = 60.0


class DevServerProcess:
    """
    A dev server on loopback that ends with this process; a context manager.

    :param folder: Holds its data and its log.
    :param port: 0 for any free one.
    """

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder
        self.port = claim_port(port, purpose="the dev server", option="--devserver-port")
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.api_key = DEFAULT_API_KEY
        self.startup_seconds = 0.0
        self._process: ManagedProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """
        Start it; returns when it answers.

        :raises DemoError: it did not start; the message holds the end of its log.
        """
        started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "wandb_airflow_provider.cli", "devserver"]
        command += ["--host", LOOPBACK, "--port", str(self.port), "--data", str(self.folder / "data")]
        self._process = ManagedProcess(
            "The dev server",
            command,
            env=inherited_environment(),
            log_path=self.folder / "devserver.log",
            cwd=self.folder,
        )
        try:
            wait_for(
                f"the dev server to answer at {self.url}",
                self._ready,
                timeout=_START_TIMEOUT,
                interval=0.1,
                check=self._process.check,
            )
        except BaseException:
            self.stop()
            raise
        self.startup_seconds = time.monotonic() - started

    def stop(self) -> None:
        """End it; returns when it is gone."""
        if self._process is not None:
            self._process.stop()

    def check(self) -> None:
        """:raises ProcessExitedError: it has ended."""
        if self._process is not None:
            self._process.check()

    def connection(self, *, entity: str | None = None, project: str | None = None) -> WandbConnectionSettings:
        """Return how Airflow reaches it."""
        return WandbConnectionSettings(self.url, self.api_key, entity=entity, project=project)

    def _ready(self) -> bool | None:
        try:
            return True if httpx.get(f"{self.url}/ready", trust_env=False).status_code == 200 else None
        except httpx.TransportError:
            return None
