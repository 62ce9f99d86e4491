"""When an answer is in the audit log: before a client can have the whole of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.exchange import Exchanges

ANSWERS = {
    "no content": ("PUT", Response(status_code=200), "http.response.start"),
    "no body by its status": ("PUT", Response(status_code=204), "http.response.start"),
    "headers alone": ("HEAD", Response("text"), "http.response.start"),
    "text": ("GET", Response("text"), "http.response.body"),
    "pieces": ("GET", StreamingResponse(iter([b"a", b"b"])), "http.response.body"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """A server whose log the tests of this module share."""
    data: Path = tmp_path_factory.mktemp("own") / "data"
    with DevServer(data) as running:
        yield running


@pytest.mark.parametrize(("method", "answer", "last"), ANSWERS.values(), ids=list(ANSWERS))
def test_record_is_there_before_the_answer_is_whole(
    own: DevServer, method: str, answer: Response, last: str
) -> None:
    path = f"/answers/{id(answer)}"
    sent: list[tuple[str, int]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["exchange"].audit()
        await answer(scope, receive, send)

    async def receive() -> Message:
        return await asyncio.Future()

    async def send(message: Message) -> None:
        sent.append((message["type"], len(own.requests(path=path))))

    scope = {"type": "http", "method": method, "path": path, "headers": [], "client": ("127.0.0.1", 1)}
    asyncio.run(Exchanges(app, own.backend, lambda _: None)(scope, receive, send))

    assert next(kind for kind, count in sent if count) == last
    assert sent[-1][1] == 1
