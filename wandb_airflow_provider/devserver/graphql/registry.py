"""
The registry of resolvers, and what every resolver receives.

A resolver is ``def f(ctx, parent, args) -> Any``. Objects are plain mappings with a ``__typename``. A field is
answered by the resolver registered for (type, field), else by the mapping's key, else with null, counted as
unknown. Root fields must be registered: an unknown one is an error which names it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from wandb_airflow_provider.devserver.auth import Account
    from wandb_airflow_provider.devserver.blobs import BlobStore
    from wandb_airflow_provider.devserver.ids import IdSource
    from wandb_airflow_provider.devserver.store import Store
    from wandb_airflow_provider.devserver.uploads import UrlSigner


@dataclass(frozen=True)
class RequestContext:
    """What a resolver may use: storage, who asks, and the clock."""

    store: Store
    blobs: BlobStore
    user: Account
    base_url: str
    ids: IdSource
    now: Callable[[], datetime]
    signer: UrlSigner
    operation: str = ""
    memo: dict[Any, Any] = dataclass_field(default_factory=dict, compare=False)


class GraphQLError(Exception):
    """
    A request refused for a reason that the caller should read.

    :param status: HTTP status: 400, 401, 403 or 404. Clients retry 5xx, 408 and 429 for minutes, and 409 when they
        open a run, so these are not used; 409 only says that the name of an automation is taken.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


Resolver = Callable[[RequestContext, Mapping[str, Any], dict[str, Any]], Any]
F = TypeVar("F", bound=Resolver)

QUERIES: dict[str, Resolver] = {}
MUTATIONS: dict[str, Resolver] = {}
FIELDS: dict[tuple[str, str], Resolver] = {}
INTERFACES: dict[str, set[str]] = {}
DECLARED_FIELDS: dict[str, set[str]] = {}


def query(name: str) -> Callable[[F], F]:
    """Register the resolver of a root query field."""
    return _adder(QUERIES, name)


def mutation(name: str) -> Callable[[F], F]:
    """Register the resolver of a mutation; the fields of its ``input`` arrive merged into the arguments."""
    return _adder(MUTATIONS, name)


def field(type_name: str, name: str) -> Callable[[F], F]:
    """Register the resolver of one field of an object type or of an interface."""
    return _adder(FIELDS, (type_name, name))


def _adder(table: dict[Any, Resolver], key: Any) -> Callable[[F], F]:
    def add(resolver: F) -> F:
        if key in table:
            raise ValueError(f"{key!r} already has the resolver {table[key].__qualname__}")
        table[key] = resolver
        return resolver

    return add


def implements(type_name: str, *interfaces: str) -> None:
    """Declare that an object type also matches inline fragments on ``interfaces``."""
    INTERFACES.setdefault(type_name, set()).update(interfaces)


def declare(type_name: str, *fields: str) -> None:
    """
    Name fields (of an object) or inputs (of an input type) that introspection shall list.

    Needed only where a client asks for a type's fields before it uses them; registered resolvers are listed
    without this.
    """
    DECLARED_FIELDS.setdefault(type_name, set()).update(fields)


def type_names(type_name: str) -> Iterable[str]:
    """Return the type itself, then the interfaces that it implements."""
    yield type_name
    yield from INTERFACES.get(type_name, ())


def find_field(type_name: str, name: str) -> Resolver | None:
    """Return the resolver registered for a field of a type or of one of its interfaces."""
    for candidate in type_names(type_name):
        resolver = FIELDS.get((candidate, name))
        if resolver is not None:
            return resolver
    return None


def connection(
    items: Sequence[Any],
    args: Mapping[str, Any],
    total: int | None = None,
    typename: str = "Connection",
    edge: Callable[[Any], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """
    Page through ``items`` as a GraphQL connection (arguments ``first``, ``after``, ``last``, ``before``).

    :param total: If given, ``items`` is already the page that :func:`page_bounds` asked for and ``total`` counts
        all of them.
    :param edge: Makes extra keys of an edge from an item.
    """
    start, stop = page_bounds(args, len(items) if total is None else total)
    page = items[start:stop] if total is None else items
    count = len(items) if total is None else total
    edges = [
        {
            "__typename": "Edge",
            "node": item,
            "cursor": cursor(start + position + 1),
            **(edge(item) if edge else {}),
        }
        for position, item in enumerate(page)
    ]
    return {
        "__typename": typename,
        "edges": edges,
        "pageInfo": {
            "__typename": "PageInfo",
            "hasNextPage": start + len(page) < count,
            "hasPreviousPage": start > 0,
            "startCursor": cursor(start + 1) if edges else None,
            "endCursor": cursor(start + len(page)) if edges else None,
        },
        "totalCount": count,
    }


def page_bounds(args: Mapping[str, Any], count: int) -> tuple[int, int]:
    """Return the half-open range of positions that the paging arguments ask for out of ``count`` items."""
    start, stop = 0, count
    if args.get("after"):
        start = min(_position(args["after"]), count)
    if args.get("before"):
        stop = max(start, min(_position(args["before"]) - 1, count))
    if args.get("first") is not None:
        stop = min(stop, start + max(int(args["first"]), 0))
    if args.get("last") is not None:
        start = max(start, stop - max(int(args["last"]), 0))
    return start, stop


def cursor(position: int) -> str:
    """Return the opaque cursor behind the item at a 1-based position."""
    return base64.b64encode(f"cursor:{position}".encode()).decode()


def _position(value: str) -> int:
    try:
        return int(base64.b64decode(value, validate=True).decode().removeprefix("cursor:"))
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise GraphQLError(
            f"Invalid paging cursor {value!r}: use a cursor from an earlier answer."
        ) from error
