"""
Controls over HTTP, under ``/_control``: what a test does to the server, and what it may know of it.

Whoever reaches a server that listens on loopback may use them without a key; elsewhere they need the API key of an
account that administers the server. Bodies are JSON objects; a wrong one is a 400 that says what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from wandb_airflow_provider.devserver import api_keys, identity_tokens
from wandb_airflow_provider.devserver.accounts import DEFAULT_USER
from wandb_airflow_provider.devserver.audit import valid_text
from wandb_airflow_provider.devserver.auth import authenticate
from wandb_airflow_provider.devserver.automations import administration
from wandb_airflow_provider.devserver.backend import SEED_TIME, Backend
from wandb_airflow_provider.devserver.clock import parse_time
from wandb_airflow_provider.devserver.endpoint import backend_of, error_response
from wandb_airflow_provider.devserver.exchange import CONTROL_PREFIX, RATE_LIMIT_HEADERS
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.http_body import parse_object, read_body

MAX_AWAY_SECONDS = 600.0
MAX_SETTLE_SECONDS = 600.0

Arguments = dict[str, Any]
Control = Callable[[Backend, Arguments], dict[str, Any]]
Away = Callable[[float], Awaitable[None]]

_NUMBER = (int, float)
_CONTROLS: dict[tuple[str, str], tuple[Control, Mapping[str, Any]]] = {}


def _control(verb: str, name: str, /, **takes: Any) -> Callable[[Control], Control]:
    """Register a control; ``takes`` names the arguments that it may get, with their types."""

    def add(control: Control) -> Control:
        _CONTROLS[verb, name] = (control, takes)
        return control

    return add


@_control("GET", "state")
def _state(backend: Backend, args: Arguments) -> dict[str, Any]:
    return {
        **_time(backend),
        "faults": [fault.as_json() for fault in backend.faults.waiting()],
        "requests": backend.requests.counts(),
        "late_requests": backend.late_requests,
        "unknown_operations": backend.unknown.operations(),
        "unknown_fields": backend.unknown.fields(),
        "rate_limit": RATE_LIMIT_HEADERS,
    }


@_control("GET", "requests", op=str, path=str, method=str)
def _requests(backend: Backend, args: Arguments) -> dict[str, Any]:
    found = backend.requests.all(args.get("op"), path=args.get("path"), method=args.get("method"))
    return {"count": len(found), "requests": [record.as_json() for record in found]}


@_control("POST", "reset")
def _reset(backend: Backend, args: Arguments) -> dict[str, Any]:
    backend.reset()
    return _time(backend)


@_control("POST", "seed", seed=str, at=str)
def _seed(backend: Backend, args: Arguments) -> dict[str, Any]:
    backend.seed(_needed(args, "seed"), _moment(args) or SEED_TIME)
    return _time(backend)


@_control("POST", "freeze", at=str)
def _freeze(backend: Backend, args: Arguments) -> dict[str, Any]:
    backend.now.freeze(_moment(args))
    return _time(backend)


@_control("POST", "advance", seconds=_NUMBER)
def _advance(backend: Backend, args: Arguments) -> dict[str, Any]:
    backend.now.advance(_needed(args, "seconds"))
    return _time(backend)


@_control("POST", "unfreeze")
def _unfreeze(backend: Backend, args: Arguments) -> dict[str, Any]:
    backend.now.unfreeze()
    return _time(backend)


@_control("POST", "delay", seconds=_NUMBER, op=str, path=str, method=str, times=int)
def _delay(backend: Backend, args: Arguments) -> dict[str, Any]:
    return backend.faults.delay(_needed(args, "seconds"), **_without(args, "seconds")).as_json()


@_control(
    "POST",
    "fail",
    status=int,
    op=str,
    path=str,
    method=str,
    times=int,
    message=str,
    retry_after=_NUMBER,
)
def _fail(backend: Backend, args: Arguments) -> dict[str, Any]:
    return backend.faults.fail(**args).as_json()


@_control("POST", "cut", after_bytes=int, op=str, path=str, method=str, times=int)
def _cut(backend: Backend, args: Arguments) -> dict[str, Any]:
    return backend.faults.cut(**args).as_json()


@_control("DELETE", "faults")
def _clear_faults(backend: Backend, args: Arguments) -> dict[str, Any]:
    backend.faults.clear()
    return {"faults": []}


@_control("POST", "revoke", key=str)
def _revoke(backend: Backend, args: Arguments) -> dict[str, Any]:
    with backend.store.write() as conn:
        known = api_keys.revoke(conn, _needed(args, "key"))
    return _known(known)


@_control("POST", "expire", key=str)
def _expire(backend: Backend, args: Arguments) -> dict[str, Any]:
    with backend.store.write() as conn:
        known = api_keys.expire(conn, _needed(args, "key"), backend.now())
    return _known(known)


@_control("POST", "identity-token", username=str, seconds=_NUMBER, audience=str, access_seconds=int)
def _identity_token(backend: Backend, args: Arguments) -> dict[str, Any]:
    return {"token": identity_tokens.issue(backend, args.pop("username", DEFAULT_USER), **args)}


@_control("POST", "distrust-identity-tokens")
def _distrust(backend: Backend, args: Arguments) -> dict[str, Any]:
    identity_tokens.distrust(backend)
    return {}


@_control("POST", "webhook", name=str, url=str, secret=str, secret_name=str, access_token=str, entity=str)
def _webhook(backend: Backend, args: Arguments) -> dict[str, Any]:
    _needed(args, "name")
    _needed(args, "url")
    return administration.control_webhook(backend, args)


@_control("POST", "slack", workspace=str, channel=str, entity=str)
def _slack(backend: Backend, args: Arguments) -> dict[str, Any]:
    _needed(args, "workspace")
    _needed(args, "channel")
    return administration.control_slack(backend, args)


@_control("POST", "settle", timeout=_NUMBER)
def _settle(backend: Backend, args: Arguments) -> dict[str, Any]:
    timeout = args.get("timeout", 0.0)
    if not 0 <= timeout <= MAX_SETTLE_SECONDS:
        raise GraphQLError(f"timeout must be from 0 to {MAX_SETTLE_SECONDS:g}, not {timeout!r}.")
    return administration.control_settle(backend, args)


@_control("GET", "deliveries", automation=str)
def _deliveries(backend: Backend, args: Arguments) -> dict[str, Any]:
    return administration.control_deliveries(backend, args)


async def _answer(request: Request) -> Response:
    name = request.path_params["name"]
    try:
        await run_in_threadpool(_permit, request)
        if (request.method, name) == ("POST", "away"):
            return await _go_away(request)
        control, takes = _find(request.method, name)
        args = _checked(await _arguments(request), takes)
        return JSONResponse(await run_in_threadpool(control, backend_of(request), args))
    except GraphQLError as error:
        return error_response(error)
    except (ValueError, OverflowError) as error:
        # Also what is found only when the answer is put into JSON.
        return error_response(GraphQLError(f"{error}."))


async def _go_away(request: Request) -> Response:
    args = _checked(await _arguments(request), {"seconds": _NUMBER})
    seconds = _needed(args, "seconds")
    if not 0 <= seconds <= MAX_AWAY_SECONDS:
        raise GraphQLError(f"seconds must be from 0 to {MAX_AWAY_SECONDS:g}, not {seconds!r}.")
    away: Away = request.app.state.away
    return JSONResponse({"seconds": seconds}, 202, background=BackgroundTask(away, seconds))


def _permit(request: Request) -> None:
    """Raise a 403 unless this client may control the server."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise GraphQLError(f"controls cannot be used from the web page {origin!r}.", 403)
    if request.app.state.loopback:
        return
    backend = backend_of(request)
    user = authenticate(backend.store, request.headers.get("authorization"), backend.now())
    if not user.administers:
        raise GraphQLError(
            f"user {user.username!r} may not control this server, which other machines can reach: use the API key of"
            " an administrator.",
            403,
        )


def _find(method: str, name: str) -> tuple[Control, Mapping[str, Any]]:
    found = _CONTROLS.get((method, name))
    if found is None:
        known = ", ".join(
            f"{verb} {CONTROL_PREFIX}/{control}" for verb, control in [*_CONTROLS, ("POST", "away")]
        )
        raise GraphQLError(f"there is no control {method} {CONTROL_PREFIX}/{name}. There are: {known}.", 404)
    return found


async def _arguments(request: Request) -> Arguments:
    if request.method == "GET":
        return dict(request.query_params)
    body = await read_body(request)
    return parse_object(body) if body else {}


def _checked(args: Arguments, takes: Mapping[str, Any]) -> Arguments:
    unknown = sorted(set(args) - set(takes))
    if unknown:
        raise GraphQLError(f"this control does not take {unknown}; it takes {sorted(takes)}.")
    for name, value in args.items():
        # JSON's true is an int to Python; null means what the absence of the argument means, except for times.
        if value is not None and (isinstance(value, bool) or not isinstance(value, takes[name])):
            raise GraphQLError(f"{name} is {json.dumps(value)}, which is of the wrong type.")
        if isinstance(value, str) and valid_text(value) != value:
            raise GraphQLError(
                f"{name} is {json.dumps(value)}, which is no text: it has half a surrogate pair."
            )
    return {name: value for name, value in args.items() if value is not None or name == "times"}


def _needed(args: Arguments, name: str) -> Any:
    if name not in args:
        raise GraphQLError(f"this control needs {name!r}.")
    return args[name]


def _without(args: Arguments, name: str) -> Arguments:
    return {key: value for key, value in args.items() if key != name}


def _moment(args: Arguments) -> datetime | None:
    return parse_time(args["at"]) if "at" in args else None


def _time(backend: Backend) -> dict[str, Any]:
    return {"now": backend.now().isoformat(), "frozen": backend.now.frozen}


def _known(known: bool) -> dict[str, Any]:
    if not known:
        raise GraphQLError("this server does not know that key: it may have been revoked.", 404)
    return {"changed": 1}


routes: list[BaseRoute] = [
    Route(CONTROL_PREFIX + "/{name:path}", _answer, methods=["GET", "POST", "DELETE"]),
]
