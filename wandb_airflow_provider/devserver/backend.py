"""What one dev server consists of, apart from HTTP: storage, clock, ids, and what it has been asked."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from wandb_airflow_provider.devserver import auth
from wandb_airflow_provider.devserver.auth import Account
from wandb_airflow_provider.devserver.blobs import BlobStore
from wandb_airflow_provider.devserver.graphql.registry import RequestContext
from wandb_airflow_provider.devserver.graphql.unknown import UnknownNames
from wandb_airflow_provider.devserver.ids import IdSource
from wandb_airflow_provider.devserver.store import Store
from wandb_airflow_provider.devserver.uploads import UrlSigner

_KEPT_REQUESTS = 5000
_KEPT_CHARACTERS = 20_000
_SECRET_WORDS = ("api_key", "apikey", "password", "secret", "token", "authorization")


@dataclass(frozen=True)
class RecordedRequest:
    """
    One request that the server has answered.

    :param operation: The GraphQL operation's name; empty for other requests.
    :param variables: Its variables, with secrets masked and long text cut.
    :param error: The message it was refused with, or None.
    """

    operation: str
    path: str
    method: str
    status: int
    variables: Mapping[str, Any]
    error: str | None = None


class RequestLog:
    """The latest requests, at most 5000."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[RecordedRequest] = deque(maxlen=_KEPT_REQUESTS)

    def add(
        self,
        method: str,
        path: str,
        status: int,
        operation: str = "",
        variables: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """Record a request."""
        record = RecordedRequest(operation, path, method, status, _masked(variables or {}), error)
        with self._lock:
            self._requests.append(record)

    def all(self, operation: str | None = None) -> list[RecordedRequest]:
        """Return the requests in order, of one GraphQL operation if it is named."""
        with self._lock:
            return [item for item in self._requests if operation is None or item.operation == operation]

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._requests.clear()


class Backend:
    """
    The parts of one server, over its data folder.

    :param data_dir: Where the database and the files are; created if it does not exist.
    :param api_key: The key of the default user.
    :param teams: Team entities of the default user, besides the default one.
    :param seed: Seed of random ids; None for ids that differ each time.
    :param now: The clock; returns aware UTC times.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        api_key: str,
        teams: tuple[str, ...],
        seed: str | None,
        now: Callable[[], datetime],
    ) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.now = now
        self.api_key = api_key
        self.teams = teams
        self.store = Store(data_dir / "devserver.sqlite")
        self.blobs = BlobStore(data_dir / "blobs")
        self.signer = UrlSigner.of(self.store)
        self.requests = RequestLog()
        self.unknown = UnknownNames()
        # Ids of an earlier start on the same data must not come again.
        starts = int(self.store.get_meta("starts") or 0) + 1
        self.store.set_meta("starts", str(starts))
        self.ids = IdSource(f"{secrets.token_hex(8) if seed is None else seed}:{starts}")
        self._seed()

    def context(self, user: Account, base_url: str, operation: str = "") -> RequestContext:
        """Return what the resolvers of one request get."""
        return RequestContext(
            store=self.store,
            blobs=self.blobs,
            user=user,
            base_url=base_url,
            ids=self.ids,
            now=self.now,
            signer=self.signer,
            operation=operation,
        )

    def reset(self) -> None:
        """Drop all data, accounts that were added, and the record of requests."""
        self.store.clear()
        self.blobs.clear()
        self.requests.clear()
        self.unknown.clear()
        self._seed()

    def close(self) -> None:
        """Close the database."""
        self.store.close()

    def _seed(self) -> None:
        now = self.now().isoformat()
        with self.store.write() as conn:
            self.store.seed(now)
            for team in self.teams:
                auth.add_member(conn, auth.DEFAULT_USER, team, now)
            auth.remove_keys(conn, auth.DEFAULT_USER)
            auth.set_key(conn, auth.DEFAULT_USER, self.api_key)


def _masked(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _masked(item, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, key) for item in value]
    if value is not None and any(word in key.lower() for word in _SECRET_WORDS):
        return "***"
    if isinstance(value, str) and len(value) > _KEPT_CHARACTERS:
        return value[:_KEPT_CHARACTERS]
    return value
