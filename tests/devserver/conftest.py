"""The plugin's dev server, the real SDK pointed at it, and a project of its own for each test."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import wandb
from wandb.apis.public import Run as PublicRun

from wandb_airflow_provider.devserver import DEFAULT_API_KEY, DevServer, auth

_NUMBERS = itertools.count()

OpenRun = Callable[..., wandb.Run]
FindRun = Callable[[str], PublicRun]


@pytest.fixture
def server(wandb_server: DevServer) -> DevServer:
    """The server of the plugin: empty for each test, which fails if the SDK asks for what it does not know."""
    return wandb_server


@pytest.fixture(autouse=True)
def _isolated(wandb_isolation: None) -> None:
    """Keep servers of a test's own apart too."""


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"{name[:90]}-{next(_NUMBERS)}"


@pytest.fixture
def open_run(server: DevServer, project: str, tmp_path: Path) -> Iterator[OpenRun]:
    """
    ``open_run(**init_arguments)`` starts a run in the test's project; runs left open are finished.

    A ``url`` leads to another server, whose key is the default one unless given.
    """
    opened: list[wandb.Run] = []

    def start(*, url: str | None = None, api_key: str | None = None, **arguments: Any) -> wandb.Run:
        key = api_key or (server.api_key if url is None else DEFAULT_API_KEY)
        settings = settings_for(url or server.url, key, **arguments.pop("settings", {}))
        # Two runs in one second would share a local folder name.
        folder = tmp_path / f"wandb-{next(_NUMBERS)}"
        folder.mkdir()
        defaults = {"project": project, "entity": "local", "dir": folder, "reinit": "create_new"}
        run = wandb.init(**{**defaults, **arguments}, settings=settings)
        opened.append(run)
        return run

    yield start
    for run in opened:
        run.finish()


@pytest.fixture
def api(server: DevServer) -> wandb.Api:
    return api_for(server)


@pytest.fixture
def find(api: wandb.Api, project: str) -> FindRun:
    """``find(run_id)`` reads a run of the test's project anew, past the client's cache."""

    def read(run_id: str) -> PublicRun:
        api.flush()
        return api.run(f"local/{project}/{run_id}")

    return read


def api_for(server: DevServer, api_key: str | None = None) -> wandb.Api:
    """Return a new client of a server; a new one has nothing cached."""
    return wandb.Api(overrides={"base_url": server.url}, api_key=api_key or server.api_key)


def settings_for(url: str, api_key: str, **more: Any) -> wandb.Settings:
    """Return SDK settings for a server that keep the console free and the process quick."""
    defaults = {"console": "off", "silent": True, "disable_git": True, "x_disable_machine_info": True}
    return wandb.Settings(base_url=url, api_key=api_key, **{**defaults, **more})


@pytest.fixture
def fresh_api(server: DevServer) -> Callable[..., wandb.Api]:
    """``fresh_api(api_key=None)`` returns a new client, which has nothing cached."""
    return lambda api_key=None: api_for(server, api_key)


@pytest.fixture
def draft() -> Callable[..., wandb.Artifact]:
    """``draft(name, files, **arguments)`` returns an artifact to log, with text files given as path and content."""

    def make(name: str, files: dict[str, str], **arguments: Any) -> wandb.Artifact:
        artifact = wandb.Artifact(name, **{"type": "dataset", **arguments})
        for path, content in files.items():
            with artifact.new_file(path) as file:
                file.write(content)
        return artifact

    return make


@pytest.fixture
def graphql(server: DevServer) -> Callable[..., tuple[int, dict[str, Any]]]:
    """``graphql(document, variables, api_key=None)`` sends what no SDK would; returns the status and the answer."""

    def send(
        document: str, variables: dict[str, Any], api_key: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        response = httpx.post(
            f"{server.url}/graphql",
            json={"query": document, "variables": variables},
            auth=("api", api_key or server.api_key),
        )
        return response.status_code, response.json()

    return send


@pytest.fixture
def read_only_key(server: DevServer) -> str:
    """The API key of an account that may read everything of the team and change nothing."""
    key = "r" * 40
    with server.backend.store.write() as conn:
        auth.add_account(conn, "reader", role="read-only", teams=("local",), now="2026-01-01T00:00:00+00:00")
        auth.set_key(conn, "reader", key)
    return key
