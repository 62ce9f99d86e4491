"""Times, amounts and states as people read them. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from wandb_airflow_provider.devserver.json_text import portable

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_TONES = {
    "finished": "good",
    "success": "good",
    "passed": "good",
    "failed": "bad",
    "crashed": "bad",
    "killed": "bad",
    "upstream_failed": "bad",
    "running": "busy",
    "deferred": "busy",
    "pending": "busy",
    "preempting": "warn",
    "preempted": "warn",
    "up_for_retry": "warn",
}


def duration(seconds: float | None) -> str:
    """Return ``0.4 s``, ``1 min 14 s``, ``2 h 05 min`` or ``3 d 4 h``; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago a moment was: ``3 min ago``."""
    seconds = (now - moment).total_seconds()
    if seconds < 10:
        return "just now"
    for unit, length in (("day", _DAY), ("h", _HOUR), ("min", _MINUTE), ("s", 1)):
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago"
    return "just now"


def moment(value: datetime) -> str:
    """Return ``22 Nov 2026, 22:39:12 UTC``."""
    return f"{value.astimezone(UTC):%-d %b %Y, %H:%M:%S} UTC"


def iso(value: datetime) -> str:
    """Return a time as machines read it."""
    return value.astimezone(UTC).isoformat(timespec="seconds")


def size(count: int) -> str:
    """Return a number of bytes as ``1.2 MB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g} {unit}"
    return f"{value / 1000:.3g} TB"


def number(value: Any) -> str:
    """Return a number in few digits; whole ones with thin spaces between thousands, others by W&B's names."""
    value = portable(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.4g}"


def compact(value: Any, length: int = 300) -> str:
    """Return any JSON value as one line of at most so many characters."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def tone(state: str | None) -> str:
    """Return the colour class of a state; the word itself is always shown beside it."""
    return _TONES.get(state or "", "idle")


def short_digest(digest: str) -> str:
    """Return enough of a digest to tell versions apart."""
    return digest[:12]


def is_web_address(value: Any) -> bool:
    """Tell whether a text may become a link: other schemes could run code."""
    return (
        isinstance(value, str)
        and value.startswith(("http://", "https://"))
        and not any(map(str.isspace, value))
    )
