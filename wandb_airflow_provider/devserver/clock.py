"""Times as the database keeps them and as the API tells them."""

from __future__ import annotations

from datetime import UTC, datetime


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
