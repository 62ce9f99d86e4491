"""Whether a webhook comes from W&B. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

__all__ = ["SIGNATURE_HEADER", "is_bearer", "is_signed"]

SIGNATURE_HEADER = "X-Wandb-Signature"
_HEX_LENGTH = 64


def is_signed(body: bytes, header: str | None, secrets: Iterable[str]) -> bool:
    """
    Return whether the header is the HMAC-SHA256 of the body under one of the secrets, compared in constant time.

    W&B's documentation writes it in base64, receivers in the wild also read it in hexadecimal: both are understood.
    """
    given = _decode(header or "")
    matches = [
        hmac.compare_digest(hmac.new(secret.encode(), body, hashlib.sha256).digest(), given)
        for secret in secrets
        if secret
    ]
    return any(matches)


def is_bearer(header: str | None, token: str) -> bool:
    """Return whether the header ``Authorization`` carries this token, compared in constant time."""
    return hmac.compare_digest((header or "").encode(), f"Bearer {token}".encode())


def _decode(header: str) -> bytes:
    """Return the signature's bytes; nothing when it is none, which no digest equals."""
    text = header.strip().removeprefix("sha256=")
    try:
        if len(text) == _HEX_LENGTH:
            return bytes.fromhex(text)
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""
