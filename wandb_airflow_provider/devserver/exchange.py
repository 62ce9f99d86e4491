"""
One request and its answer: what the audit log says of it, and what a fault does to it.

It wraps the whole application, because only there is the answer seen as it goes out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wandb_airflow_provider.devserver.audit import Excerpt, RecordedRequest, mask_text, valid_text
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.faults import Fault
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.store import GENERATION, LateRequestError

CONTROL_PREFIX = "/_control"
# A quota that never runs out: the SDK slows down by what remains of one.
RATE_LIMIT_HEADERS = {
    "RateLimit-Limit": "1000000",
    "RateLimit-Remaining": "1000000",
    "RateLimit-Reset": "60",
}
_NO_ANSWER = 0
_WITHOUT_BODY = (204, 304)

Hangup = Callable[[tuple[str, int]], None]


class InjectedFailure(GraphQLError):
    """An answer that a fault asked for."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message, fault.status)
        after = fault.retry_after
        self.headers = {} if after is None else {"Retry-After": f"{after:g}"}


class Exchange:
    """
    A request under way.

    :param method: Its HTTP method.
    :param operation: The GraphQL operation, once it is known.
    :param variables: The variables of that operation, once they are known.
    :param body: The JSON body of another request, once it is known.
    :param error: What it was refused with, once it is known.
    :param closes: Whether the answer is the last on its connection.
    """

    def __init__(self, backend: Backend, scope: Scope) -> None:
        self._backend = backend
        self.method, self._path = str(scope["method"]), str(scope["path"])
        self._started = time.perf_counter()
        self._generation = backend.store.generation
        self._audited = False
        self.operation = ""
        self.variables: Mapping[str, Any] = {}
        self.body: Any = None
        self.error: str | None = None
        self.status = _NO_ANSWER
        self.cut: Fault | None = None
        self.closes = False

    @property
    def audited(self) -> bool:
        """Tell whether the audit log is to have it."""
        return self._audited

    @property
    def late(self) -> bool:
        """Tell whether the server has been reset since the request began."""
        return self._generation != self._backend.store.generation

    def audit(self) -> None:
        """Ask for a record of this exchange: called for what clients ask, not for pages and controls."""
        self._audited = True

    async def meet_fault(self) -> None:
        """
        Let the oldest fault that fits this request happen.

        :raises InjectedFailure: it asks for an error.
        """
        fault = self._backend.faults.take(self.operation, self.method, self._path)
        if fault is None:
            return
        if fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        elif fault.kind == "cut":
            self.cut = fault
        else:
            raise InjectedFailure(fault)

    def leave_out(self) -> None:
        """Make no record of a request that turned out to be from before a reset; it is counted apart."""
        if self._audited:
            self._audited = False
            self._backend.count_late_request()

    def record(self, failure: str | None = None) -> None:
        """
        Put the exchange into the audit log, once.

        :param failure: How its connection ended, where the answer did not arrive whole.
        """
        if not self._audited:
            return
        if self.late:
            self.leave_out()
            return
        self._audited = False
        excerpt, error = Excerpt(), failure or self.error
        self._backend.requests.add(
            RecordedRequest(
                operation=excerpt.of(str(self.operation)),
                path=mask_text(self._path),
                method=self.method,
                status=self.status,
                variables=excerpt.of(self.variables),
                error=None if error is None else valid_text(error),
                body=excerpt.of(self.body),
                seconds=time.perf_counter() - self._started,
                at=self._backend.now(),
            ),
            excerpt.size,
        )


class Exchanges:
    """
    The application around which every request goes.

    :param hangup: Closes the connection of a client, named by its address and port.
    """

    def __init__(self, app: ASGIApp, backend: Backend, hangup: Hangup) -> None:
        self._app = app
        self._backend = backend
        self._hangup = hangup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = scope["exchange"] = Exchange(self._backend, scope)
        if scope["path"].startswith(f"{CONTROL_PREFIX}/"):
            # A control may reset the server and then write.
            await self._app(scope, receive, send)
            return
        GENERATION.set(self._backend.store.generation)
        if self._backend.is_late(Headers(scope=scope).get("authorization")):
            self._backend.count_late_request()
            error = LateRequestError(401)
            answer = JSONResponse({"errors": [{"message": error.message}], "error": error.message}, 401)
            await answer(scope, receive, send)
            return
        sender = _Sender(exchange, send, lambda: self._close(scope, receive))
        try:
            await self._app(scope, receive, sender)
            await sender.finish()
        finally:
            exchange.record("the client went away before the answer was sent.")

    async def _close(self, scope: Scope, receive: Receive) -> None:
        self._hangup(tuple(scope["client"]))
        # Returning earlier would make the HTTP server complain about an answer without an end.
        while (await receive())["type"] != "http.disconnect":
            pass


class _Sender:
    """Sends an answer: with the rate limit's headers, recorded before its end, and cut where a fault says so."""

    def __init__(self, exchange: Exchange, send: Send, close: Callable[[], Awaitable[None]]) -> None:
        self._exchange = exchange
        self._send = send
        self._close = close
        self._left: int | None = None
        self._is_cut = False

    async def __call__(self, message: Message) -> None:
        if self._is_cut:
            return
        if message["type"] == "http.response.start":
            await self._start(message)
        elif message["type"] == "http.response.body":
            await self._body(message)
        else:
            await self._send(message)

    async def finish(self) -> None:
        """Close the connection of an answer that was cut."""
        if self._is_cut:
            await self._close()

    async def _start(self, message: Message) -> None:
        self._exchange.status = message["status"]
        headers = MutableHeaders(scope=message)
        if self._exchange.audited:
            headers.update(RATE_LIMIT_HEADERS)
        if self._exchange.closes:
            headers["Connection"] = "close"
        length, cut = headers.get("content-length"), self._exchange.cut
        if cut is not None:
            self._left = _bytes_until(cut.after_bytes, length)
            if self._left is None:
                self._stop()
                return
        if self._is_whole(message["status"], length):
            self._exchange.record()
        await self._send(message)

    async def _body(self, message: Message) -> None:
        last = not message.get("more_body", False)
        if self._left is not None:
            piece = message.get("body", b"")
            if len(piece) > self._left or last:
                await self._send({**message, "body": piece[: self._left], "more_body": True})
                self._stop()
                return
            self._left -= len(piece)
        if last:
            # Before it is sent: who has the answer finds the record.
            self._exchange.record()
        await self._send(message)

    def _is_whole(self, status: int, length: str | None) -> bool:
        """Tell whether the headers alone make a client have the whole answer."""
        return length == "0" or status in _WITHOUT_BODY or self._exchange.method == "HEAD"

    def _stop(self) -> None:
        self._is_cut = True
        self._exchange.record("the connection was cut within the answer, as a fault asked for.")


def _bytes_until(after_bytes: int | None, length: str | None) -> int | None:
    """Return how much of a body is sent before the cut, never all of it; None if there is no answer at all."""
    if after_bytes is None or length == "0":
        return None
    return after_bytes if length is None else min(after_bytes, int(length) - 1)
