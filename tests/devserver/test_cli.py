from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.cli import main


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, with what it printed once it served."""
    command = [sys.executable, "-m", "wandb_airflow_provider.devserver.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "Ctrl-C" in line:
                break
        try:
            yield process, "".join(printed)
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_says_how_to_use_it_and_stops_cleanly(tmp_path: Path, number: int) -> None:
    with serving("--port", "0", "--data", str(tmp_path / "data"), "--team", "acme") as (process, printed):
        exports = dict(re.findall(r"export (\w+)='?([^'\n]+)", printed))
        assert exports["WANDB_ENTITY"] == "acme"
        answer = httpx.post(
            f"{exports['WANDB_BASE_URL']}/graphql",
            json={"query": "{ viewer { username teams { edges { node { name } } } } }"},
            auth=("api", exports["WANDB_API_KEY"]),
        )
        teams = [edge["node"]["name"] for edge in answer.json()["data"]["viewer"]["teams"]["edges"]]
        assert teams == ["local", "acme"]
        process.send_signal(number)
        rest, errors = process.communicate(timeout=10)
        assert (process.returncode, rest, errors) == (0, "The dev server has stopped.\n", "")


def test_no_other_thread_takes_a_signal_from_the_one_that_waits_for_it(tmp_path: Path) -> None:
    with serving("--port", "0", "--data", str(tmp_path)) as (process, _):
        others = [
            task for task in Path(f"/proc/{process.pid}/task").iterdir() if task.name != str(process.pid)
        ]
        statuses = [(task / "status").read_text() for task in others]
    blocked = [int(re.findall(r"SigBlk:\s(\w+)", status)[0], 16) for status in statuses]
    assert blocked
    for number in (signal.SIGINT, signal.SIGTERM):
        assert all(mask >> (number - 1) & 1 for mask in blocked)


@pytest.mark.slow
def test_printed_connection_is_understood_by_airflow(tmp_path: Path) -> None:
    with serving("--port", "0", "--data", str(tmp_path)) as (_, printed):
        exports = dict(re.findall(r"export (\w+)='?([^'\n]+)", printed))
    script = (
        "import json; from airflow.sdk import Connection; c = Connection.from_uri(input(), conn_id='w');"
        "print(json.dumps([c.conn_type, f'{c.schema}://{c.host}:{c.port}', c.password, c.extra_dejson]))"
    )
    read = subprocess.run(
        [sys.executable, "-c", script],
        input=exports["AIRFLOW_CONN_WANDB_DEFAULT"],
        env={**os.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    url, key = exports["WANDB_BASE_URL"], exports["WANDB_API_KEY"]
    assert json.loads(read.stdout.splitlines()[-1]) == ["wandb", url, key, {"entity": "local"}]


def test_taken_port_is_one_sentence_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DevServer() as server:
        port = server.url.rsplit(":", 1)[1]
        assert main(["--port", port, "--data", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in said.err


def test_second_server_on_the_same_data_is_one_sentence_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    with serving("--port", "0", "--data", str(data)) as (process, _):
        arriving = data / "blobs" / "incoming" / "upload-under-way"
        arriving.write_bytes(b"half of it")
        assert main(["--port", "0", "--data", str(data)]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err == (
            f"wandb-airflow devserver: another dev server is running on the data in {str(data)!r}: stop it, or choose"
            " another folder.\n"
        )
        assert arriving.read_bytes() == b"half of it", "what the first one receives is left alone"
        process.kill()
        process.wait(timeout=10)
    with serving("--port", "0", "--data", str(data)) as (_, printed):
        assert str(data) in printed
        assert not arriving.exists()


def test_address_that_others_can_reach_is_refused_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path)]) == 1
    assert "--allow-remote" in capsys.readouterr().err
    with serving("--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path), "--allow-remote") as (
        _,
        printed,
    ):
        key = re.search(r"API key: +(\w+)", printed)
        assert key is not None
        assert len(key[1]) == 40
        assert not key[1].startswith("devserver")


def test_a_given_key_is_the_only_one_and_is_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "given-" + "k" * 40
    monkeypatch.setenv("WANDB_DEVSERVER_API_KEY", key)
    with serving("--port", "0", "--data", str(tmp_path)) as (_, printed):
        assert key not in printed
        url = re.findall(r"export WANDB_BASE_URL=(\S+)", printed)[0]
        assert "export WANDB_API_KEY=$WANDB_DEVSERVER_API_KEY" in printed
        for used, status in ((key, 200), ("k" * 40, 401)):
            answer = httpx.post(
                f"{url}/graphql", json={"query": "{ viewer { username } }"}, auth=("api", used)
            )
            assert answer.status_code == status


def test_a_given_key_that_the_sdk_would_not_take_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_DEVSERVER_API_KEY", "too-short")
    assert main(["--port", "0"]) == 1
    assert "WANDB_DEVSERVER_API_KEY has 9 characters" in capsys.readouterr().err
