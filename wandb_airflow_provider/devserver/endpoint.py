"""
What every HTTP endpoint shares: the context of a request, and errors as the W&B clients want them.

Errors are JSON with a message and 400, 401, 403 or 404: those end a client's request at once, while anything
else is retried for minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from wandb_airflow_provider.devserver.auth import Account, authenticate
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.exchange import Exchange, InjectedFailure
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.graphql.unfit import UNFIT, unfit
from wandb_airflow_provider.devserver.json_text import stored_text
from wandb_airflow_provider.devserver.store import LateRequestError

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


class JSONAnswer(JSONResponse):
    """JSON as an answer; what JSON or its encoding cannot hold is sent in the form in which it would be stored."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        try:
            return super().render(content)
        except ValueError:
            return stored_text(content).encode()


def error_response(error: GraphQLError) -> JSONResponse:
    """Return the answer that tells a client about an error, in both shapes that clients read."""
    return JSONAnswer(
        {"errors": [{"message": error.message}], "error": error.message, "data": None},
        status_code=error.status,
    )


def exchange_of(request: Request) -> Exchange:
    """Return what is known of the request under way, for the audit log."""
    exchange: Exchange = request.scope["exchange"]
    return exchange


def answering(endpoint: Endpoint, *, meets_faults: bool = True) -> Endpoint:
    """
    Wrap an endpoint of the API: its requests are audited, meet faults, and get errors as answers.

    :param meets_faults: False where the endpoint itself calls :meth:`Exchange.meet_fault`, because it first has to
        find out which operation is asked for.
    """

    async def answer(request: Request) -> Response:
        exchange = exchange_of(request)
        exchange.audit()
        try:
            if meets_faults:
                await exchange.meet_fault()
            return await endpoint(request)
        except InjectedFailure as error:
            exchange.error = error.message
            response = error_response(error)
            response.headers.update(error.headers)
            return response
        except LateRequestError as error:
            exchange.leave_out()
            return error_response(error)
        except GraphQLError as error:
            exchange.error = error.message
            return error_response(error)
        except ClientDisconnect:
            exchange.error = "the client went away before its request was complete."
            return error_response(GraphQLError(exchange.error))
        except UNFIT as error:
            refused = unfit(f"{request.method} {request.url.path}", error)
            exchange.error = refused.message
            return error_response(refused)
        except Exception as error:
            if exchange.late:
                return error_response(LateRequestError())
            _log.exception("%s %s failed", request.method, request.url.path)
            exchange.error = f"internal error: {type(error).__name__}: {error}"
            return error_response(GraphQLError(exchange.error))

    return answer
