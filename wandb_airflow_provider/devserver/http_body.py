"""Request bodies: read whole with a limit, unpacked when gzipped."""

from __future__ import annotations

import json
import zlib
from typing import Any

from starlette.requests import Request

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

MAX_BODY_BYTES = 256 << 20


async def read_body(request: Request) -> bytes:
    """
    Return the body of a request.

    :raises GraphQLError: 400 if it is over ``MAX_BODY_BYTES``, also once unpacked, or is not valid gzip.
    """
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise GraphQLError(f"the body is larger than {MAX_BODY_BYTES} bytes.")
        pieces.append(piece)
    body = b"".join(pieces)
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "gzip":
        return _gunzip(body)
    if encoding != "identity":
        raise GraphQLError(f"Content-Encoding {encoding!r} is not supported: send gzip or nothing.")
    return body


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body, or raise a 400."""
    try:
        value = json.loads(body)
    except ValueError as error:
        raise GraphQLError(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise GraphQLError("the body is not valid JSON: it is nested too deeply.") from error
    if not isinstance(value, dict):
        raise GraphQLError(f"the body must be a JSON object, not {type(value).__name__}.")
    return value


def _gunzip(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise GraphQLError(f"the body is not valid gzip: {error}") from error
    if len(data) > MAX_BODY_BYTES:
        raise GraphQLError(f"the body unpacks to more than {MAX_BODY_BYTES} bytes.")
    if not unpacker.eof:
        raise GraphQLError("the body is not valid gzip: its end is missing.")
    return data
