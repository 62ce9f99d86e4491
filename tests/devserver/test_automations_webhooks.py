"""Delivery of webhooks: attempts, pauses between them, and what survives a restart."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from wandb.automations import OnRunState, RunEvent, SendWebhook

from tests.devserver.conftest import api_for
from tests.devserver.webhook_receiver import Receiver, receiving
from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.automations import administration
from wandb_airflow_provider.devserver.runs_table import insert_run


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@contextmanager
def watching(folder: Path, url: str, **options: Any) -> Iterator[DevServer]:
    """A server with an automation that posts to a URL when a run fails; its clock stands."""
    with DevServer(folder) as server:
        server.clock.freeze()
        api = api_for(server)
        api.create_project("lab", "local")
        hook = server.add_webhook_integration("hook", url, **options)
        event = OnRunState(scope=api.project("lab", "local"), filter=RunEvent.state == "failed")
        payload = {"key": "${ACCESS_TOKEN}", "run": "${event_type}"}
        api.create_automation(
            event >> SendWebhook(integration_id=hook, request_payload=payload), name="watch"
        )
        yield server


def fail_a_run(server: DevServer, name: str = "a") -> None:
    now = server.clock().isoformat(timespec="microseconds")
    values = {"display_name": name, "user": "dev", "state": "failed", "created_at": now, "heartbeat_at": now}
    with server.backend.store.write() as conn:
        insert_run(conn, "local", "lab", name, values)


def statuses(server: DevServer) -> list[int | None]:
    server.settle_automations()
    (delivery,) = server.webhook_deliveries()
    return [attempt.status for attempt in delivery.attempts]


def test_failing_receiver_is_tried_again_after_growing_pauses(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [500, 503, 200]
    with watching(tmp_path, receiver.url) as server:
        fail_a_run(server)
        assert statuses(server) == [500]
        (delivery,) = server.webhook_deliveries("watch")
        assert delivery.state == "PENDING"
        assert delivery.next_attempt_at is not None
        assert (delivery.next_attempt_at - server.clock()).total_seconds() == 1
        server.clock.advance(0.5)
        assert statuses(server) == [500]
        server.clock.advance(0.5)
        assert statuses(server) == [500, 503]
        server.clock.advance(1.9)
        assert statuses(server) == [500, 503]
        server.clock.advance(0.1)
        assert statuses(server) == [500, 503, 200]
        (delivery,) = server.webhook_deliveries()
        assert (delivery.state, delivery.next_attempt_at) == ("FINISHED", None)
        server.clock.advance(3600)
        assert statuses(server) == [500, 503, 200]
        assert len({request.body for request in receiver.requests}) == 1


def test_receiver_that_stays_down_is_given_up_after_five_attempts(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [502] * 9
    with watching(tmp_path, receiver.url) as server:
        fail_a_run(server)
        for _ in range(7):
            server.settle_automations()
            server.clock.advance(60)
        assert statuses(server) == [502] * 5
        assert server.webhook_deliveries()[0].state == "FAILED"


@pytest.mark.parametrize(
    ("status", "error"), [(400, "answered with 400"), (429, "429"), (307, "redirects are not followed")]
)
def test_refusal_is_final(tmp_path: Path, receiver: Receiver, status: int, error: str) -> None:
    receiver.answers = [status]
    with watching(tmp_path, receiver.url) as server:
        fail_a_run(server)
        assert statuses(server) == [status]
        (delivery,) = server.webhook_deliveries()
        assert delivery.state == "FAILED"
        assert error in (delivery.attempts[0].error or "")
        server.clock.advance(3600)
        assert statuses(server) == [status]
        assert [request.path for request in receiver.requests] == ["/"]


def test_delivery_goes_on_after_a_restart(tmp_path: Path) -> None:
    port = free_port()
    with watching(tmp_path, f"http://127.0.0.1:{port}") as server:
        fail_a_run(server)
        assert statuses(server) == [None]
        assert "ConnectError" in (server.webhook_deliveries()[0].attempts[0].error or "")
    with receiving(port) as receiver, DevServer(tmp_path) as server:
        server.clock.freeze()
        server.clock.advance(10)
        assert statuses(server) == [None, 200]
        assert len(receiver.requests) == 1
        fail_a_run(server, "b")
        server.settle_automations()
        assert len(receiver.requests) == 2


KILLED = """
import sys, time
from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.runs_table import insert_run
with DevServer(sys.argv[1]) as server:
    # Nothing may be evaluated before the process is killed.
    server.backend.automations.stop()
    now = server.clock().isoformat(timespec="microseconds")
    run = {"display_name": "a", "user": "dev", "state": "failed", "created_at": now, "heartbeat_at": now}
    with server.backend.store.write() as conn:
        insert_run(conn, "local", "lab", "a", run)
    print("written", flush=True)
    time.sleep(60)
"""


def test_event_of_a_killed_server_fires_once_after_the_next_start(tmp_path: Path, receiver: Receiver) -> None:
    with watching(tmp_path, receiver.url):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert receiver.requests == []
    for _ in range(2):
        with DevServer(tmp_path) as server:
            assert statuses(server) == [200]
    assert len(receiver.requests) == 1


def test_secrets_stay_out_of_what_is_shown(tmp_path: Path, receiver: Receiver) -> None:
    with watching(tmp_path, receiver.url, access_token="open-sesame", secret="hush") as server:
        fail_a_run(server)
        server.settle_automations()
        assert receiver.requests[0].payload == {"key": "open-sesame", "run": "RUN_STATE"}
        shown = administration.control_deliveries(server.backend, {})
        assert shown["webhooks"][0]["payload"] == {"key": "***", "run": "RUN_STATE"}
        assert "open-sesame" not in str(shown)
        assert "hush" not in str(shown)


def test_controls_register_and_tell(tmp_path: Path) -> None:
    with DevServer(tmp_path) as server, httpx.Client(base_url=f"{server.url}/_control/") as control:
        hook = control.post("webhook", json={"name": "a", "url": "http://127.0.0.1:1"}).json()["id"]
        slack = control.post("slack", json={"workspace": "w", "channel": "c"}).json()["id"]
        assert [item.id for item in api_for(server).webhook_integrations()] == [hook]
        assert [item.id for item in api_for(server).slack_integrations()] == [slack]
        assert control.post("settle", json={"timeout": 5}).json() == {"settled": True}
        assert control.get("deliveries").json() == {"webhooks": [], "slack": []}
        refused = control.post("webhook", json={"name": "a"})
        assert (refused.status_code, "needs 'url'" in refused.text) == (400, True)


def test_slow_receiver_holds_up_neither_logging_nor_stopping(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with watching(tmp_path, url) as server:
            fail_a_run(server)
            connection, _ = silent.accept()
            with connection:
                assert httpx.get(f"{server.url}/ready", timeout=5).status_code == 200
                with pytest.raises(TimeoutError):
                    server.settle_automations(0.1)
                server.stop()
    with DevServer(tmp_path) as server:
        assert server.webhook_deliveries()[0].state == "PENDING"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
