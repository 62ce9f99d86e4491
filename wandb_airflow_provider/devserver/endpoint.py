"""
What every HTTP endpoint shares: the context of a request, and errors as the W&B clients want them.

Errors are JSON with a message and 400, 401, 403 or 404: those end a client's request at once, while anything
else is retried for minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from wandb_airflow_provider.devserver.auth import Account, authenticate
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext

_log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]


def backend_of(request: Request) -> Backend:
    """Return the server that a request came to."""
    backend: Backend = request.app.state.backend
    return backend


def base_url_of(request: Request) -> str:
    """Return the server's URL as this client reaches it."""
    return f"{request.url.scheme}://{request.headers['host']}"


def request_context(request: Request, user: Account | None = None) -> RequestContext:
    """
    Return the context of a request; reads the database, so call it in a worker thread or expect its cost.

    :param user: Whoever it acts for; by default the owner of the API key that it carries.
    :raises GraphQLError: 401 without a valid key.
    """
    backend = backend_of(request)
    if user is None:
        user = authenticate(backend.store, request.headers.get("authorization"), backend.now())
    return backend.context(user, base_url_of(request))


def error_response(error: GraphQLError) -> JSONResponse:
    """Return the answer that tells a client about an error, in both shapes that clients read."""
    return JSONResponse(
        {"errors": [{"message": error.message}], "error": error.message, "data": None},
        status_code=error.status,
    )


def answering(endpoint: Endpoint, *, logged_path: str | None = None) -> Endpoint:
    """
    Wrap an endpoint so that it records the request and turns errors into answers.

    :param logged_path: What the record says instead of the path, where the path holds a secret.
    """

    async def answer(request: Request) -> Response:
        failure: str | None = None
        try:
            response = await endpoint(request)
        except GraphQLError as error:
            failure, response = error.message, error_response(error)
        except Exception as error:
            _log.exception("%s %s failed", request.method, request.url.path)
            failure = f"internal error: {type(error).__name__}: {error}"
            response = error_response(GraphQLError(failure))
        backend_of(request).requests.add(
            request.method,
            logged_path or request.url.path,
            response.status_code,
            operation=getattr(request.state, "operation", ""),
            variables=getattr(request.state, "variables", None),
            error=failure,
        )
        return response

    return answer
