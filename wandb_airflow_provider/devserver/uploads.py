"""
Signed URLs: uploads and downloads carry no API key, so the URL itself says what it is good for.

A token is base64url JSON (kind, purpose, user, expiry) plus an HMAC-SHA256 under the server's secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from wandb_airflow_provider.devserver.blobs import Blob
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.store import LateRequestError, Store

UPLOAD_SECONDS = 24 * 3600.0
DOWNLOAD_SECONDS = 3600.0
_DOWNLOAD = "download"
_TAG_BYTES = 16

UploadHandler = Callable[[RequestContext, Mapping[str, Any], Blob], None]
UPLOAD_HANDLERS: dict[str, UploadHandler] = {}


def on_upload(kind: str) -> Callable[[UploadHandler], UploadHandler]:
    """
    Register what happens when an upload of a kind has been stored.

    The handler runs in a write transaction of its own making, in a worker thread, and raises
    :class:`GraphQLError` to refuse the upload.
    """

    def add(handler: UploadHandler) -> UploadHandler:
        if kind in UPLOAD_HANDLERS:
            raise ValueError(f"uploads of kind {kind!r} already have a handler")
        UPLOAD_HANDLERS[kind] = handler
        return handler

    return add


def sign_upload(ctx: RequestContext, purpose: Mapping[str, Any]) -> str:
    """
    Return an absolute URL that accepts one ``PUT`` (or several equal ones, when a client retries).

    :param purpose: JSON values for the handler, with ``kind`` naming it; include ``md5`` (hex) to accept only that
        content.
    """
    if purpose.get("kind") not in UPLOAD_HANDLERS:
        raise ValueError(f"no upload handler for {purpose.get('kind')!r}; known: {sorted(UPLOAD_HANDLERS)}")
    token = ctx.signer.sign({**purpose, "user": ctx.user.username}, ctx.now(), UPLOAD_SECONDS)
    return f"{ctx.base_url}/storage/{token}"


def sign_download(ctx: RequestContext, md5: str, filename: str) -> str:
    """
    Return an absolute URL from which a blob can be read for an hour.

    :param md5: Hex MD5 of the content.
    :param filename: What the file is called; only its last part is used.
    """
    return f"{ctx.base_url}{download_path(ctx.signer, ctx.now(), md5, filename)}"


def download_path(signer: UrlSigner, now: datetime, md5: str, filename: str) -> str:
    """Return the path of such a URL, for the server's own pages."""
    token = signer.sign({"kind": _DOWNLOAD, "md5": md5}, now, DOWNLOAD_SECONDS)
    return f"/storage/{token}/{quote(filename.rsplit('/', 1)[-1] or 'file')}"


class UrlSigner:
    """
    Makes and checks tokens under one secret.

    :param generation: Returns the generation of the data; tokens of an earlier one are not valid.
    """

    def __init__(self, secret: bytes, generation: Callable[[], int]) -> None:
        self._secret = secret
        self._generation = generation

    @classmethod
    def of(cls, store: Store) -> UrlSigner:
        """Return the signer of a server's data; its secret is made once and kept."""
        secret = store.get_meta("url_secret")
        if secret is None:
            secret = secrets.token_hex(32)
            store.set_meta("url_secret", secret)
        return cls(bytes.fromhex(secret), lambda: store.generation)

    def sign(self, payload: Mapping[str, Any], now: datetime, seconds: float) -> str:
        """Return a token for a payload that is valid for some seconds."""
        document = {"p": dict(payload), "e": int(now.timestamp() + seconds), "g": self._generation()}
        body = json.dumps(document, separators=(",", ":")).encode()
        return f"{_encode(body)}.{_encode(self._tag(body))}"

    def verify(self, token: str, now: datetime) -> dict[str, Any]:
        """
        Return the payload of a token.

        :raises GraphQLError: 403 if it was not made here, was changed, has expired or was made before a reset.
        """
        body_text, _, tag_text = token.partition(".")
        try:
            body, tag = _decode(body_text), _decode(tag_text)
        except (binascii.Error, ValueError) as error:
            raise GraphQLError("this storage URL is malformed.", 403) from error
        if not hmac.compare_digest(tag, self._tag(body)):
            raise GraphQLError("this storage URL was not signed by this server.", 403)
        document = json.loads(body)
        if document["g"] != self._generation():
            raise LateRequestError(403)
        if document["e"] < now.timestamp():
            raise GraphQLError("this storage URL has expired: ask for a new one.", 403)
        payload: dict[str, Any] = document["p"]
        return payload

    def verify_download(self, token: str, now: datetime) -> str:
        """Return the hex MD5 that a download token names."""
        payload = self.verify(token, now)
        if payload["kind"] != _DOWNLOAD:
            raise GraphQLError("this storage URL is for an upload, not for a download.", 403)
        return str(payload["md5"])

    def verify_upload(self, token: str, now: datetime) -> tuple[UploadHandler, dict[str, Any]]:
        """Return the handler and the purpose that an upload token names."""
        payload = self.verify(token, now)
        handler = UPLOAD_HANDLERS.get(payload["kind"])
        if handler is None:
            raise GraphQLError("this storage URL is for a download, not for an upload.", 403)
        return handler, payload

    def _tag(self, body: bytes) -> bytes:
        return hmac.new(self._secret, body, hashlib.sha256).digest()[:_TAG_BYTES]


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
