"""
The same flows with each supported version of the SDK, and what each version sends meanwhile.

``make contract`` builds the environments of the older SDKs and runs this. ``RECORD_SDK=1`` writes the recordings
instead of comparing with them: look at the difference before it is committed.
"""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract.arrangements import call_server
from tests.contract.left_out import LEFT_OUT
from tests.contract.sdk_process import SdkProcess
from wandb_airflow_provider.devserver import DevServer

_RECORDINGS = Path(__file__).parent / "sent"
# Sent by time or by the state of a cache, so that one flow sends them on one day and not on the next.
_BY_TIME = {"Heartbeat", "RunStoppedStatus", "ServerFeaturesQuery", "Viewer", "OrgFeatureFlags"}
_FLOWS = sorted(
    match.group(1)
    for module in (Path(__file__).parent / "flows").glob("*.py")
    for match in re.finditer(r"^@flow\ndef (\w+)", module.read_text(), re.MULTILINE)
)

Sent = dict[str, list[str]]


def test_every_flow_is_run(sdk: SdkProcess) -> None:
    assert sdk.flows == _FLOWS


@pytest.mark.parametrize("flow", _FLOWS)
def test_a_flow_works_and_sends_what_was_recorded(flow: str, sdk: SdkProcess, server: DevServer) -> None:
    unknown = server.unknown_operations()
    fields = server.unknown_fields()
    # The log keeps only the latest, which are fewer than all flows send.
    server.backend.requests.clear()

    error, left_out = sdk.run(
        flow,
        partial(call_server, server),
        url=server.url,
        api_key=server.api_key,
        entity="local",
        project=f"{flow.replace('_', '-')}-{sdk.version.replace('.', '-')}",
    )

    assert error is None, error
    assert left_out == LEFT_OUT.get(_minor(sdk), {}).get(flow, [])
    assert server.unknown_operations() == unknown
    null = {name for name, count in server.unknown_fields().items() if count > fields.get(name, 0)}
    sent = {**_sent(server.requests()), "answered_with_null": sorted(null)}
    if os.environ.get("RECORD_SDK"):
        _record(sdk.version, flow, sent)
    assert sent == _recorded(sdk.version).get(flow), (
        "RECORD_SDK=1 writes what was sent; look at the difference"
    )


def test_what_is_left_out_is_left_out_by_a_flow_of_an_sdk_that_is_recorded() -> None:
    minors = {path.stem.removeprefix("wandb-").rpartition(".")[0] for path in _RECORDINGS.glob("*.json")}
    assert set(LEFT_OUT) <= minors
    assert {flow for flows in LEFT_OUT.values() for flow in flows} <= set(_FLOWS)


def _sent(requests: list[Any]) -> dict[str, Any]:
    """Return GraphQL operations with the names of their variables, and the shapes of the other requests."""
    graphql: dict[str, set[str]] = {}
    http: set[str] = set()
    for request in requests:
        if request.operation and request.operation not in _BY_TIME:
            graphql.setdefault(request.operation, set()).update(request.variables or {})
        elif not request.operation and not request.path.startswith("/sdk/otel"):
            http.add(f"{request.method} {_shape(request.path)}")
    return {
        "graphql": {name: sorted(variables) for name, variables in sorted(graphql.items())},
        "http": _by_method(http),
    }


def _by_method(http: set[str]) -> Sent:
    methods: Sent = {}
    for line in sorted(http):
        method, path = line.split(" ", 1)
        methods.setdefault(method, []).append(path)
    return methods


def _shape(path: str) -> str:
    """Return the first part of a path, and its last where it says what is done."""
    parts = path.strip("/").split("/")
    return f"/{parts[0]}/…/{parts[-1]}" if parts[-1] == "file_stream" else f"/{parts[0]}"


def _minor(sdk: SdkProcess) -> str:
    return sdk.version.rpartition(".")[0]


def _file(version: str) -> Path:
    return _RECORDINGS / f"wandb-{version}.json"


def _recorded(version: str) -> dict[str, Any]:
    file = _file(version)
    assert file.exists(), f"nothing is recorded of wandb {version}: run `make contract-record`"
    recorded: dict[str, Any] = json.loads(file.read_text())
    return recorded


def _record(version: str, flow: str, sent: dict[str, Any]) -> None:
    file = _file(version)
    file.parent.mkdir(exist_ok=True)
    recorded = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**recorded, flow: sent}, indent=1, sort_keys=True) + "\n")
