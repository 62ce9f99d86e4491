"""The record of what the server was asked: the latest requests, without their secrets, in bounded memory."""

from __future__ import annotations

import json
import math
import re
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

KEPT_REQUESTS = 5_000
KEPT_CHARACTERS = 32 << 20
BODY_CHARACTERS = 16 << 10
CUT = "…"

_SECRET_WORDS = ("api_key", "apikey", "password", "secret", "token", "authorization")
_HINTS = (*_SECRET_WORDS, "/storage/", "signature=", "credential=", "sig=", "basic ", "bearer ")
_SECRETS_IN_TEXT = re.compile(
    r"(?P<url>/storage/)[\w.~-]+"
    r"|(?P<query>[?&](?:X-Amz-Signature|X-Amz-Credential|X-Goog-Signature|Signature|sig)=)[^&\s\"]+"
    r"|(?P<scheme>\b(?:Basic|Bearer) )[\w.~+/=-]{8,}"
    r"|(?P<pair>\"[^\"]*(?:api_?key|password|secret|token|authorization)[^\"]*\"\s*:\s*(?:\{\s*\"value\"\s*:\s*)?)\"[^\"]*\"",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class RecordedRequest:
    """
    One request that the server has answered.

    :param operation: The GraphQL operation's name; empty for other requests.
    :param path: The path, with ``***`` in place of what a signed URL is signed with.
    :param variables: The variables of a GraphQL request, with secrets masked and cut to 16 Ki characters.
    :param error: The message it was refused with, or how its connection ended, or None.
    :param body: The JSON body of another request, masked and cut as the variables are; None where it has none.
    :param seconds: From the request's first line to its answer's last byte.
    :param at: When it was answered, by the server's clock.
    """

    operation: str
    path: str
    method: str
    status: int
    variables: Mapping[str, Any]
    error: str | None = None
    body: Any = None
    seconds: float = field(default=0.0, compare=False)
    at: datetime | None = field(default=None, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {**asdict(self), "at": self.at.isoformat() if self.at else None}


class RequestLog:
    """
    The latest requests: at most 5,000, and at most 32 Mi characters of bodies between them.

    The counts go on where the oldest requests have been dropped.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[tuple[RecordedRequest, int]] = deque()
        self._characters = 0
        self._counts: Counter[str] = Counter()

    def add(self, record: RecordedRequest, size: int) -> None:
        """
        Record a request whose variables and body went through an :class:`Excerpt`.

        :param size: How many characters the excerpts kept.
        """
        with self._lock:
            self._requests.append((record, size))
            self._characters += size
            # Not the whole path: it names runs, of which there is no limit.
            area = record.path.split("/", 2)[1]
            self._counts[record.operation or f"{record.method} /{area}"] += 1
            while len(self._requests) > KEPT_REQUESTS or self._characters > KEPT_CHARACTERS:
                self._characters -= self._requests.popleft()[1]

    def all(
        self, operation: str | None = None, *, path: str | None = None, method: str | None = None
    ) -> list[RecordedRequest]:
        """
        Return the requests in order, or those that fit every filter given.

        :param operation: Name of a GraphQL operation.
        :param path: Pattern for the path, in which ``*`` also stands for slashes.
        """
        with self._lock:
            records = [record for record, _ in self._requests]
        return [
            record
            for record in records
            if (operation is None or record.operation == operation)
            and (path is None or fnmatchcase(record.path, path))
            and (method is None or record.method == method.upper())
        ]

    def counts(self) -> dict[str, int]:
        """Return how many requests there were of each operation, or method and first part of the path."""
        with self._lock:
            return dict(self._counts)

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._requests.clear()
            self._counts.clear()
            self._characters = 0


class Excerpt:
    """Copies JSON values without their secrets, until 16 Ki characters are copied; ``…`` stands for the rest."""

    def __init__(self) -> None:
        self.size = 0

    def of(self, value: Any, key: str = "") -> Any:
        """
        Return the copy of one value.

        :param key: The name under which it was found; text under the name of a secret becomes ``***``.
        """
        if self.size >= BODY_CHARACTERS:
            return CUT
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list):
            return self._list(value, key)
        if not isinstance(value, str):
            self.size += 8
            # JSON has no such numbers, though Python's clients send them.
            return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value
        if value and any(word in key.lower() for word in _SECRET_WORDS):
            return "***"
        room = BODY_CHARACTERS - self.size
        text = valid_text(mask_text(value[:room]))
        self.size += len(text)
        return text if len(value) <= room else text + CUT

    def _mapping(self, value: Mapping[str, Any]) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for name, item in value.items():
            if self.size >= BODY_CHARACTERS:
                copy[CUT] = CUT
                break
            self.size += len(name)
            copy[valid_text(name)] = self.of(item, name)
        return copy

    def _list(self, value: list[Any], key: str) -> list[Any]:
        copy: list[Any] = []
        for item in value:
            copy.append(self.of(item, key))
            if copy[-1] is CUT:
                break
        return copy


def mask_text(text: str) -> str:
    """Return text with credentials, secrets in JSON and the signatures of URLs replaced by ``***``."""
    lowered = text.lower()
    # Most text has none of it, and the search for secrets takes a hundred times as long as this one.
    if not any(hint in lowered for hint in _HINTS):
        return text
    return _SECRETS_IN_TEXT.sub(_mask, text)


def valid_text(text: str) -> str:
    """Return text as UTF-8 can have it: halves of surrogate pairs, which JSON can name, become their escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _mask(found: re.Match[str]) -> str:
    if found["pair"] is not None:
        return f'{found["pair"]}"***"'
    return f"{found['url'] or found['query'] or found['scheme']}***"
