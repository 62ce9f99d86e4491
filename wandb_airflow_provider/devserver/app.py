"""The HTTP side: which path is answered by what."""

from __future__ import annotations

import base64
import binascii
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from wandb_airflow_provider.devserver import controls, filestream, identity_tokens, pages
from wandb_airflow_provider.devserver.artifacts import expiry
from wandb_airflow_provider.devserver.artifacts.routes import routes as artifact_routes
from wandb_airflow_provider.devserver.audit import mask_text
from wandb_airflow_provider.devserver.auth import find_account
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.blobs import Blob, BlobResponse, BlobWriter
from wandb_airflow_provider.devserver.endpoint import (
    JSONAnswer,
    answering,
    backend_of,
    base_url_of,
    error_response,
    exchange_of,
    request_context,
)
from wandb_airflow_provider.devserver.exchange import Exchanges, Hangup
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.guard import Guard
from wandb_airflow_provider.devserver.http_body import parse_object, read_body
from wandb_airflow_provider.devserver.large_upload import LargeUploads, TransportOf
from wandb_airflow_provider.devserver.resolvers import load_resolvers
from wandb_airflow_provider.devserver.resolvers.run_files import find_file

CORE_ROUTES: list[BaseRoute] = []


def create_app(backend: Backend, hangup: Hangup, transport_of: TransportOf) -> Starlette:
    """
    Return the ASGI application of one server.

    :param hangup: Closes the connection of a client, named by its address and port.
    :param transport_of: Returns the connection of such a client, or None if it is gone.
    """
    load_resolvers()
    app = Starlette(
        routes=[*CORE_ROUTES, *identity_tokens.routes, *controls.routes, *artifact_routes, *pages.routes],
        exception_handlers={404: _unknown_path, 405: _unknown_path},
        middleware=[
            Middleware(Exchanges, backend=backend, hangup=hangup),
            Middleware(Guard, backend=backend),
        ],
    )
    app.state.backend = backend
    app.state.large_uploads = LargeUploads(transport_of)
    return app


def _load_executor() -> ModuleType:
    return importlib.import_module("wandb_airflow_provider.devserver.graphql.executor")


async def warm_up() -> None:
    """
    Import what the first request would otherwise wait for: what parses and runs documents, and worker threads.

    It takes half a second, which is spent after the server listens rather than before.
    """
    await run_in_threadpool(_load_executor)


async def _graphql(request: Request) -> Response:
    payload = parse_object(await read_body(request))
    source, variables = payload.get("query"), payload.get("variables") or {}
    if not isinstance(source, str) or not isinstance(variables, Mapping):
        raise GraphQLError("a GraphQL request needs 'query' (text) and may have 'variables' (an object).")
    name = payload.get("operationName") or None
    exchange = exchange_of(request)
    exchange.variables = variables
    exchange.operation = name or ""
    if backend_of(request).faults:
        if not name:
            exchange.operation = await run_in_threadpool(_operation_name, source)
        await exchange.meet_fault()
    return JSONAnswer({"data": await run_in_threadpool(_execute, request, source, variables, name)})


def _execute(request: Request, source: str, variables: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    ctx = request_context(request)
    expiry.delete_expired(ctx)
    executor = _load_executor()
    exchange_of(request).operation = name or executor.operation_name(source) or ""
    data: dict[str, Any] = executor.execute(ctx, source, variables, name, backend_of(request).unknown)
    return data


def _operation_name(source: str) -> str:
    try:
        return _load_executor().operation_name(source) or ""
    except GraphQLError:
        return ""


async def _file_stream(request: Request) -> Response:
    body = await read_body(request)
    return JSONAnswer(await run_in_threadpool(_stream, request, body))


def _stream(request: Request, body: bytes) -> dict[str, Any]:
    ctx = request_context(request)
    path = request.path_params
    message = parse_object(body)
    exchange_of(request).body = message
    writer = request.headers.get("x-wandb-async-client-id")
    return filestream.receive(ctx, path["entity"], path["project"], path["run"], message, writer)


async def _run_file(request: Request) -> Response:
    md5, mimetype = await run_in_threadpool(_find_run_file, request)
    return BlobResponse(backend_of(request).blobs.path(md5), media_type=mimetype)


def _find_run_file(request: Request) -> tuple[str, str]:
    path = request.path_params
    return find_file(request_context(request), path["entity"], path["project"], path["run"], path["name"])


async def _upload(request: Request) -> Response:
    backend = backend_of(request)
    handler, purpose = backend.signer.verify_upload(request.path_params["token"], backend.now())

    def store(writer: BlobWriter) -> Blob:
        blob = writer.finish()
        with backend.store.read() as conn:
            user = find_account(conn, purpose["user"])
        if user is None:
            raise GraphQLError(f"user {purpose['user']!r}, whom this upload URL was made for, is gone.", 403)
        handler(backend.context(user, base_url_of(request)), purpose, blob)
        return blob

    with backend.blobs.writer() as writer:
        await _receive(request, writer)
        expected = _content_md5(request) or purpose.get("md5")
        if expected is not None and expected != writer.md5:
            raise GraphQLError(
                f"the content has the MD5 {writer.md5}, but {expected} was announced: upload it again."
            )
        blob = await run_in_threadpool(store, writer)
    return Response(status_code=200, headers={"ETag": f'"{blob.md5}"'})


async def _receive(request: Request, writer: BlobWriter) -> None:
    uploads: LargeUploads = request.app.state.large_uploads
    if not await uploads.store(request, writer):
        await writer.receive(request.stream())


def _content_md5(request: Request) -> str | None:
    header = request.headers.get("content-md5")
    if header is None:
        return None
    try:
        return base64.b64decode(header, validate=True).hex()
    except binascii.Error as error:
        raise GraphQLError(f"Content-MD5 {header!r} is not base64.") from error


async def _download(request: Request) -> Response:
    backend = backend_of(request)
    md5 = backend.signer.verify_download(request.path_params["token"], backend.now())
    if not backend.blobs.exists(md5):
        raise GraphQLError(f"the content with MD5 {md5} is no longer stored.", 404)
    return BlobResponse(backend.blobs.path(md5), media_type="application/octet-stream")


async def _telemetry(request: Request) -> Response:
    return Response(status_code=200)


async def _ready(request: Request) -> Response:
    return PlainTextResponse("ok")


async def _unknown_path(request: Request, error: Exception) -> Response:
    if pages.is_for_people(request, error):
        return pages.not_found(request, error)
    name = mask_text(f"{request.method} {request.url.path}")
    message = f"the dev server does not know {name}."
    backend_of(request).unknown.count_operation(name, message)
    exchange = exchange_of(request)
    exchange.audit()
    exchange.error = message
    return error_response(GraphQLError(message, 404))


CORE_ROUTES += [
    Route("/graphql", answering(_graphql, meets_faults=False), methods=["POST"]),
    Route("/files/{entity}/{project}/{run}/file_stream", answering(_file_stream), methods=["POST"]),
    Route("/files/{entity}/{project}/{run}/{name:path}", answering(_run_file), methods=["GET"]),
    Route("/storage/{token}", answering(_upload), methods=["PUT"]),
    Route("/storage/{token}/{filename:path}", answering(_download), methods=["GET"]),
    Route("/sdk/otel/{rest:path}", _telemetry, methods=["POST"]),
    Route("/ready", _ready, methods=["GET"]),
    Route("/healthz", _ready, methods=["GET"]),
]
