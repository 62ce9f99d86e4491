"""The HTTP server on its address: it serves, closes single connections, goes away and comes back."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import uvicorn
from starlette.types import ASGIApp

_REBIND_SECONDS = 5.0
_FINISH_SECONDS = 1.5
_CANCEL_SECONDS = 3


def bind(host: str, port: int) -> socket.socket:
    """
    Return a socket that listens on an address.

    :param port: 0 for any free one.
    :raises OSError: the address cannot be bound.
    """
    bound = _bind(host, port)
    try:
        bound.listen(2048)
    except OSError:
        bound.close()
        raise
    return bound


class Listener(uvicorn.Server):
    """
    Serves an application on one address, until :attr:`should_exit` is set.

    :param started: Called in the server's loop once requests are answered.
    """

    def __init__(self, app: ASGIApp, started: Callable[[], Awaitable[None]]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                # The address of a client decides what it may control, so that no header may change it.
                proxy_headers=False,
                timeout_graceful_shutdown=_CANCEL_SECONDS,
                timeout_keep_alive=75,
            )
        )
        self.ready = threading.Event()
        self._on_started = started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Future[None] | None = None
        self._address: tuple[str, int] = ("", 0)
        self._reserved: socket.socket | None = None

    def run_on(self, listening: socket.socket) -> None:
        """Serve on a listening socket; returns when the server has stopped."""
        self._address = listening.getsockname()[:2]
        try:
            with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
                runner.run(self.serve(sockets=[listening]))
        finally:
            self.ready.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer requests."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.ready.set()
        self._task = asyncio.ensure_future(self._on_started())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop answering requests."""
        if self._reserved is not None:
            self._reserved.close()
        # Whoever is still sending or reading then learns it from the connection, rather than from a task cut off.
        asyncio.get_running_loop().call_later(_FINISH_SECONDS, self._close_connections)
        await super().shutdown(sockets)

    @property
    def away(self) -> bool:
        """Tell whether connections are refused."""
        return self._reserved is not None

    def close_connection(self, client: tuple[str, int]) -> None:
        """Close the connection of a client, once what was sent so far is out; for the server's own loop."""
        transport = self.transport_of(client)
        if transport is not None:
            transport.close()

    def transport_of(self, client: tuple[str, int]) -> asyncio.Transport | None:
        """Return the connection of a client, or None if it is gone; for the server's own loop."""
        for connection in list(self.server_state.connections):
            if connection.transport.get_extra_info("peername")[:2] == client:
                return connection.transport
        return None

    async def go_away(self) -> None:
        """
        Refuse connections and close those there are, in the middle of their answers if need be.

        The port stays reserved. Requests under way finish what they write, but nobody learns of it.
        """
        if self._reserved is not None:
            return
        for server in self.servers:
            server.close()
        self.servers = []
        self._close_connections()
        end = asyncio.get_running_loop().time() + _REBIND_SECONDS
        while True:
            try:
                self._reserved = _bind(*self._address)
                return
            except OSError:
                # The loop closes a listening socket a little later than it is told to.
                if asyncio.get_running_loop().time() > end:
                    raise
            await asyncio.sleep(0.005)

    async def come_back(self) -> None:
        """Listen on the same port again."""
        if self._reserved is not None:
            reserved, self._reserved = self._reserved, None
            await super().startup(sockets=[reserved])

    def _close_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.close()

    def from_outside(self, change: Callable[[], Awaitable[None]]) -> None:
        """Run :meth:`go_away` or :meth:`come_back` from another thread, and wait for it."""
        if self._loop is None:
            raise RuntimeError("the dev server is not running: call start() first")
        asyncio.run_coroutine_threadsafe(_call(change), self._loop).result(2 * _REBIND_SECONDS)


async def _call(change: Callable[[], Awaitable[None]]) -> None:
    await change()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that say TCP; with it each answer takes 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
