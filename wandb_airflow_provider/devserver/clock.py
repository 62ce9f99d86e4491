"""The server's clock, which a test can stop and move on; times as they are stored and as the API tells them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
"""Between what times the clock can be set: with room on both sides for what is reckoned from it."""


class Clock:
    """
    What everything on the server that depends on time goes by: timestamps, heartbeats, expiry of keys and URLs.

    Calling it returns an aware time. Its state is in memory: it starts with the source, also after a restart.

    :param source: The time while nobody has stopped it or moved it on; returns aware times.
    """

    def __init__(self, source: Callable[[], datetime]) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._ahead = timedelta()
        self._stopped: datetime | None = None

    def __call__(self) -> datetime:
        with self._lock:
            return self._now()

    @property
    def frozen(self) -> bool:
        """Tell whether the clock stands."""
        return self._stopped is not None

    def freeze(self, at: datetime | None = None) -> datetime:
        """
        Stop at a time, by default now, and return it; a time without zone is UTC.

        :raises ValueError: the time is not between 1970 and 3000.
        """
        with self._lock:
            self._stopped = self._now() if at is None else checked_time(at)
            return self._stopped

    def advance(self, seconds: float) -> datetime:
        """
        Move on by some seconds, whether the clock stands or goes, and return the new time.

        :raises ValueError: the seconds are negative, as W&B's clock never goes back, or lead beyond the year 3000.
        """
        if not seconds >= 0:
            raise ValueError(
                f"the clock can only be moved on: {seconds!r} is not a number of seconds from 0 on"
            )
        with self._lock:
            now = self._now()
            if not seconds <= (LATEST - now).total_seconds():
                raise ValueError(
                    f"the clock cannot be moved on by {seconds!r} seconds: it ends with {LATEST:%Y}"
                )
            moved = timedelta(seconds=seconds)
            if self._stopped is None:
                self._ahead += moved
            else:
                self._stopped += moved
            return now + moved

    def unfreeze(self) -> datetime:
        """Go on from where the clock stands, without a jump, and return that time."""
        with self._lock:
            if self._stopped is not None:
                self._ahead = self._stopped - self._source()
                self._stopped = None
            return self._now()

    def reset(self) -> None:
        """Return to the time of the source."""
        with self._lock:
            self._ahead, self._stopped = timedelta(), None

    def _now(self) -> datetime:
        return self._source() + self._ahead if self._stopped is None else self._stopped


def checked_time(moment: datetime) -> datetime:
    """
    Return a time to which a clock may be set; without a zone it is UTC.

    :raises ValueError: it is not between 1970 and 3000.
    """
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not EARLIEST <= aware <= LATEST:
        raise ValueError(f"the clock can be set to times from {EARLIEST:%Y} to {LATEST:%Y}, not to {moment}")
    return aware


def stamp(moment: datetime) -> str:
    """Return the text under which a time is stored: UTC with microseconds, so that text sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def api_time(stored: str | None) -> str | None:
    """Return a stored time as the API tells it: UTC, whole seconds, with a Z."""
    if stored is None:
        return None
    return datetime.fromisoformat(stored).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Return the time in ISO text; without a zone it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
