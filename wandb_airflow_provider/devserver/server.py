"""The dev server as an object: start it, use it, control it, stop it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from wandb_airflow_provider.devserver import api_keys, queries
from wandb_airflow_provider.devserver.administration import Administration
from wandb_airflow_provider.devserver.app import create_app, warm_up
from wandb_airflow_provider.devserver.audit import RecordedRequest
from wandb_airflow_provider.devserver.auth import DEFAULT_API_KEY, DEFAULT_TEAM
from wandb_airflow_provider.devserver.automations.administration import AutomationAdministration
from wandb_airflow_provider.devserver.backend import SEED_TIME, Backend
from wandb_airflow_provider.devserver.clock import Clock
from wandb_airflow_provider.devserver.faults import Faults
from wandb_airflow_provider.devserver.folder_lock import FolderInUseError, FolderLock
from wandb_airflow_provider.devserver.listener import Listener, bind
from wandb_airflow_provider.devserver.loopback import is_loopback
from wandb_airflow_provider.devserver.resolvers import load_resolvers
from wandb_airflow_provider.devserver.store import StoreVersionError

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class DevServerError(RuntimeError):
    """The dev server cannot start."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DevServer(Administration, AutomationAdministration):
    """
    A local W&B-compatible server for development and tests, in a thread of this process.

    It answers the wandb SDK over HTTP; it is not W&B, and nothing that it does proves what W&B would do. Usable
    as a context manager.

    :param data_dir: Where it keeps its data; the same folder serves the same data again. By default a temporary
        folder, removed when the server stops.
    :param host: Address to bind; one that other machines can reach only with ``allow_remote``.
    :param port: Port to bind; 0 means a free one.
    :param api_key: The key of the default user. The SDK accepts 40 characters, or more. A server that other machines
        can reach generates one instead of the well-known default.
    :param teams: Team entities that the default user belongs to, besides ``local``.
    :param seed: Seed of the random ids; None gives different ids each time.
    :param now: The source of its clock, returning aware times. A run whose heartbeat is more than five minutes old
        by that clock has crashed.
    :param allow_remote: Allow a host that other machines can reach. Every request then needs a key, those for pages
        and controls an administrator's.
    :raises ValueError: other machines can reach the host, and that was not allowed.
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
        allow_remote: bool = False,
    ) -> None:
        remote = not is_loopback(host)
        if remote and not allow_remote:
            raise ValueError(
                f"other machines can reach {host!r}: the dev server listens there only with allow_remote=True"
            )
        self.api_key = api_keys.new_secret() if remote and api_key == DEFAULT_API_KEY else api_key
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="wandb-devserver-") if data_dir is None else data_dir)
        self._host, self._port = host, port
        self._teams, self._seed, self._now = tuple(teams), seed, now
        self._lock: FolderLock | None = None
        self._backend: Backend | None = None
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end; known once the server has started."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def entity(self) -> str:
        """The entity to work in: the first of the teams, else ``local``."""
        return (*self._teams, DEFAULT_TEAM)[0]

    @property
    def backend(self) -> Backend:  # type: ignore[override] # it exists only while the server runs
        """
        The parts behind HTTP, for reading what is stored.

        :raises RuntimeError: the server is not running.
        """
        if self._backend is None:
            raise RuntimeError("the dev server is not running: call start() first")
        return self._backend

    @property
    def clock(self) -> Clock:
        """What all times on the server go by: ``freeze``, ``advance`` and ``unfreeze`` it."""
        return self.backend.now

    @property
    def faults(self) -> Faults:
        """What shall go wrong: ``delay``, ``fail`` or ``cut`` the answers to the next requests."""
        return self.backend.faults

    def start(self) -> DevServer:
        """
        Bind, serve in a thread, and return once requests are answered.

        :raises DevServerError: the address cannot be bound, or the data cannot be opened or is in use.
        """
        if self._thread is not None:
            raise RuntimeError(f"the dev server is already running at {self.url}")
        try:
            listening = bind(self._host, self._port)
        except OSError as error:
            raise DevServerError(
                f"the dev server cannot listen on {self._host}:{self._port}: {error.strerror or error}. Choose another"
                " port, or 0 for any free one."
            ) from error
        self._port = listening.getsockname()[1]
        try:
            load_resolvers()
            self._lock = FolderLock(self.data_dir)
            self._backend = Backend(
                self.data_dir, api_key=self.api_key, teams=self._teams, seed=self._seed, now=self._now
            )
            app = create_app(
                self._backend,
                hangup=lambda client: listener.close_connection(client),
                transport_of=lambda client: listener.transport_of(client),
            )
            app.state.loopback = is_loopback(self._host)
            app.state.away = self._away_for
            self._listener = listener = Listener(app, started=warm_up)
        except (StoreVersionError, FolderInUseError) as error:
            listening.close()
            self._unlock()
            raise DevServerError(str(error)) from error
        except BaseException:
            listening.close()
            self._unlock()
            raise
        self._thread = threading.Thread(
            target=listener.run_on, args=(listening,), name="wandb-devserver", daemon=True
        )
        self._thread.start()
        if not listener.ready.wait(_START_SECONDS) or not self._thread.is_alive():
            self.stop()
            raise DevServerError(
                f"the dev server did not answer at {self.url} within {_START_SECONDS:g} seconds"
            )
        return self

    def stop(self) -> None:
        """Stop serving and close the data; a temporary data folder is removed. Does nothing if not running."""
        if self._listener is not None and self._thread is not None:
            self._listener.should_exit = True
            self._thread.join(_STOP_SECONDS)
        self._listener = self._thread = None
        if self._backend is not None:
            self._backend.close()
            self._backend = None
        self._unlock()
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def __enter__(self) -> DevServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def requests(
        self, op: str | None = None, *, path: str | None = None, method: str | None = None
    ) -> list[RecordedRequest]:
        """
        Return the latest requests in order, at most 5,000, or those of them that fit every filter given.

        Requests for pages and controls, telemetry and probes are not among them.

        :param op: Name of a GraphQL operation.
        :param path: Pattern for the path, in which ``*`` also stands for slashes.
        """
        return self.backend.requests.all(op, path=path, method=method)

    def request_counts(self) -> dict[str, int]:
        """Return how many requests there were of each operation, or of each ``METHOD /first-part-of-path``."""
        return self.backend.requests.counts()

    def unknown_fields(self) -> dict[str, int]:
        """Return how often each ``Type.field`` that the server does not know was asked for (and was null)."""
        return self.backend.unknown.fields()

    def unknown_operations(self) -> dict[str, int]:
        """Return how often each root field or path that the server does not know was asked for (and refused)."""
        return self.backend.unknown.operations()

    def runs(self, project: str, entity: str | None = None) -> list[queries.RunRecord]:
        """Return the runs of a project as they are stored, oldest first; by default of :attr:`entity`."""
        return queries.list_runs(self.backend, entity or self.entity, project, order="+created_at")

    def reset(self, *, api_key: str | None = None) -> None:
        """
        Drop all data, added accounts, faults and recorded requests; the clock shows the real time again.

        :param api_key: A new key for the default user. Clients that go on with the old one are then refused and left
            out of the record: so a test is safe from what an earlier one left running.
        """
        self.backend.reset(api_key)
        self.api_key = self.backend.api_key

    def seed(self, seed: str, at: datetime = SEED_TIME) -> None:
        """
        Reset; from here on equal requests get equal ids and times.

        :param at: Where the clock stands until it is moved on.
        """
        self.backend.seed(seed, at)

    def go_away(self) -> None:
        """Close all connections, within answers if need be, and refuse new ones. The port stays reserved."""
        listener = self._running()
        listener.from_outside(listener.go_away)

    def come_back(self) -> None:
        """Accept connections again, with all that was acknowledged before."""
        listener = self._running()
        listener.from_outside(listener.come_back)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be away during a ``with`` block."""
        self.go_away()
        try:
            yield
        finally:
            self.come_back()

    def revoke_key(self, key: str) -> None:
        """Make an API key or access token invalid. Raises ValueError if it is not known."""
        with self.backend.store.write() as conn:
            _require_known(api_keys.revoke(conn, key))

    def expire_key(self, key: str) -> None:
        """Let an API key or access token expire now. Raises ValueError if it is not known."""
        with self.backend.store.write() as conn:
            _require_known(api_keys.expire(conn, key, self.backend.now()))

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _running(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("the dev server is not running: call start() first")
        return self._listener

    async def _away_for(self, seconds: float) -> None:
        listener = self._running()
        await listener.go_away()
        await asyncio.sleep(seconds)
        await listener.come_back()


def _require_known(known: bool) -> None:
    if not known:
        raise ValueError("the dev server does not know that key: it may have been revoked")
