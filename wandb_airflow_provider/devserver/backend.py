"""What one dev server consists of, apart from HTTP: storage, clock, ids, and what it has been asked."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from wandb_airflow_provider.devserver import api_keys, auth
from wandb_airflow_provider.devserver.audit import RequestLog
from wandb_airflow_provider.devserver.auth import Account
from wandb_airflow_provider.devserver.automations.author import ACTING_USER
from wandb_airflow_provider.devserver.automations.worker import AutomationWorker
from wandb_airflow_provider.devserver.blobs import BlobStore
from wandb_airflow_provider.devserver.clock import Clock, checked_time
from wandb_airflow_provider.devserver.faults import Faults
from wandb_airflow_provider.devserver.graphql.registry import RequestContext
from wandb_airflow_provider.devserver.graphql.unknown import UnknownNames
from wandb_airflow_provider.devserver.ids import IdSource
from wandb_airflow_provider.devserver.store import Store
from wandb_airflow_provider.devserver.uploads import UrlSigner

# Where a seed stops the clock, unless told otherwise.
SEED_TIME = datetime(2026, 1, 1, tzinfo=UTC)


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
        self.now = Clock(now)
        self.api_key = api_key
        self.teams = teams
        self.store = Store(data_dir / "devserver.sqlite")
        self.blobs = BlobStore(data_dir / "blobs")
        self.signer = UrlSigner.of(self.store)
        self.requests = RequestLog()
        self.unknown = UnknownNames()
        self.faults = Faults()
        self.late_requests = 0
        self._counting = threading.Lock()
        self._dropped_keys: set[str] = set()
        # Ids of an earlier start on the same data must not come again.
        starts = int(self.store.get_meta("starts") or 0) + 1
        self.store.set_meta("starts", str(starts))
        self.ids = IdSource(f"{secrets.token_hex(8) if seed is None else seed}:{starts}")
        self._seed()
        self.automations = AutomationWorker(self.store, self.now)
        self.automations.start()

    def context(self, user: Account, base_url: str, operation: str = "") -> RequestContext:
        """Return what the resolvers of one request get."""
        ACTING_USER.set(user.username)
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

    def reset(self, api_key: str | None = None) -> None:
        """
        Drop all data, added accounts, faults and the record of requests; the clock returns to its source.

        Ids go on rather than start again. What requests from before still write is refused, as are the URLs that
        they were given.

        :param api_key: A new key for the default user: requests with the old one are then refused, and left out of
            the record.
        """
        self.api_key = api_key or self.api_key
        self._start_over(frozen_at=None)

    def seed(self, seed: str, at: datetime = SEED_TIME) -> None:
        """
        Reset, so that equal requests get equal ids and times from here on: the clock stands until it is moved.

        :param at: Where the clock stands.
        :raises ValueError: the clock cannot be set to that time; nothing has changed then.
        """
        frozen_at = checked_time(at)
        self.ids.reseed(seed)
        self._start_over(frozen_at)

    def _start_over(self, frozen_at: datetime | None) -> None:
        with self.store.read() as conn:
            dropped = api_keys.digests(conn)
        self.store.clear()
        self.blobs.clear()
        self.faults.clear()
        self.now.reset()
        if frozen_at is not None:
            self.now.freeze(frozen_at)
        self._seed()
        with self.store.read() as conn:
            kept = api_keys.digests(conn)
        with self._counting:
            self._dropped_keys = (self._dropped_keys | dropped) - kept
            self.late_requests = 0
        self.requests.clear()
        self.unknown.clear()

    def is_late(self, authorization: str | None) -> bool:
        """Tell whether a request carries a key that a reset has dropped and nobody has added again."""
        if not self._dropped_keys:
            return False
        digest = auth.sent_digest(authorization)
        if digest not in self._dropped_keys:
            return False
        with self.store.read() as conn:
            return digest not in api_keys.digests(conn)

    def count_late_request(self) -> None:
        """Note one request from before the last reset."""
        with self._counting:
            self.late_requests += 1

    def close(self) -> None:
        """End the work in the background and close the database."""
        self.automations.stop()
        self.store.close()

    def _seed(self) -> None:
        now = self.now().isoformat()
        with self.store.write() as conn:
            self.store.seed(now)
            for team in self.teams:
                auth.add_member(conn, auth.DEFAULT_USER, team, now)
            api_keys.replace_start_key(conn, auth.DEFAULT_USER, self.api_key)
