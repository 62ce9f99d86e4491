"""Bodies that a thread reads from the connection itself: whole, wrong, cut off, slow, and with every HTTP parser."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn.loops.auto
import uvicorn.protocols.http.auto
from uvicorn.loops.asyncio import asyncio_loop_factory
from uvicorn.protocols.http.h11_impl import H11Protocol

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.auth import find_account
from wandb_airflow_provider.devserver.large_upload import LEAST_BYTES, MOST_AT_ONCE
from wandb_airflow_provider.devserver.uploads import sign_upload

CONTENT = os.urandom(LEAST_BYTES + 1_234_567)
MD5 = hashlib.md5(CONTENT).hexdigest()
SECONDS = 20.0


@pytest.fixture(params=["as installed", "uvicorn alone"])
def own(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DevServer]:
    """A server of the test's own, with the parser and the event loop that uvicorn finds, or with those it brings."""
    if request.param == "uvicorn alone":
        monkeypatch.setattr(uvicorn.protocols.http.auto, "AutoHTTPProtocol", H11Protocol)
        monkeypatch.setattr(uvicorn.loops.auto, "auto_loop_factory", asyncio_loop_factory)
    with DevServer(tmp_path / "own") as server:
        yield server


@pytest.fixture
def url(own: DevServer) -> str:
    """An address that takes ``CONTENT`` as a file of an artifact."""
    with own.backend.store.read() as conn:
        user = find_account(conn, "dev")
    assert user is not None
    purpose = {"kind": "artifact-file", "artifact": "a", "name": "f", "md5": MD5}
    return sign_upload(own.backend.context(user, own.url), purpose)


@contextmanager
def begun(url: str, sent: bytes, *headers: str) -> Iterator[socket.socket]:
    """A connection on which a part of the body has been sent, or nothing yet."""
    address = urlsplit(url)
    lines = [
        f"PUT {address.path} HTTP/1.1",
        f"Host: {address.netloc}",
        f"Content-Length: {len(CONTENT)}",
        *headers,
    ]
    with socket.create_connection((str(address.hostname), int(address.port or 0)), SECONDS) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + sent)
        yield connection


def answer_on(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection; nothing where that is a reset."""
    try:
        return b"".join(iter(lambda: connection.recv(65536), b""))
    except ConnectionResetError:
        return b""


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def unfinished(server: DevServer) -> list[int]:
    """Sizes of the files that are being received."""
    return [path.stat().st_size for path in (server.data_dir / "blobs" / "incoming").iterdir()]


def test_large_body_is_stored_whole_and_the_connection_closed(own: DevServer, url: str) -> None:
    with httpx.Client() as client:
        for _ in range(3):
            answer = client.put(url, content=CONTENT)
            assert (answer.status_code, answer.headers["etag"]) == (200, f'"{MD5}"')
            assert answer.headers["connection"] == "close"
    assert own.backend.blobs.read(MD5) == CONTENT
    assert [(record.method, record.status) for record in own.requests(path="/storage/*")] == [
        ("PUT", 200)
    ] * 3
    assert unfinished(own) == []


def test_content_that_is_stored_stays_where_it_is_unless_a_part_of_it_is_missing(
    own: DevServer, url: str
) -> None:
    assert httpx.put(url, content=CONTENT).status_code == 200
    stored = own.backend.blobs.path(MD5)
    with stored.open("rb+") as first:
        assert httpx.put(url, content=CONTENT).status_code == 200
        assert os.path.samestat(stored.stat(), os.fstat(first.fileno()))
        first.truncate(LEAST_BYTES)
        assert httpx.put(url, content=CONTENT).status_code == 200
    assert own.backend.blobs.read(MD5) == CONTENT
    assert unfinished(own) == []


def test_large_body_with_another_digest_is_refused(own: DevServer, url: str) -> None:
    with httpx.Client() as client:
        answer = client.put(url, content=CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
        assert (answer.status_code, answer.headers["connection"]) == (400, "close")
        assert f"but {MD5} was announced" in answer.json()["error"]
        assert client.put(url, content=CONTENT).status_code == 200
    assert unfinished(own) == []


def test_large_body_of_unknown_length_is_stored_too(own: DevServer, url: str) -> None:
    pieces = (CONTENT[start : start + 100_000] for start in range(0, len(CONTENT), 100_000))
    answer = httpx.put(url, content=pieces)
    assert (answer.status_code, answer.headers.get("connection")) == (200, None)
    assert own.backend.blobs.read(MD5) == CONTENT


def test_client_that_waits_to_be_asked_for_a_large_body_is_asked(own: DevServer, url: str) -> None:
    with begun(url, b"", "Expect: 100-continue") as connection:
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(CONTENT)
        assert answer_on(connection).startswith(b"HTTP/1.1 200 OK\r\n")
    assert own.backend.blobs.read(MD5) == CONTENT


def test_large_body_cut_off_in_the_middle_leaves_nothing_behind(own: DevServer, url: str) -> None:
    with begun(url, CONTENT[:-1_000_000]):
        eventually(lambda: unfinished(own) != [])
    eventually(lambda: unfinished(own) == [])
    eventually(lambda: own.requests(path="/storage/*") != [])
    assert own.requests(path="/storage/*")[0].error == "the client went away before its request was complete."
    assert not own.backend.blobs.exists(MD5)


def test_slow_uploads_keep_nobody_waiting_however_many_they_are(own: DevServer, url: str) -> None:
    half = len(CONTENT) // 2
    count = MOST_AT_ONCE + 3
    with ExitStack() as open_ones:
        slow = [open_ones.enter_context(begun(url, CONTENT[:half])) for _ in range(count)]
        eventually(lambda: len(unfinished(own)) == count)
        assert httpx.put(url, content=CONTENT).status_code == 200
        for connection in slow:
            connection.sendall(CONTENT[half:])
        assert all(connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n") for connection in slow)
    eventually(lambda: unfinished(own) == [])


def test_server_that_goes_away_lets_go_of_a_large_body(own: DevServer, url: str) -> None:
    with begun(url, CONTENT[:-1]) as connection:
        eventually(lambda: unfinished(own) != [])
        own.go_away()
        assert answer_on(connection) == b""
        own.come_back()
        eventually(lambda: unfinished(own) == [])
    assert httpx.put(url, content=CONTENT).status_code == 200


@pytest.mark.slow
def test_server_stops_in_the_middle_of_a_large_body(own: DevServer, url: str) -> None:
    with begun(url, CONTENT[:-1]) as connection:
        eventually(lambda: unfinished(own) != [])
        own.stop()
        assert answer_on(connection) == b""
    assert unfinished(own) == []
    with own:
        assert not own.backend.blobs.exists(MD5)


def test_answer_to_a_large_body_can_be_cut(own: DevServer, url: str) -> None:
    own.faults.cut(path="/storage/*", method="PUT")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.put(url, content=CONTENT)
    assert own.backend.blobs.read(MD5) == CONTENT
    assert httpx.put(url, content=CONTENT).status_code == 200
