"""Request bodies: read whole with a limit, unpacked when gzipped."""

from __future__ import annotations

import json
import zlib
from typing import Any

from starlette.requests import Request

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

MAX_BODY_BYTES = 256 << 20


async def read_body(request: Request, limit: int | None = None) -> bytes:
    """
    Return the body of a request.

    :param limit: Its most bytes, also once unpacked; by default ``MAX_BODY_BYTES``.
    :raises GraphQLError: 400 if it is over the limit or is not valid gzip.
    """
    limit = MAX_BODY_BYTES if limit is None else limit
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise GraphQLError(f"the body is larger than {limit} bytes.")
        pieces.append(piece)
    body = b"".join(pieces)
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "gzip":
        return _gunzip(body, limit)
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


def _gunzip(body: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise GraphQLError(f"the body is not valid gzip: {error}") from error
    if len(data) > limit:
        raise GraphQLError(f"the body unpacks to more than {limit} bytes.")
    if not unpacker.eof:
        raise GraphQLError("the body is not valid gzip: its end is missing.")
    return data
