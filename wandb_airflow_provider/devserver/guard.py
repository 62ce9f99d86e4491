"""
Who is let in at all, before a request is read.

On loopback: whoever calls the server by a loopback name, so that no web page can reach it under a name of its own that
leads to this machine. On another address: whoever has a key; for the pages, which show everything, an administrator's.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wandb_airflow_provider.devserver.auth import authenticate
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.loopback import is_loopback

_THIS_MACHINE = ("host.docker.internal",)
# They carry a signature or a token of their own, or tell nothing.
_OPEN = ("/storage/", "/oidc/token", "/sdk/otel/", "/ready", "/healthz")
_API = ("/graphql", "/files/", "/artifacts/", "/artifactsV2/", "/_control/")
# What users stored is served as it is: a browser must take none of it for a page of this server.
_STORED = ("/files/", "/storage/", "/artifacts/", "/artifactsV2/")


class Guard:
    """The application behind the checks; one server's ``app.state.loopback`` says where it listens."""

    def __init__(self, app: ASGIApp, backend: Backend) -> None:
        self._app = app
        self._backend = backend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            if scope["app"].state.loopback:
                _require_loopback_name(headers.get("host", ""))
            else:
                await self._require_key(scope["path"], headers)
        except GraphQLError as error:
            await _refuse(scope, receive, send, error)
            return
        await self._app(scope, receive, _Hardened(scope["path"], send))

    async def _require_key(self, path: str, headers: Headers) -> None:
        if path.startswith(_OPEN):
            return
        user = await run_in_threadpool(
            authenticate, self._backend.store, headers.get("authorization"), self._backend.now()
        )
        if not path.startswith(_API) and not user.administers:
            raise GraphQLError(
                f"the pages show everything, so they take the key of an administrator; user {user.username!r} is none.",
                403,
            )


class _Hardened:
    """Sends an answer with headers that keep a browser from taking data for pages."""

    def __init__(self, path: str, send: Send) -> None:
        self._stored = path.startswith(_STORED)
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("X-Content-Type-Options", "nosniff")
            if self._stored:
                headers.setdefault("Content-Security-Policy", "sandbox; default-src 'none'")
        await self._send(message)


def _require_loopback_name(host: str) -> None:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError as error:
        raise GraphQLError(f"the Host header {host!r} is malformed.") from error
    if not (is_loopback(name) or name.endswith(".localhost") or name in _THIS_MACHINE):
        raise GraphQLError(
            f"this server listens on loopback and does not answer to the name {name!r}: call it localhost, or start it"
            " with --allow-remote.",
            403,
        )


async def _refuse(scope: Scope, receive: Receive, send: Send, error: GraphQLError) -> None:
    scope["exchange"].error = error.message
    response = JSONResponse({"errors": [{"message": error.message}], "error": error.message}, error.status)
    if error.status == 401:
        # Lets a browser ask for the key of the pages: user "api", the key as password.
        response.headers["WWW-Authenticate"] = 'Basic realm="W&B dev server"'
    await response(scope, receive, send)
