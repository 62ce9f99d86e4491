from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import wandb

from wandb_airflow_provider.devserver import DevServer, DevServerError, queries

OpenRun = Callable[..., wandb.Run]


def ask(server: DevServer, document: str, **payload: Any) -> httpx.Response:
    return httpx.post(
        f"{server.url}/graphql", json={"query": document, **payload}, auth=("api", server.api_key), timeout=30
    )


@pytest.fixture
def own(tmp_path: Path) -> Iterator[DevServer]:
    """A server of the test's own, which it may ask anything."""
    with DevServer(tmp_path / "data") as running:
        yield running


def test_unknown_operation_is_named_with_the_nearest_that_exist(
    own: DevServer, caplog: pytest.LogCaptureFixture
) -> None:
    refused = ask(own, "query FetchThing { projekt(name: 1) { id } }")
    message = refused.json()["errors"][0]["message"]
    assert refused.status_code == 400
    assert "'projekt' (operation 'FetchThing')" in message
    assert "project" in message
    assert own.unknown_operations() == {"FetchThing.projekt": 1}
    assert own.requests("FetchThing")[0].error == message
    ask(own, "query FetchThing { projekt(name: 2) { id } }")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [message]


def test_unknown_field_is_null_and_reported(own: DevServer) -> None:
    assert ask(own, "{ viewer { shoeSize } }").json() == {"data": {"viewer": {"shoeSize": None}}}
    assert own.unknown_fields() == {"User.shoeSize": 1}


def test_unknown_path_is_refused_and_reported(own: DevServer) -> None:
    assert httpx.get(f"{own.url}/nowhere").status_code == 404
    httpx.post(f"{own.url}/storage/secret.token")
    assert own.unknown_operations() == {"GET /nowhere": 1, "POST /storage/***": 1}


@pytest.mark.parametrize("body", [b"not json", b"[]", b'{"query": 3}', b'{"query": "{ viewer"}'])
def test_wrong_body_is_refused_with_400(own: DevServer, body: bytes) -> None:
    answer = httpx.post(f"{own.url}/graphql", content=body, auth=("api", own.api_key))
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"]


def test_requests_are_recorded_without_secrets(own: DevServer) -> None:
    ask(own, "query Me($apiKey: String, $x: Int) { viewer { id } }", variables={"apiKey": "hush", "x": 1})
    (record,) = own.requests("Me")
    assert (record.method, record.path, record.status, record.error) == ("POST", "/graphql", 200, None)
    assert record.variables == {"apiKey": "***", "x": 1}
    assert own.requests() == [record]


def test_reset_drops_everything_but_keeps_serving(own: DevServer, open_run: OpenRun, project: str) -> None:
    open_run(url=own.url).finish()
    own.add_account("more")
    own.reset()

    assert queries.list_projects(own.backend, "local") == []
    assert own.requests() == []
    assert ask(own, "{ users { edges { node { username } } } }").json()["data"]["users"]["edges"] == [
        {"node": {"username": "dev"}}
    ]
    open_run(url=own.url).finish()
    assert len(queries.list_runs(own.backend, "local", project)) == 1


def test_restart_on_the_same_data_keeps_runs_history_files_and_links(
    open_run: OpenRun, project: str, tmp_path: Path
) -> None:
    data = tmp_path / "kept"
    with DevServer(data, seed="same") as first:
        run = open_run(url=first.url, config={"lr": 0.1})
        for step in range(3):
            run.log({"loss": step})
        run.finish()
        port = int(first.url.rsplit(":", 1)[1])
    with DevServer(data, port=port, seed="same") as second:
        found = wandb.Api(overrides={"base_url": second.url}, api_key=second.api_key).run(
            f"local/{project}/{run.id}"
        )
        assert (found.state, found.config) == ("finished", {"lr": 0.1})
        assert [row["loss"] for row in found.scan_history()] == [0, 1, 2]
        assert httpx.get(found.file("config.yaml").direct_url).status_code == 200
        again = open_run(url=second.url)
        again.finish()
        assert again.name != run.name


def test_data_of_another_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with DevServer(tmp_path / "data") as server:
        server.backend.store.set_meta("schema", "older")
    with pytest.raises(DevServerError, match="written by another version of the dev server"):
        DevServer(tmp_path / "data").start()


def test_data_serves_one_server_at_a_time_and_the_next_one_after_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    second = DevServer(data)
    with DevServer(data) as first:
        for _ in range(2):
            with pytest.raises(DevServerError, match="another dev server is running on the data in"):
                second.start()
        assert httpx.get(f"{first.url}/ready").text == "ok"
    for _ in range(2):
        with second:
            assert httpx.get(f"{second.url}/ready").text == "ok"
    with DevServer(data) as third:
        third.backend.store.set_meta("schema", "older")
    for _ in range(2):
        # A start that failed holds nothing.
        with pytest.raises(DevServerError, match="written by another version"):
            DevServer(data).start()


def test_process_forked_from_a_killed_server_does_not_hold_its_data(tmp_path: Path) -> None:
    script = (
        "import os, sys; from wandb_airflow_provider.devserver import DevServer; DevServer(sys.argv[1]).start();"
        "child = os.fork(); child and print(child, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "data")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        with pytest.raises(DevServerError, match="another dev server is running"):
            DevServer(tmp_path / "data").start()
        process.kill()
        process.wait(timeout=10)
        os.kill(child, 0)
        with DevServer(tmp_path / "data") as server:
            assert httpx.get(f"{server.url}/ready").text == "ok"
        os.kill(child, 0)
        # The end of its input ends the child.


def test_run_without_heartbeat_for_five_minutes_has_crashed_until_it_speaks_again(tmp_path: Path) -> None:
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]
    with DevServer(tmp_path / "data", now=lambda: clock[0]) as server:
        ask(server, 'mutation U { upsertBucket(input: {modelName: "p", name: "r"}) { inserted } }')

        def states() -> tuple[str, int]:
            answer = ask(
                server,
                'query S { project(name: "p") { run(name: "r") { state }'
                ' runCount(filters: "{\\"state\\": \\"crashed\\"}") } }',
            ).json()["data"]["project"]
            return answer["run"]["state"], answer["runCount"]

        assert states() == ("running", 0)
        clock[0] += timedelta(seconds=299)
        assert states() == ("running", 0)
        clock[0] += timedelta(seconds=2)
        assert states() == ("crashed", 1)
        record = queries.get_run(server.backend, "local", "p", "r")
        assert record is not None
        assert record.state == "crashed"
        stream = f"{server.url}/files/local/p/r/file_stream"
        assert httpx.post(stream, json={}, auth=("api", server.api_key)).status_code == 200
        assert states() == ("running", 0)


def test_taken_port_is_an_error_at_start(own: DevServer) -> None:
    port = int(own.url.rsplit(":", 1)[1])
    with pytest.raises(DevServerError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
        DevServer(port=port).start()


def test_stopping_frees_the_port_and_removes_temporary_data() -> None:
    before = threading.active_count()
    server = DevServer().start()
    port, folder = int(server.url.rsplit(":", 1)[1]), server.data_dir
    assert folder.is_dir()
    server.stop()
    server.stop()
    assert not folder.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert threading.active_count() <= before
    with pytest.raises(RuntimeError, match="not running"):
        server.requests()


def test_many_writers_at_once_lose_nothing(own: DevServer) -> None:
    def write(client: httpx.Client, name: str) -> None:
        document = f'mutation U {{ upsertBucket(input: {{modelName: "p", name: "{name}"}}) {{ inserted }} }}'
        client.post("/graphql", json={"query": document}).raise_for_status()
        for offset in range(20):
            chunk = {"wandb-history.jsonl": {"offset": offset, "content": [f'{{"_step":{offset}}}']}}
            client.post(f"/files/local/p/{name}/file_stream", json={"files": chunk}).raise_for_status()

    with (
        httpx.Client(base_url=own.url, auth=("api", own.api_key), timeout=30) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        list(threads.map(write, [client] * 8, [f"r{number}" for number in range(8)]))
    runs = queries.list_runs(own.backend, "local", "p")
    assert len(runs) == 8
    assert all(len(queries.get_history(own.backend, run)) == 20 for run in runs)


def test_server_imports_neither_wandb_nor_airflow() -> None:
    script = (
        "import sys, wandb_airflow_provider.devserver.server as s; s.load_resolvers();"
        "bad = {'wandb', 'airflow', 'numpy', 'pandas'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
