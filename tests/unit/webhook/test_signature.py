from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from wandb_airflow_provider.webhook.signature import is_bearer, is_signed

BODY = b'{"format": "wandb-alias/1"}'


def digest(secret: str, body: bytes = BODY) -> bytes:
    return hmac.new(secret.encode(), body, hashlib.sha256).digest()


def test_signature_is_understood_in_base64_and_in_hexadecimal_under_any_secret_in_use() -> None:
    for secret in ("new", "old"):
        found = digest(secret)
        for header in (base64.b64encode(found).decode(), found.hex(), found.hex().upper()):
            for prefix in ("", "sha256="):
                assert is_signed(BODY, f" {prefix}{header} ", ("new", "old"))
                assert not is_signed(BODY + b" ", f"{prefix}{header}", ("new", "old"))
                assert not is_signed(BODY, f"{prefix}{header}", ("another",))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        " ",
        "sha256=",
        "new",
        "%%%",
        "ä",
        "é" * 64,
        "0" * 64,
        "0" * 63,
        base64.b64encode(b"").decode(),
    ],
)
def test_what_is_no_signature_is_refused(header: str | None) -> None:
    assert not is_signed(BODY, header, ("new", "old"))


def test_an_empty_secret_signs_nothing() -> None:
    header = base64.b64encode(digest("")).decode()
    assert not is_signed(BODY, header, ("",))
    assert not is_signed(BODY, header, ())


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer tokens", "bearer token", "token", "Bearer tökén"]
)
def test_only_the_whole_bearer_token_is_accepted(header: str | None) -> None:
    assert is_bearer("Bearer token", "token")
    assert not is_bearer(header, "token")
