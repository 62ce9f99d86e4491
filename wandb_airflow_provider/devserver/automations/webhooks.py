"""One webhook request: its payload, its signature, sending it, and what the answer means."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

SIGNATURE_HEADER = "X-Wandb-Signature"
TIMEOUT_SECONDS = 10.0
MOST_ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 1.0
_VARIABLE = re.compile(r"\$\{([^{}]+)\}")
# Blank, rather than left as they are, where an event has no such value.
_KNOWN = (
    "project_name",
    "entity_name",
    "event_type",
    "event_author",
    "alias",
    "tag",
    "artifact_collection_name",
    "artifact_version",
    "artifact_version_string",
)
MASK = "***"


@dataclass(frozen=True)
class Request:
    """What is posted where."""

    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Outcome:
    """
    What came of one attempt.

    :param status: The HTTP status, or None without an answer.
    :param error: Why it did not succeed, or None.
    :param retry: Whether another attempt may help.
    """

    status: int | None
    error: str | None
    retry: bool
    seconds: float


def build(execution: sqlite3.Row, integration: sqlite3.Row) -> Request:
    """Return the request of an execution, signed and with the webhook's secrets."""
    body = payload(execution, secrets_of(integration))
    headers = {"Content-Type": "application/json", "User-Agent": "wandb-devserver"}
    if integration["access_token"] is not None:
        headers["Authorization"] = f"Bearer {integration['access_token']}"
    if integration["secret"] is not None:
        headers[SIGNATURE_HEADER] = sign(integration["secret"], body)
    return Request(integration["url"], headers, body)


def sign(secret: str, body: bytes) -> str:
    """Return the signature of a body: base64 of its HMAC-SHA256 under the webhook's secret."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def payload(execution: sqlite3.Row, secrets: Mapping[str, str]) -> bytes:
    """Return the body of an execution: its payload with ``${variables}`` replaced, or an empty JSON object."""
    template = json.loads(execution["action"]).get("requestPayload")
    if template is None:
        return b"{}"
    values = {**dict.fromkeys(_KNOWN, ""), **json.loads(execution["variables"]), **secrets}
    return json.dumps(_filled(json.loads(template), values), ensure_ascii=False).encode()


def secrets_of(integration: sqlite3.Row, *, masked: bool = False) -> dict[str, str]:
    """Return the secrets that a payload may name, by name."""
    found = {"ACCESS_TOKEN": integration["access_token"], integration["secret_name"]: integration["secret"]}
    return {
        str(name): MASK if masked else str(value)
        for name, value in found.items()
        if name is not None and value is not None
    }


def send(client: httpx.Client, request: Request) -> Outcome:
    """
    Post a request and say what came of it.

    An answer of 5xx, none in time and no connection are worth another attempt. Any other answer but 2xx is final;
    a redirect is not followed, because it would take the secrets to where the owner did not send them.
    """
    import httpx

    started = time.monotonic()
    try:
        # The body of the answer is of no interest, and may be endless.
        with client.stream("POST", request.url, content=request.body, headers=request.headers) as answer:
            status = answer.status_code
    except httpx.TransportError as error:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        return Outcome(None, reason, True, time.monotonic() - started)
    except (httpx.InvalidURL, ValueError) as error:
        return Outcome(None, f"{type(error).__name__}: {error}", False, time.monotonic() - started)
    seconds = time.monotonic() - started
    if 200 <= status < 300:
        return Outcome(status, None, False, seconds)
    reason = "redirects are not followed" if 300 <= status < 400 else f"answered with {status}"
    return Outcome(status, reason, status >= 500, seconds)


def pause_seconds(attempts: int) -> float:
    """Return how long to wait after so many attempts: 1, 2, 4, 8 seconds."""
    return float(_FIRST_PAUSE_SECONDS * 2 ** (attempts - 1))


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _text(values, found), value)
    return value


def _text(values: Mapping[str, Any], found: re.Match[str]) -> str:
    name = found[1]
    if name not in values:
        return "" if name.startswith("artifact_metadata.") else found[0]
    value = values[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
