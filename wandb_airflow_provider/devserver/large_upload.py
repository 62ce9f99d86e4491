"""
The body of a large upload, read from its connection by a thread.

An event loop that receives, parses and hands over each piece takes several times as long, and answers others late.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

from starlette.requests import ClientDisconnect, Request

from wandb_airflow_provider.devserver.blobs import BlobWriter
from wandb_airflow_provider.devserver.endpoint import exchange_of

# Below it the two threads cost more than they save.
LEAST_BYTES = 4 << 20
MOST_AT_ONCE = 8
_SECONDS_BETWEEN_CHECKS = 0.25

TransportOf = Callable[[tuple[str, int]], asyncio.Transport | None]


class LargeUploads:
    """
    Takes large request bodies off the event loop, a few at a time; slow clients beyond these keep nobody waiting.

    :param transport_of: Returns the connection of a client, named by its address and port, or None if it is gone.
    """

    def __init__(self, transport_of: TransportOf) -> None:
        self._transport_of = transport_of
        self._under_way = 0

    async def store(self, request: Request, writer: BlobWriter) -> bool:
        """
        Write the body of a request if it is large; False, with nothing done, leaves it to the event loop.

        The HTTP server does not see the end of such a body: the connection is closed after the answer.

        :raises ClientDisconnect: the client went away before its end, or the server closed the connection.
        """
        length = _announced(request)
        transport = self._transport_of(tuple(request.scope["client"])) if length >= LEAST_BYTES else None
        if transport is None or self._under_way >= MOST_AT_ONCE:
            return False
        message = await request.receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        # What follows is read from the connection itself: nothing may be awaited before the loop is kept from it.
        transport.pause_reading()
        exchange_of(request).closes = True
        writer.write(message["body"])
        self._under_way += 1
        try:
            await _read(transport, length - len(message["body"]), writer)
        finally:
            self._under_way -= 1
        return True


async def _read(transport: asyncio.Transport, left: int, writer: BlobWriter) -> None:
    # One thread reads and writes, the other hashes. Both are waited for: the file must not be closed under them.
    with closing(_Source(transport)) as source, ThreadPoolExecutor(2, "wandb-devserver-upload") as threads:
        try:
            await asyncio.wrap_future(threads.submit(writer.fill, source.read, left, threads))
        finally:
            source.end()


class _Source:
    """A connection as a thread reads it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        # A handle of its own: the loop may close the other one at any time.
        self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        self._socket.settimeout(_SECONDS_BETWEEN_CHECKS)

    def read(self, into: memoryview) -> None:
        """Fill a buffer, or raise ClientDisconnect."""
        while into:
            try:
                size = self._socket.recv_into(into)
            except TimeoutError:
                size = -1
            except OSError as error:
                raise ClientDisconnect from error
            if size == 0 or self._transport.is_closing():
                raise ClientDisconnect
            into = into[max(size, 0) :]

    def end(self) -> None:
        """Let a read under way return at once; what the loop writes still arrives."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Give up the handle."""
        self._socket.close()


def _announced(request: Request) -> int:
    if "transfer-encoding" in request.headers:
        return 0
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0
