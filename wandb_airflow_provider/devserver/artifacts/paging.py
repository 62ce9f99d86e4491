"""
Pages of lists that change while they are read.

A cursor holds the sort key of the item before it rather than its position, so that a version that is logged or deleted
between two pages makes no other one appear twice or be left out.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wandb_airflow_provider.devserver.artifacts import search
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

Document = Mapping[str, Any]
Node = dict[str, Any]


def page(
    documents: Sequence[Document],
    args: Mapping[str, Any],
    node: Callable[[Document], Node],
    *,
    default: str,
    known: Sequence[str],
    typename: str,
    edge: Callable[[Document], Node] | None = None,
) -> Node:
    """
    Return one page of documents as a GraphQL connection.

    :param args: ``order``, and ``first``, ``after``, ``last``, ``before``.
    :param node: Makes the object of a document.
    :param default: The order if none is asked for, such as ``-version_index``; its field is a different one in each
        document and decides between those that are equal otherwise.
    :param known: Fields that may be ordered by.
    :param edge: Makes extra keys of an edge.
    """
    order = args.get("order") or default
    fields = (search.field_of(order, known), default.lstrip("+-"))
    backwards = order.startswith("-")
    keyed = sorted(
        (([search.sort_key(document.get(field)) for field in fields], document) for document in documents),
        key=lambda item: item[0],
        reverse=backwards,
    )
    try:
        start, stop = _bounds([key for key, _ in keyed], backwards, args)
    except TypeError as error:
        raise GraphQLError("Invalid paging cursor: it comes from a list in another order.") from error
    edges = [
        {
            "__typename": "Edge",
            "node": node(document),
            "cursor": _cursor(key),
            **(edge(document) if edge else {}),
        }
        for key, document in keyed[start:stop]
    ]
    return {
        "__typename": typename,
        "edges": edges,
        "pageInfo": {
            "__typename": "PageInfo",
            "hasNextPage": stop < len(keyed),
            "hasPreviousPage": start > 0,
            "startCursor": edges[0]["cursor"] if edges else None,
            "endCursor": edges[-1]["cursor"] if edges else None,
        },
        "totalCount": len(keyed),
    }


def _bounds(keys: list[list[Any]], backwards: bool, args: Mapping[str, Any]) -> tuple[int, int]:
    start, stop = 0, len(keys)
    if args.get("after"):
        limit = _key_in(args["after"])
        start = sum(key >= limit if backwards else key <= limit for key in keys)
    if args.get("before"):
        limit = _key_in(args["before"])
        stop = sum(key > limit if backwards else key < limit for key in keys)
    if args.get("first") is not None:
        stop = min(stop, start + max(int(args["first"]), 0))
    if args.get("last") is not None:
        start = max(start, stop - max(int(args["last"]), 0))
    return start, max(start, stop)


def _cursor(key: list[Any]) -> str:
    return base64.b64encode(json.dumps(key).encode()).decode()


def _key_in(cursor: str) -> list[Any]:
    try:
        (has_value, value), (has_tie, tie) = json.loads(base64.b64decode(cursor, validate=True))
    except (binascii.Error, UnicodeDecodeError, ValueError, TypeError) as error:
        raise GraphQLError(
            f"Invalid paging cursor {cursor!r}: use a cursor from an earlier answer."
        ) from error
    return [(bool(has_value), value), (bool(has_tie), tie)]
