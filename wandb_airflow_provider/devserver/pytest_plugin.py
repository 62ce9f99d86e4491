"""
Fixtures for whoever tests DAGs: a W&B of the test's own, an Airflow connection to it, and faults.

pytest loads this module in every run where the package is installed, so that it imports nothing but pytest until a
fixture is asked for. One server serves a session (with xdist: one per worker). Each test gets it empty, and with a
new API key: whatever a test leaves running is refused afterwards.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wandb_airflow_provider.devserver.faults import Faults
    from wandb_airflow_provider.devserver.server import DevServer

_DEFAULT_CONN_ID = "wandb_default"
_MARKER = "wandb_allow_unknown"
# Nothing listens on the discard port: what asks the SDK's default host fails at once, on this machine.
_NOWHERE = "http://127.0.0.1:9"
# How a process finds the wandb service that its parent has started.
_SERVICE = "WANDB_SERVICE"


@dataclass(frozen=True)
class DevConnection:
    """
    The Airflow connection that a test's DAG uses.

    :param conn_id: What the DAG calls it.
    :param entity: The entity that runs go to.
    """

    conn_id: str
    url: str
    api_key: str = field(repr=False)
    entity: str


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the configuration file."""
    parser.addini(
        "wandb_conn_id", "id of the connection that wandb_connection makes", default=_DEFAULT_CONN_ID
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(*names): the test may ask the W&B dev server for operations that it does not know, or only for"
        " the ones named",
    )


@pytest.fixture(scope="session")
def wandb_server_options() -> Mapping[str, Any]:
    """Arguments of :class:`DevServer`, such as ``teams``; override it to give some."""
    return {}


@pytest.fixture(scope="session")
def _wandb_session_server(
    tmp_path_factory: pytest.TempPathFactory, wandb_server_options: Mapping[str, Any]
) -> Iterator[DevServer]:
    try:
        from wandb_airflow_provider.devserver.server import DevServer
    except ModuleNotFoundError as error:
        raise pytest.UsageError(
            f"the W&B dev server needs the module {error.name!r}: install 'wandb-airflow-provider[devserver]'."
        ) from error
    options = {"data_dir": tmp_path_factory.mktemp("wandb-devserver"), **wandb_server_options}
    with DevServer(**options) as server:
        yield server
        # The SDK's service outlives the runs that it served, and would wait for a server that is gone.
        wandb = sys.modules.get("wandb")
        if wandb is not None:
            wandb.teardown()


@pytest.fixture(scope="session")
def _wandb_session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wandb")


@pytest.fixture
def wandb_isolation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, _wandb_session_folder: Path) -> None:
    """
    Keep the test off the user's own W&B: no key, no settings, no caches of theirs, and no default host.

    The SDK reads most settings once in a process, so these are the same for all tests. Caches of artifacts are the
    test's own: they are keyed by content, and would hide a download that is broken.
    """
    for name in [name for name in os.environ if name.startswith("WANDB_") and name != _SERVICE]:
        monkeypatch.delenv(name)
    session = _wandb_session_folder
    for name, folder in (
        ("WANDB_DIR", session / "runs"),
        ("WANDB_DATA_DIR", session / "data"),
        ("WANDB_CONFIG_DIR", session / "config"),
        ("WANDB_CACHE_DIR", tmp_path / "wandb-cache"),
        ("WANDB_ARTIFACT_DIR", tmp_path / "wandb-artifacts"),
    ):
        folder.mkdir(exist_ok=True)
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("NETRC", str(session / "netrc"))
    monkeypatch.setenv("WANDB_CREDENTIALS_FILE", str(session / "no-credentials.json"))
    monkeypatch.setenv("WANDB_BASE_URL", _NOWHERE)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    # Reading the metadata of every installed package would take most of the time that opening a run does.
    monkeypatch.setenv("WANDB_X_SAVE_REQUIREMENTS", "false")


@pytest.fixture
def wandb_server(
    request: pytest.FixtureRequest, wandb_isolation: None, _wandb_session_server: DevServer
) -> Iterator[DevServer]:
    """
    An empty :class:`DevServer`, with an API key that only this test has.

    At its end the test fails if it asked for an operation that the server does not know, unless it is marked
    ``wandb_allow_unknown``.
    """
    server = _wandb_session_server
    server.reset(api_key=secrets.token_hex(20))
    _log_in(server)
    yield server
    server.faults.clear()
    server.come_back()
    unknown = set(server.unknown_operations()) - _allowed(request.node, server)
    if unknown:
        pytest.fail(
            f"the W&B dev server was asked for what it does not know: {sorted(unknown)}. Mark the test with"
            f" @pytest.mark.{_MARKER} if that is right.",
            pytrace=False,
        )


@pytest.fixture
def wandb_conn_id(pytestconfig: pytest.Config) -> str:
    """The id of the connection; override it, or set ``wandb_conn_id`` in the configuration file."""
    return str(pytestconfig.getini("wandb_conn_id"))


@pytest.fixture
def wandb_connection(
    wandb_server: DevServer, wandb_conn_id: str, monkeypatch: pytest.MonkeyPatch
) -> DevConnection:
    """An Airflow connection to the server, which Airflow finds in the environment."""
    entity = wandb_server.entity
    document = {
        "conn_type": "wandb",
        "host": wandb_server.url,
        "password": wandb_server.api_key,
        "extra": {"entity": entity},
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{wandb_conn_id.upper()}", json.dumps(document))
    return DevConnection(wandb_conn_id, wandb_server.url, wandb_server.api_key, entity)


@pytest.fixture
def wandb_faults(wandb_server: DevServer) -> Faults:
    """What shall go wrong in this test: ``delay``, ``fail`` or ``cut`` the answers to the next requests."""
    return wandb_server.faults


def _log_in(server: DevServer) -> None:
    # The SDK keeps the first key that it finds for a host; the key of an earlier test is no longer valid.
    wandb = sys.modules.get("wandb")
    if wandb is not None:
        wandb.login(key=server.api_key, host=server.url, relogin=True, verify=False)


def _allowed(item: pytest.Item, server: DevServer) -> set[str]:
    names: set[str] = set()
    for marker in item.iter_markers(_MARKER):
        names |= set(marker.args) or set(server.unknown_operations())
    return names
