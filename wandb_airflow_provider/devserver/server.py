"""The dev server as an object: start it, use it, stop it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import uvicorn

from wandb_airflow_provider.devserver import auth
from wandb_airflow_provider.devserver.app import create_app, warm_up
from wandb_airflow_provider.devserver.auth import DEFAULT_API_KEY
from wandb_airflow_provider.devserver.backend import Backend, RecordedRequest
from wandb_airflow_provider.devserver.resolvers import load_resolvers
from wandb_airflow_provider.devserver.store import StoreVersionError

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class DevServerError(RuntimeError):
    """The dev server cannot start."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DevServer:
    """
    A local W&B-compatible server for development and tests, in a thread of this process.

    It answers the wandb SDK over HTTP; it is not W&B, and nothing that it does proves what W&B would do. Usable
    as a context manager.

    :param data_dir: Where it keeps its data; the same folder serves the same data again. By default a temporary
        folder, removed when the server stops.
    :param host: Address to bind.
    :param port: Port to bind; 0 means a free one.
    :param api_key: The key of the default user. The SDK accepts 40 characters, or more.
    :param teams: Team entities that the default user belongs to, besides ``local``.
    :param seed: Seed of the random ids; None gives different ids each time.
    :param now: The clock, returning aware times. A run whose heartbeat is more than five minutes old by this clock
        has crashed.
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = DEFAULT_API_KEY,
        teams: Sequence[str] = (),
        seed: str | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.api_key = api_key
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="wandb-devserver-") if data_dir is None else data_dir)
        self._host, self._port = host, port
        self._teams, self._seed, self._now = tuple(teams), seed, now
        self._backend: Backend | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end; known once the server has started."""
        return f"http://{self._host}:{self._port}"

    @property
    def backend(self) -> Backend:
        """
        The parts behind HTTP, for reading what is stored.

        :raises RuntimeError: the server is not running.
        """
        if self._backend is None:
            raise RuntimeError("the dev server is not running: call start() first")
        return self._backend

    def start(self) -> DevServer:
        """
        Bind, serve in a thread, and return once requests are answered.

        :raises DevServerError: the address cannot be bound or the data cannot be opened.
        """
        if self._thread is not None:
            raise RuntimeError(f"the dev server is already running at {self.url}")
        listener = self._bind()
        try:
            load_resolvers()
            self._backend = Backend(
                self.data_dir, api_key=self.api_key, teams=self._teams, seed=self._seed, now=self._now
            )
            config = uvicorn.Config(
                create_app(self._backend),
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=2,
                timeout_keep_alive=75,
            )
            self._server = _Server(config)
        except StoreVersionError as error:
            listener.close()
            raise DevServerError(str(error)) from error
        except BaseException:
            listener.close()
            raise
        self._thread = threading.Thread(
            target=self._serve, args=(self._server, listener), name="wandb-devserver", daemon=True
        )
        self._thread.start()
        if not self._server.ready.wait(_START_SECONDS) or not self._thread.is_alive():
            self.stop()
            raise DevServerError(
                f"the dev server did not answer at {self.url} within {_START_SECONDS:g} seconds"
            )
        return self

    def stop(self) -> None:
        """Stop serving and close the data; a temporary data folder is removed. Does nothing if not running."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_SECONDS)
        self._server = self._thread = None
        if self._backend is not None:
            self._backend.close()
            self._backend = None
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def __enter__(self) -> DevServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def requests(self, op: str | None = None) -> list[RecordedRequest]:
        """Return the latest requests in order, of one GraphQL operation if ``op`` names it."""
        return self.backend.requests.all(op)

    def unknown_fields(self) -> dict[str, int]:
        """Return how often each ``Type.field`` that the server does not know was asked for (and was null)."""
        return self.backend.unknown.fields()

    def unknown_operations(self) -> dict[str, int]:
        """Return how often each root field or path that the server does not know was asked for (and refused)."""
        return self.backend.unknown.operations()

    def reset(self) -> None:
        """Drop all data, added accounts and recorded requests."""
        self.backend.reset()

    def add_account(
        self,
        username: str,
        *,
        role: str = "member",
        teams: Sequence[str] = (),
        expires_at: datetime | None = None,
    ) -> str:
        """
        Create an account and return an API key for it.

        :param role: ``admin``, ``member`` or ``read-only``.
        :param teams: Its team entities, created if needed; the first is its default entity.
        :param expires_at: When the key stops being valid.
        """
        backend = self.backend
        key = backend.ids.token(40)
        with backend.store.write() as conn:
            auth.add_account(conn, username, role=role, teams=teams, now=backend.now().isoformat())
            auth.set_key(conn, username, key, expires_at.isoformat() if expires_at else None)
        return key

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # asyncio turns Nagle's algorithm off only for sockets that say TCP; with it each answer takes 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._port))
            listener.listen(2048)
        except OSError as error:
            listener.close()
            raise DevServerError(
                f"the dev server cannot listen on {self._host}:{self._port}: {error.strerror or error}. Choose another"
                " port, or 0 for any free one."
            ) from error
        self._port = listener.getsockname()[1]
        return listener

    @staticmethod
    def _serve(server: _Server, listener: socket.socket) -> None:
        try:
            with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
                runner.run(server.serve(sockets=[listener]))
        finally:
            server.ready.set()


class _Server(uvicorn.Server):
    """Says when requests are answered, and imports the rest from then on."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._warm_up: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
        self._warm_up = asyncio.create_task(warm_up())
