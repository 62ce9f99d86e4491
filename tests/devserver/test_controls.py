"""Controls and faults, in Python and over HTTP: plain requests show what each does, the SDK that it survives them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import wandb

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.audit import KEPT_CHARACTERS, KEPT_REQUESTS, RecordedRequest, RequestLog
from wandb_airflow_provider.devserver.clock import Clock
from wandb_airflow_provider.devserver.queries import RunRecord

OpenRun = Callable[..., wandb.Run]
VIEWER = "query Me { viewer { username } }"
NEW_RUN = 'mutation U($name: String) { upsertBucket(input: {modelName: "p", name: $name}) { bucket { id createdAt } } }'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with DevServer(tmp_path_factory.mktemp("controlled")) as running:
        yield running


@pytest.fixture
def own(shared: DevServer) -> DevServer:
    """A server that the test may break, empty."""
    shared.reset()
    return shared


@pytest.fixture
def client(own: DevServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=own.url, auth=("api", own.api_key), timeout=30) as client:
        yield client


@pytest.fixture
def control(own: DevServer) -> Iterator[httpx.Client]:
    """A client without a key, as controls on loopback need none."""
    with httpx.Client(base_url=f"{own.url}/_control/", timeout=30) as client:
        yield client


def ask(client: httpx.Client, document: str = VIEWER, **variables: Any) -> httpx.Response:
    return client.post("/graphql", json={"query": document, "variables": variables})


def make_run(client: httpx.Client, name: str) -> dict[str, Any]:
    bucket: dict[str, Any] = (
        ask(client, NEW_RUN, name=name).raise_for_status().json()["data"]["upsertBucket"]["bucket"]
    )
    return bucket


def upload_url(client: httpx.Client, name: str) -> str:
    """Return a signed URL for a file of the run ``r``."""
    document = (
        'mutation F($files: [String!]!) { createRunFiles(entityName: "local", projectName: "p", runName: "r",'
        " files: $files) { files { uploadUrl } } }"
    )
    made: str = ask(client, document, files=[name]).json()["data"]["createRunFiles"]["files"][0]["uploadUrl"]
    return made


def download_url(client: httpx.Client, content: bytes) -> str:
    """Store a file of the run ``r``, and return the signed URL that leads to it."""
    httpx.put(upload_url(client, "big.bin"), content=content).raise_for_status()
    document = (
        'query D { project(name: "p") { run(name: "r") { files(names: ["big.bin"])'
        " { edges { node { directUrl } } } } } }"
    )
    found: str = ask(client, document).json()["data"]["project"]["run"]["files"]["edges"][0]["node"][
        "directUrl"
    ]
    return found


def read_until_cut(url: str) -> bytes:
    received = bytearray()
    with httpx.stream("GET", url) as answer:
        try:
            for piece in answer.iter_raw():
                received += piece
        except httpx.RemoteProtocolError:
            return bytes(received)
    raise AssertionError(f"the answer was whole: {len(received)} bytes")


def test_clock_stops_moves_on_and_goes_on_without_a_jump() -> None:
    real = [datetime(2026, 5, 1, tzinfo=UTC)]
    clock = Clock(lambda: real[0])
    assert clock.advance(10) == real[0] + timedelta(seconds=10)
    stopped = clock.freeze()
    real[0] += timedelta(hours=1)
    assert clock() == stopped
    assert clock.advance(5) == stopped + timedelta(seconds=5)
    assert clock.unfreeze() == stopped + timedelta(seconds=5)
    real[0] += timedelta(seconds=1)
    assert clock() == stopped + timedelta(seconds=6)
    with pytest.raises(ValueError, match="can only be moved on"):
        clock.advance(-1)
    clock.reset()
    assert clock() == real[0]


def test_moving_the_clock_on_crashes_silent_runs_and_ends_keys_and_urls(
    own: DevServer, client: httpx.Client, control: httpx.Client
) -> None:
    make_run(client, "r")
    url = download_url(client, b"x")
    soon = own.clock() + timedelta(seconds=600)
    key = own.add_account("brief", teams=("local",), expires_at=soon)
    assert httpx.get(url).status_code == 200
    assert own.runs("p")[0].state == "running"

    assert control.post("freeze", json={"at": "2031-01-01T00:00:00Z"}).json() == {
        "now": "2031-01-01T00:00:00+00:00",
        "frozen": True,
    }
    assert own.runs("p")[0].state == "crashed"
    assert httpx.get(url).status_code == 403
    refused = httpx.post(f"{own.url}/graphql", json={"query": VIEWER}, auth=("api", key))
    assert refused.status_code == 401
    assert "expired" in refused.json()["error"]

    client.post("/files/local/p/r/file_stream", json={}).raise_for_status()
    assert own.runs("p")[0].state == "running"
    assert control.post("advance", json={"seconds": 299}).status_code == 200
    assert own.runs("p")[0].state == "running"
    own.clock.advance(2)
    assert own.runs("p")[0].state == "crashed"
    assert control.post("unfreeze").json()["frozen"] is False
    control.post("reset").raise_for_status()
    assert abs((own.clock() - datetime.now(UTC)).total_seconds()) < 60


def test_seed_gives_equal_requests_equal_ids_and_times(
    own: DevServer, client: httpx.Client, control: httpx.Client
) -> None:
    def story() -> list[RunRecord]:
        for name in ("a", "b"):
            make_run(client, name)
            own.clock.advance(1)
        return own.runs("p")

    own.seed("s1")
    first = story()
    assert [run.created_at.second for run in first] == [0, 1]
    control.post("seed", json={"seed": "s2"}).raise_for_status()
    assert [run.display_name for run in story()] != [run.display_name for run in first]
    control.post("seed", json={"seed": "s1", "at": "2026-01-01T00:00:00Z"}).raise_for_status()
    assert own.runs("p") == []
    assert story() == first


def test_failures_meet_the_next_calls_of_an_operation_in_the_order_they_were_added(
    own: DevServer, client: httpx.Client, control: httpx.Client
) -> None:
    made = control.post(
        "fail", json={"op": "Me", "status": 429, "retry_after": 2, "message": "too fast", "times": 2}
    )
    assert made.json() == {
        "kind": "fail",
        "op": "Me",
        "path": None,
        "method": None,
        "left": 2,
        "met": 0,
        "status": 429,
        "message": "too fast",
        "retry_after": 2,
    }
    later = own.faults.fail(200, op="Me", message="not today")
    assert ask(client, "query Other { viewer { id } }").status_code == 200

    answers = [ask(client) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 429, 200, 200]
    assert [answer.headers.get("retry-after") for answer in answers] == ["2", "2", None, None]
    assert answers[0].json()["errors"] == [{"message": "too fast"}]
    assert answers[2].json() == {"data": None, "errors": [{"message": "not today"}], "error": "not today"}
    assert answers[3].json() == {"data": {"viewer": {"username": "dev"}}}
    assert later.met == 1
    assert own.faults.waiting() == []
    assert [(record.status, record.error) for record in own.requests("Me")] == [
        (429, "too fast"),
        (429, "too fast"),
        (200, "not today"),
        (200, None),
    ]


def test_failed_call_has_changed_nothing_and_a_cut_one_has(own: DevServer, client: httpx.Client) -> None:
    own.faults.fail(503, op="U")
    assert ask(client, NEW_RUN, name="refused").status_code == 503
    assert own.runs("p") == []
    own.faults.cut(20, op="U")
    with pytest.raises(httpx.RemoteProtocolError):
        ask(client, NEW_RUN, name="stored")
    assert [run.name for run in own.runs("p")] == ["stored"]
    assert own.requests("U")[-1].error == "the connection was cut within the answer, as a fault asked for."


def test_faults_by_path_and_method_tell_uploads_downloads_and_streams_apart(
    own: DevServer, client: httpx.Client, control: httpx.Client
) -> None:
    make_run(client, "r")
    content = bytes(range(256)) * 20_000
    url = download_url(client, content)
    stream = "/files/local/p/r/file_stream"

    control.post("fail", json={"path": "*/file_stream", "status": 500}).raise_for_status()
    own.faults.fail(503, path="/storage/*", method="put")
    own.faults.cut(1_000_000, path="/storage/*", method="GET")
    own.faults.delay(0.3, path=stream)

    assert read_until_cut(url) == content[:1_000_000]
    assert httpx.get(url).content == content
    assert client.post(stream, json={}).status_code == 500
    start = time.monotonic()
    assert client.post(stream, json={}).status_code == 200
    assert time.monotonic() - start >= 0.3
    assert own.requests(path=stream)[-1].seconds >= 0.3
    assert [fault.as_json() for fault in own.faults.waiting()] == control.get("state").json()["faults"]
    assert [fault.method for fault in own.faults.waiting()] == ["PUT"]
    assert control.delete("faults").json() == {"faults": []}
    assert not own.faults


def test_cut_reaches_answers_without_a_body_and_never_sends_the_last_byte(
    own: DevServer, client: httpx.Client
) -> None:
    make_run(client, "r")
    own.faults.cut(op="Me")
    own.faults.cut(0, op="Me")
    own.faults.cut(10**9, op="Me")
    for _ in range(3):
        with pytest.raises(httpx.RemoteProtocolError):
            ask(client)
    own.faults.cut(path="/storage/*")
    with pytest.raises(httpx.RemoteProtocolError):
        download_url(client, b"content")


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("fail", {"status": 99}, "status must be"),
        ("fail", {"status": "503"}, "wrong type"),
        ("fail", {"sttus": 503}, "does not take ['sttus']"),
        ("fail", {"op": "A", "path": "/b"}, "not for both"),
        ("fail", {"times": 0}, "times must be"),
        ("delay", {}, "needs 'seconds'"),
        ("delay", {"seconds": -1}, "seconds must be"),
        ("cut", {"after_bytes": -1}, "after_bytes must be"),
        ("advance", {"seconds": -1}, "only be moved on"),
        ("advance", {"seconds": True}, "wrong type"),
        ("freeze", {"at": "yesterday"}, "Invalid isoformat"),
        ("away", {"seconds": 1e9}, "seconds must be"),
        ("seed", {}, "needs 'seed'"),
        ("revoke", {"key": "unknown"}, "does not know that key"),
        ("nothing", {}, "there is no control POST /_control/nothing"),
        ("reset", [], "must be a JSON object"),
    ],
)
def test_wrong_control_is_refused_with_what_is_wrong(
    control: httpx.Client, name: str, body: Any, said: str
) -> None:
    answer = control.post(name, json=body)
    assert answer.status_code in (400, 404)
    assert said in answer.json()["error"]


def test_keys_are_revoked_and_expired(own: DevServer, client: httpx.Client, control: httpx.Client) -> None:
    first, second = (own.add_account(name, teams=("local",)) for name in ("one", "two"))

    def status(key: str) -> tuple[int, str]:
        answer = httpx.post(f"{own.url}/graphql", json={"query": VIEWER}, auth=("api", key))
        return answer.status_code, answer.json().get("error", "")

    assert status(first)[0] == status(second)[0] == 200
    own.revoke_key(first)
    assert status(first)[0] == 401
    assert "does not know it" in status(first)[1]
    assert control.post("expire", json={"key": second}).json() == {"changed": 1}
    assert status(second)[0] == 401
    assert "expired" in status(second)[1]
    with pytest.raises(ValueError, match="does not know that key"):
        own.revoke_key(first)


def test_requests_are_told_over_http_without_their_secrets(
    own: DevServer, client: httpx.Client, control: httpx.Client
) -> None:
    make_run(client, "r")
    url = download_url(client, b"content")
    httpx.get(url)
    config = json.dumps({"openai_api_key": {"value": "hush-1"}, "lr": {"value": 1}})
    document = (
        "mutation C($config: JSONString, $webhookSecret: String) {"
        ' upsertBucket(input: {modelName: "p", name: "r", config: $config}) { inserted } }'
    )
    ask(client, document, config=config, webhookSecret="hush-2", header="Bearer hush-3-abcdef")
    lines = [json.dumps({"_step": step, "text": "x" * 1000}) for step in range(200)]
    body = {"apiKey": "hush-4", "files": {"wandb-history.jsonl": {"offset": 0, "content": lines}}}
    client.post("/files/local/p/r/file_stream", json=body).raise_for_status()

    told = control.get("requests", params={"op": "C"}).json()
    assert told["count"] == 1
    assert told["requests"][0]["variables"]["webhookSecret"] == "***"
    assert json.loads(told["requests"][0]["variables"]["config"])["lr"] == {"value": 1}
    everything = control.get("requests").text
    assert "hush" not in everything
    assert url.split("/storage/")[1].split("/")[0] not in everything
    assert own.api_key not in everything
    (stream,) = own.requests(path="*/file_stream", method="post")
    assert stream.body["apiKey"] == "***"
    kept = stream.body["files"]["wandb-history.jsonl"]["content"]
    assert kept[0] == lines[0]
    assert kept[-1] == "…"
    assert len(json.dumps(stream.body)) < 20_000
    assert [record.path for record in own.requests(path="/storage/*")] == [
        "/storage/***",
        "/storage/***/big.bin",
    ]
    counts = own.request_counts()
    assert (counts["U"], counts["C"], counts["PUT /storage"], counts["POST /files"]) == (1, 1, 1, 1)
    assert control.get("state").json()["requests"] == counts


def test_record_of_requests_is_bounded_and_the_counts_go_on() -> None:
    log = RequestLog()
    for number in range(KEPT_REQUESTS + 10):
        log.add(RecordedRequest("Q", "/graphql", "POST", 200, {"number": number}), 10)
    assert len(log.all("Q")) == KEPT_REQUESTS
    assert log.all()[0].variables == {"number": 10}
    for _ in range(3):
        log.add(RecordedRequest("Big", "/graphql", "POST", 200, {}), KEPT_CHARACTERS // 2)
    assert [record.operation for record in log.all()] == ["Big", "Big"]
    assert log.counts() == {"Q": KEPT_REQUESTS + 10, "Big": 3}


def test_answers_tell_a_rate_limit_that_never_runs_out(own: DevServer, client: httpx.Client) -> None:
    headers = ask(client).headers
    assert float(headers["ratelimit-remaining"]) / float(headers["ratelimit-reset"]) > 1000
    assert headers["ratelimit-limit"] == headers["ratelimit-remaining"]


def test_controls_are_refused_to_other_machines_and_web_pages(tmp_path: Path, own: DevServer) -> None:
    state = f"{own.url}/_control/state"
    assert httpx.get(state, headers={"Origin": own.url}).status_code == 200
    assert httpx.get(state, headers={"Origin": "http://elsewhere.example"}).status_code == 403
    assert httpx.get(state, headers={"Host": "rebound.example"}).status_code == 403
    with DevServer(tmp_path, host="0.0.0.0", api_key="k" * 40, allow_remote=True) as open_to_all:
        member = open_to_all.add_account("member", teams=("local",))
        url = f"http://127.0.0.1:{open_to_all.url.rsplit(':', 1)[1]}/_control/state"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, auth=("api", member)).status_code == 403
        assert httpx.get(url, auth=("api", "k" * 40)).status_code == 200


def test_server_goes_away_and_comes_back_on_its_port_with_everything_acknowledged(
    own: DevServer, client: httpx.Client, control: httpx.Client
) -> None:
    make_run(client, "before")
    own.faults.delay(30, op="Me")
    url = own.url
    with own.away():
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/ready")
        with pytest.raises(httpx.TransportError):
            ask(client)
        own.go_away()
    own.come_back()
    assert own.url == url
    assert [run.name for run in own.runs("p")] == ["before"]
    own.faults.clear()
    assert ask(client).status_code == 200

    assert control.post("away", json={"seconds": 3}).status_code == 202
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/ready")
    deadline = time.monotonic() + 20
    with httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=10)) as patient:
        assert patient.get("/ready").status_code == 200
    assert time.monotonic() < deadline
    assert make_run(client, "after")["id"]


@pytest.mark.slow
def test_sdk_survives_a_rate_limit_a_cut_answer_and_a_server_that_was_away(
    own: DevServer, open_run: OpenRun, project: str
) -> None:
    own.faults.fail(429, op="UpsertBucket", retry_after=0.1)
    lost = own.faults.cut(path="/storage/*", method="PUT")
    patience = {
        f"x_{part}_retry_wait_min_seconds": 0.05 for part in ("graphql", "file_stream", "file_transfer")
    }
    run = open_run(url=own.url, api_key=own.api_key, settings=patience)
    assert [record.status for record in own.requests("UpsertBucket")][:2] == [429, 200]
    fault = own.faults.fail(500, path="*/file_stream")
    for step in range(50):
        run.log({"loss": step})
    with own.away():
        for step in range(50, 100):
            run.log({"loss": step})
    run.finish()
    assert fault.met == lost.met == 1
    (stored,) = own.runs(project)
    assert (stored.state, stored.summary["loss"]) == ("finished", 99)


def test_nothing_that_a_client_from_before_a_reset_sends_is_stored_or_recorded(
    own: DevServer, open_run: OpenRun, project: str
) -> None:
    old_key = own.api_key
    late = open_run(url=own.url, api_key=old_key)
    late.log({"loss": 1})
    with httpx.Client(base_url=own.url, auth=("api", old_key), timeout=30) as client:
        make_run(client, "r")
        upload = upload_url(client, "f")
        own.reset(api_key="n" * 40)
        assert own.api_key == "n" * 40
        late.log({"loss": 2})
        late.finish()
        refused = ask(client, NEW_RUN, name="late")
        assert refused.status_code == 401
        assert "has been reset since" in refused.json()["error"]
        assert httpx.put(upload, content=b"late").status_code == 403
    assert own.runs(project) == own.runs("p") == []
    assert own.requests() == []
    assert own.backend.late_requests >= 3


def test_request_under_way_during_a_reset_writes_nothing(own: DevServer, client: httpx.Client) -> None:
    make_run(client, "r")
    upload = urlsplit(upload_url(client, "f"))
    assert upload.hostname is not None
    with socket.create_connection((upload.hostname, upload.port or 0), timeout=30) as connection:
        head = f"PUT {upload.path} HTTP/1.1\r\nHost: {upload.netloc}\r\nContent-Length: 4\r\n"
        connection.sendall(f"{head}Connection: close\r\nExpect: 100-continue\r\n\r\n".encode())
        # The server asks for the body once it has found the URL to be valid.
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")
        own.reset()
        connection.sendall(b"late")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"has been reset since" in answer
    assert own.requests() == []
    assert own.backend.late_requests == 1
