"""
Federated identity: a signed identity token is exchanged for an access token, as RFC 7523 has it.

With W&B an identity provider signs the identity tokens; here the server itself issues them for its accounts. As there,
the subject is the email address of a user or the name of a service account, and the audience is the organisation of the
account, or ``wandb``, which self-managed servers take too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import sqlite3
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from wandb_airflow_provider.devserver import api_keys
from wandb_airflow_provider.devserver.accounts import USER, find_account, organization_of
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.endpoint import answering, backend_of, exchange_of
from wandb_airflow_provider.devserver.http_body import read_body
from wandb_airflow_provider.devserver.store import Store

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_SECONDS = 3600
AUDIENCE = "wandb"
_ISSUER = "https://wandb-devserver.invalid"
_LIFE = "access_token_seconds"
_STORED_AS = "identity_secret"
_HEADER = {"alg": "HS256", "typ": "JWT"}
_LONGEST_REQUEST = 64 << 10
# Ten years: far from where times end.
_LONGEST_LIFE = 315_360_000


class TokenRefusedError(Exception):
    """
    An exchange that is refused.

    :param code: The OAuth error code.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def issue(
    backend: Backend,
    username: str,
    *,
    seconds: float = TOKEN_SECONDS,
    audience: str = AUDIENCE,
    access_seconds: int = TOKEN_SECONDS,
) -> str:
    """
    Return an identity token (a JWT) for an account, good for some seconds by the server's clock.

    :param access_seconds: For how long the access tokens are good that it is exchanged for.
    :raises ValueError: there is no such account, or a time is longer than ten years.
    """
    _check_life("seconds", seconds)
    _check_life("access_seconds", access_seconds)
    with backend.store.read() as conn:
        account = find_account(conn, username)
    if account is None:
        raise ValueError(f"the dev server has no user {username!r}: add the account first")
    now = backend.now().timestamp()
    claims = {
        "iss": _ISSUER,
        "aud": audience,
        "sub": account.email if account.kind == USER else account.username,
        "iat": int(now),
        "exp": int(now + seconds),
        _LIFE: access_seconds,
    }
    signed = ".".join(_encode(json.dumps(part).encode()) for part in (_HEADER, claims))
    return f"{signed}.{_encode(_signature(backend.store, signed))}"


def _check_life(name: str, seconds: float) -> None:
    if not -_LONGEST_LIFE <= seconds <= _LONGEST_LIFE:
        raise ValueError(f"{name} must be at most {_LONGEST_LIFE}, ten years, not {seconds!r}")


def distrust(backend: Backend) -> None:
    """Refuse every identity token issued so far, as when an organisation no longer trusts who signed them."""
    backend.store.set_meta(_STORED_AS, secrets.token_hex(32))


def exchange(backend: Backend, assertion: str) -> tuple[str, int]:
    """
    Return a new access token for the account that an identity token names, and for how many seconds it is good.

    :raises TokenRefusedError: it was not issued here or is distrusted, was changed, has expired, is for somebody else
        than this server, or names nobody.
    """
    now = backend.now()
    claims = _claims(backend.store, assertion, now)
    token = api_keys.new_secret()
    with backend.store.write() as conn:
        username = _account_of(conn, claims)
        end = now + timedelta(seconds=claims[_LIFE])
        api_keys.add(conn, username, token, kind=api_keys.TOKEN, expires_at=end)
    return token, claims[_LIFE]


def _account_of(conn: sqlite3.Connection, claims: dict[str, Any]) -> str:
    subject, audience = claims["sub"], claims["aud"]
    rows = conn.execute(
        "SELECT username, entity FROM accounts WHERE CASE kind WHEN 'user' THEN email ELSE username END = ?",
        (subject,),
    ).fetchall()
    if len(rows) != 1:
        known = "no account" if not rows else f"{len(rows)} accounts"
        raise TokenRefusedError("invalid_grant", f"this server has {known} with the subject {subject!r}.")
    organization = organization_of(conn, rows[0]["entity"])
    if audience not in (AUDIENCE, organization):
        raise TokenRefusedError(
            "invalid_grant",
            f"the identity token is for the audience {audience!r}; expected {organization!r} or {AUDIENCE!r}.",
        )
    return str(rows[0]["username"])


def _claims(store: Store, assertion: str, now: datetime) -> dict[str, Any]:
    signed, _, signature = assertion.rpartition(".")
    try:
        genuine = hmac.compare_digest(_decode(signature), _signature(store, signed))
    except (binascii.Error, ValueError):
        genuine = False
    if not genuine:
        raise TokenRefusedError(
            "invalid_grant", "the identity token was not issued by an issuer that this server trusts."
        )
    # Only tokens made by issue() get this far.
    claims: dict[str, Any] = json.loads(_decode(signed.partition(".")[2]))
    if claims["exp"] <= now.timestamp():
        ended = datetime.fromtimestamp(claims["exp"], now.tzinfo).isoformat()
        raise TokenRefusedError(
            "invalid_grant", f"the identity token of {claims['sub']!r} expired at {ended}."
        )
    return claims


def _signature(store: Store, signed: str) -> bytes:
    secret = store.get_meta(_STORED_AS)
    if secret is None:
        secret = secrets.token_hex(32)
        store.set_meta(_STORED_AS, secret)
    return hmac.new(bytes.fromhex(secret), signed.encode(), hashlib.sha256).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


async def _token(request: Request) -> Response:
    # Anybody may send one, also where everything else takes a key.
    body = await read_body(request, _LONGEST_REQUEST)
    try:
        token, seconds = await run_in_threadpool(_exchange_form, backend_of(request), body)
    except TokenRefusedError as error:
        exchange_of(request).error = str(error)
        return JSONResponse({"error": error.code, "error_description": str(error)}, 400)
    return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": seconds})


def _exchange_form(backend: Backend, body: bytes) -> tuple[str, int]:
    try:
        form = parse_qs(body.decode(), max_num_fields=20)
    except ValueError as error:
        raise TokenRefusedError("invalid_request", f"the body is not a form: {error}.") from error
    if form.get("grant_type") != [GRANT_TYPE]:
        raise TokenRefusedError("unsupported_grant_type", f"the grant_type must be {GRANT_TYPE!r}.")
    if len(form.get("assertion", [])) != 1:
        raise TokenRefusedError("invalid_request", "one assertion is needed: the identity token.")
    return exchange(backend, form["assertion"][0])


routes: list[BaseRoute] = [Route("/oidc/token", answering(_token), methods=["POST"])]
