from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from wandb_airflow_provider.devserver.auth import DEFAULT_API_KEY, find_account
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.graphql import registry
from wandb_airflow_provider.devserver.graphql.executor import execute, operation_name
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    built = Backend(
        tmp_path_factory.mktemp("backend"),
        api_key=DEFAULT_API_KEY,
        teams=(),
        seed="tests",
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
    )
    yield built
    built.close()


@pytest.fixture
def ctx(backend: Backend) -> RequestContext:
    with backend.store.read() as conn:
        user = find_account(conn, "dev")
    assert user is not None
    return backend.context(user, "http://server")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small zoo of resolvers instead of the real ones."""
    for table in ("QUERIES", "MUTATIONS", "FIELDS", "INTERFACES", "DECLARED_FIELDS"):
        monkeypatch.setattr(registry, table, {})

    @registry.query("cat")
    def cat(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
        return {"__typename": "Cat", "name": args.get("name", "Tom"), "tags": args.get("tags"), "args": args}

    @registry.query("zoo")
    def zoo(
        ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]
    ) -> list[dict[str, Any] | None]:
        return [
            {"__typename": "Cat", "name": "Tom"},
            None,
            {"__typename": "Dog", "name": "Rex", "barks": True},
        ]

    @registry.query("broken")
    def broken(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> None:
        raise KeyError("oops")

    @registry.mutation("adopt")
    def adopt(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
        return {"__typename": "AdoptPayload", "args": args}

    @registry.mutation("vanish")
    def vanish(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> None:
        return None

    @registry.field("Cat", "friend")
    def friend(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
        return {"__typename": "Dog", "name": f"friend of {parent['name']}"}

    @registry.field("Pet", "legs")
    def legs(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> int:
        return 4

    registry.implements("Cat", "Pet")
    registry.implements("Dog", "Pet")
    registry.declare("CatInput", "name", "colour")


def run(
    ctx: RequestContext, backend: Backend, source: str, variables: Any = None, name: str | None = None
) -> Any:
    backend.unknown.clear()
    return execute(ctx, source, variables or {}, name, backend.unknown)


@pytest.mark.parametrize(
    ("source", "variables", "data"),
    [
        ("{ cat { name } }", {}, {"cat": {"name": "Tom"}}),
        (
            '{ a: cat(name: "A") { n: name } b: cat { __typename } }',
            {},
            {"a": {"n": "A"}, "b": {"__typename": "Cat"}},
        ),
        ('query Q($n: String = "Max") { cat(name: $n) { name } }', {}, {"cat": {"name": "Max"}}),
        ('query Q($n: String = "Max") { cat(name: $n) { name } }', {"n": "Leo"}, {"cat": {"name": "Leo"}}),
        ("query Q($n: String) { cat(name: $n) { name } }", {}, {"cat": {"name": "Tom"}}),
        ("query Q($t: [String!]!) { cat(tags: $t) { tags } }", {"t": "{}"}, {"cat": {"tags": ["{}"]}}),
        ("query Q($t: [String!]) { cat(tags: $t) { tags } }", {"t": None}, {"cat": {"tags": None}}),
        (
            'query Q($x: String) { cat(tags: ["a", $x]) { tags } }',
            {"x": "b"},
            {"cat": {"tags": ["a", "b"]}},
        ),
        (
            "query Q($y: Boolean!) { cat { name @include(if: $y) legs @skip(if: $y) } }",
            {"y": True},
            {"cat": {"name": "Tom"}},
        ),
        (
            "query Q($y: Boolean!) { cat { ...F @include(if: $y) legs } } fragment F on Cat { name }",
            {"y": False},
            {"cat": {"legs": 4}},
        ),
        (
            "{ cat { ...F } } fragment F on Cat { ...G name } fragment G on Pet { legs }",
            {},
            {"cat": {"legs": 4, "name": "Tom"}},
        ),
        (
            "{ cat { friend { name } friend { legs } } }",
            {},
            {"cat": {"friend": {"name": "friend of Tom", "legs": 4}}},
        ),
        (
            "{ zoo { name ... on Dog { barks } } }",
            {},
            {"zoo": [{"name": "Tom"}, None, {"name": "Rex", "barks": True}]},
        ),
        ("{ zoo { ... on Pet { legs } } }", {}, {"zoo": [{"legs": 4}, None, {"legs": 4}]}),
        (
            "mutation M($i: AdoptInput!) { adopt(input: $i) { args } }",
            {"i": {"name": "Tom"}},
            {"adopt": {"args": {"name": "Tom"}}},
        ),
        (
            "mutation M($n: String) { adopt(input: {name: $n, age: 3}) { args } }",
            {},
            {"adopt": {"args": {"age": 3}}},
        ),
        (
            '{ __type(name: "CatInput") { inputFields { name } } }',
            {},
            {"__type": {"inputFields": [{"name": "colour"}, {"name": "name"}]}},
        ),
        ('{ __type(name: "Unheard") { name } }', {}, {"__type": None}),
    ],
)
def test_document_is_answered(
    ctx: RequestContext, backend: Backend, source: str, variables: Any, data: Any
) -> None:
    assert run(ctx, backend, source, variables) == data


@pytest.mark.parametrize(
    ("source", "variables", "message"),
    [
        (
            "query Look { cats { name } }",
            {},
            r"does not know query 'cats' \(operation 'Look'\).*Nearest.*cat",
        ),
        ("mutation M { adoptt(input: {}) { args } }", {}, "does not know mutation 'adoptt'.*adopt"),
        ("query Q($n: String!) { cat(name: $n) { name } }", {}, r"\$n is required"),
        ("query Q($n: String!) { cat(name: $n) { name } }", {"n": None}, r"\$n is required"),
        ("{ cat { ...Missing } }", {}, "fragment 'Missing', which it does not define"),
        ("{ cat {", {}, "cannot be parsed"),
        ("query A { cat { name } } query B { cat { name } }", {}, "operationName must name one"),
        ("{ broken }", {}, "internal error in Query.broken: KeyError: 'oops'"),
        ("mutation { vanish { x } }", {}, "'vanish' answered with nothing"),
        ("{ cat { name { first } } }", {}, "Cat.name is a str"),
        ("subscription S { cat { name } }", {}, "subscriptions are not supported"),
    ],
)
def test_wrong_document_is_refused_with_the_reason(
    ctx: RequestContext, backend: Backend, source: str, variables: Any, message: str
) -> None:
    with pytest.raises(GraphQLError, match=message) as refused:
        run(ctx, backend, source, variables)
    assert refused.value.status == 400


def test_unknown_field_is_null_and_counted(ctx: RequestContext, backend: Backend) -> None:
    data = run(ctx, backend, "{ cat { name fur { colour } clientMutationId } zoo { fur { colour } } }")
    assert data["cat"] == {"name": "Tom", "fur": None, "clientMutationId": None}
    assert backend.unknown.fields() == {"Cat.fur": 2, "Dog.fur": 1}


def test_unknown_root_field_is_counted_under_its_operation(ctx: RequestContext, backend: Backend) -> None:
    with pytest.raises(GraphQLError):
        run(ctx, backend, "query Look { cats { name } }")
    assert backend.unknown.operations() == {"Look.cats": 1}


def test_operation_is_chosen_by_name_and_empty_means_the_only_one(
    ctx: RequestContext, backend: Backend
) -> None:
    both = 'query A { cat(name: "a") { name } } query B { cat(name: "b") { name } }'
    assert run(ctx, backend, both, name="B") == {"cat": {"name": "b"}}
    assert run(ctx, backend, "query A { cat { name } }", name="") == {"cat": {"name": "Tom"}}
    assert operation_name("query A { cat { name } }") == "A"
    with pytest.raises(GraphQLError, match="no operation 'C'"):
        run(ctx, backend, both, name="C")


def test_connection_pages_forward_and_backward() -> None:
    items = [{"n": n} for n in range(5)]
    first = registry.connection(items, {"first": 2})
    assert [edge["node"]["n"] for edge in first["edges"]] == [0, 1]
    assert (first["pageInfo"]["hasNextPage"], first["totalCount"]) == (True, 5)
    second = registry.connection(items, {"first": 3, "after": first["pageInfo"]["endCursor"]})
    assert [edge["node"]["n"] for edge in second["edges"]] == [2, 3, 4]
    assert second["pageInfo"]["hasNextPage"] is False
    assert [edge["node"]["n"] for edge in registry.connection(items, {"last": 2})["edges"]] == [3, 4]
    with pytest.raises(GraphQLError, match="Invalid paging cursor"):
        registry.connection(items, {"after": "zzz"})


def test_resolver_is_registered_once() -> None:
    with pytest.raises(ValueError, match="already has the resolver"):
        registry.query("cat")(lambda ctx, parent, args: None)


def test_failed_write_leaves_nothing_behind(backend: Backend) -> None:
    def write_twice() -> None:
        with backend.store.write() as conn:
            conn.execute("INSERT INTO meta VALUES ('kept', '1')")
            conn.execute("INSERT INTO meta VALUES ('kept', '2')")

    with pytest.raises(sqlite3.IntegrityError):
        write_twice()
    assert backend.store.get_meta("kept") is None


def test_blob_is_stored_once_under_its_digest_and_an_unfinished_one_leaves_nothing(
    backend: Backend, tmp_path: Path
) -> None:
    first, second = backend.blobs.put(b"content"), backend.blobs.put(b"content")
    assert first == second
    assert backend.blobs.read(first.md5) == b"content"
    with backend.blobs.writer() as writer:
        writer.write(b"half")
    assert list((backend.blobs.root / "incoming").iterdir()) == []
    with pytest.raises(ValueError, match="not a hex MD5"):
        backend.blobs.path("../../etc/passwd")
