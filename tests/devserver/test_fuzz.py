"""Whatever is sent, the answer is a 4xx with a message or an ordinary answer, and nothing is written elsewhere."""

from __future__ import annotations

import gzip
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import wandb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from wandb_airflow_provider.devserver import DevServer, app, controls, pages
from wandb_airflow_provider.devserver.artifacts.routes import routes as artifact_routes
from wandb_airflow_provider.devserver.graphql import registry
from wandb_airflow_provider.devserver.resolvers import load_resolvers

load_resolvers()

GENERATED = ("wandb.apis._generated", "wandb.sdk.artifacts._generated", "wandb.automations._generated")
DOCUMENTS: dict[str, str] = {
    name: document
    for package in GENERATED
    for name, document in sorted(vars(importlib.import_module(f"{package}.operations")).items())
    if name.endswith("_GQL")
}
INPUTS: dict[str, Any] = {
    name: model
    for package in GENERATED
    for name, model in vars(importlib.import_module(f"{package}.input_types")).items()
    if isinstance(model, type) and hasattr(model, "model_fields")
}
OPERATIONS = [
    *(("query", name) for name in registry.QUERIES),
    *(("mutation", name) for name in registry.MUTATIONS),
]
ROUTES = sorted(
    {route.path for route in [*app.CORE_ROUTES, *artifact_routes, *pages.routes] if isinstance(route, Route)}
)
ARGUMENTS = sorted(
    {name for document in DOCUMENTS.values() for name in re.findall(r"(\w+): \$", document)}
    | {field.alias or name for model in INPUTS.values() for name, field in model.model_fields.items()}
)

# Text that has broken servers before, ids and cursors among it; "@run" becomes the id of a run that exists.
TEXTS = [
    "@run", "@artifact", "@sequence", "@portfolio", "@project", "@registry", "@user",
    "", " ", "p", "r", "local", "local-org", "dev", "wandb-registry-model", "wandb-registry-", "v0", "a:v0", "a/b",
    "..", "../../etc/passwd", "/etc/passwd", "%2e%2e%2f", "a\x00b", "' OR 1=1 --", '"', "<script>", "%", "%s%n",
    "{", "[]", "{}", "null", "-1", "1e999", "NaN", '{"$or": 3}', '{"$and": [[]]}', '{"a": {"$gt": {}}}',
    '{"$regex": "("}', '{"name": {"$regex": "(a+)+$"}}', '{"x": [NaN, 1e999, 1]}', '{"x": "\\ud800"}',
    '{"airflow": {"value": {"triggered_by": ["x"]}}}', '{"_wandb": {"value": {"m": "[", "t": 1, "branch_point": 1}}}',
    '{"_wandb": [1]}', '{"_step": Infinity}', '{"_step": "x"}', "[" * 500 + "]" * 500,
    "Q3Vyc29yOjE=", "Y3Vyc29yOi01", "VXNlcjox", "UHJvamVjdDp2MTpwOmxvY2Fs", "+x",
    "UnVuOnYxOnI6cDpsb2NhbA==", "-summary_metrics.x", "\ud7ff", "é" * 40, "x" * 5000, "2026-13-45T99:99:99",
]  # fmt: skip
IDS: dict[str, str] = {}
# Values that lead further into a resolver than text of chance does.
FIT: dict[str, Any] = {
    "id": "@run", "entityName": "local", "projectName": "p", "modelName": "p", "runName": "r", "name": "r",
    "artifactID": "@artifact", "artifactSequenceID": "@sequence", "artifactPortfolioID": "@portfolio",
    "projectId": "@registry", "userId": "@user", "clientID": "c", "digest": "d" * 32, "config": "{}",
    "artifactTypeName": "model", "artifactCollectionName": "a", "artifactCollectionNames": ["a"],
    "first": 2, "files": ["f"], "state": "running", "metricName": "_step", "metricValue": 0, "type": "FULL",
    "spec": "{}", "filters": "{}", "scopeType": "PROJECT", "scopeID": "@project", "userIds": ["@user"],
}  # fmt: skip
# Where fields of objects can be asked for.
PARENTS = {
    "Project": '{ project(name: "p", entityName: "local") { ... } }',
    "Run": '{ project(name: "p", entityName: "local") { run(name: "r") { ... } } }',
    "Artifact": '{ project(name: "p", entityName: "local") { artifact(name: "a:v0") { ... } } }',
    "ArtifactType": '{ project(name: "p", entityName: "local") { artifactType(name: "model") { ... } } }',
    "ArtifactCollection": '{ project(name: "p", entityName: "local") { artifactCollection(name: "a") { ... } } }',
    "Entity": '{ entity(name: "local") { ... } }',
    "Organization": '{ organization(name: "local-org") { ... } }',
    "User": "{ viewer { ... } }",
}
# Which JSON can hold and no encoding can.
HALVES = ["\ud800", "half \udcff"]
text = st.one_of(st.sampled_from([*TEXTS, *HALVES]), st.text(max_size=20))
scalar = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([0, -1, 2**31, 2**63, 10**30]), st.floats(), text
)
anything = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=6
)
rows = st.dictionaries(text | st.sampled_from(["_step", "_runtime", "_timestamp"]), anything, max_size=4)
bounded = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "canary").write_text("alive")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with DevServer(folder / "outer" / "data") as server:
        run_settings = wandb.Settings(base_url=server.url, api_key=server.api_key, console="off", silent=True)
        (folder / "logged").mkdir()
        with wandb.init(
            project="p", entity="local", id="r", dir=folder / "logged", settings=run_settings
        ) as run:
            artifact = wandb.Artifact("a", type="model")
            with artifact.new_file("f") as file:
                file.write("x")
            run.log({"x": 1})
            linked = run.link_artifact(run.log_artifact(artifact), "wandb-registry-model/a")
        before = tree(folder)
        with httpx.Client(base_url=server.url, auth=("api", server.api_key), timeout=60) as client:
            _learn_ids(client, linked)
            yield client
        assert tree(folder) == before, "something was written outside of the data folder"
        assert (folder / "canary").read_text() == "alive"
        wandb.teardown()


def _learn_ids(client: httpx.Client, linked: wandb.Artifact) -> None:
    document = """{ project(name: "p", entityName: "local") { id run(name: "r") { id } } viewer { id }
        model(name: "wandb-registry-model", entityName: "local-org") { id } }"""
    data = post(client, {"query": document}).json()["data"]
    IDS.update(
        {
            "@run": data["project"]["run"]["id"],
            "@project": data["project"]["id"],
            "@registry": data["model"]["id"],
            "@user": data["viewer"]["id"],
            "@artifact": linked.id,
            "@portfolio": linked.collection.id,
            "@sequence": linked.source_collection.id,
        }
    )


def tree(folder: Path) -> set[str]:
    """All files around the server's data, but not in it."""
    data = folder / "outer" / "data"
    return {str(path) for path in folder.rglob("*") if data not in (path, *path.parents)}


def checked(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text[:2000]
    assert "Traceback" not in answer.text
    if (
        answer.status_code >= 400
        and answer.content
        and answer.headers["content-type"].startswith("application/json")
    ):
        assert answer.json()["error"]
    assert "internal error" not in answer.text, answer.text[:2000]


def post(client: httpx.Client, body: Any) -> httpx.Response:
    sent = json.dumps(body)
    for sign, found in IDS.items():
        sent = sent.replace(json.dumps(sign), json.dumps(found))
    return client.post("/graphql", content=sent, headers={"Content-Type": "application/json"})


def typed(kind: str) -> st.SearchStrategy[Any]:
    """Values that a declared GraphQL type allows."""
    required = kind.endswith("!")
    kind = kind.removesuffix("!")
    if kind.startswith("["):
        values: st.SearchStrategy[Any] = st.lists(typed(kind[1:-1]), max_size=3)
    elif kind in INPUTS:
        values = inputs(kind)
    elif kind == "Int":
        values = st.sampled_from([0, 1, 2, -1, 50, 2**31 - 1])
    elif kind == "Float":
        values = st.floats(allow_nan=False, allow_infinity=False)
    elif kind == "Boolean":
        values = st.booleans()
    else:
        values = text
    return values if required else st.none() | values


def inputs(kind: str) -> st.SearchStrategy[Any]:
    """Objects of an input type: its required fields, and some of the others, each of its type."""
    needed, others = {}, {}
    for name, field in INPUTS[kind].model_fields.items():
        target = needed if field.is_required() else others
        target[field.alias or name] = annotated(field.annotation)
    return st.fixed_dictionaries(needed, optional=others)


def annotated(annotation: Any) -> st.SearchStrategy[Any]:
    shown = str(annotation)
    known = next((name for name in INPUTS if re.search(rf"\b{name}\b", shown)), None)
    if known is not None:
        many = st.lists(st.deferred(lambda: inputs(known)), max_size=2)
        return many if "list" in shown.lower() else inputs(known)
    one: st.SearchStrategy[Any] = text
    if "bool" in shown:
        one = st.booleans()
    elif "int" in shown:
        one = st.integers(-2, 100)
    elif "float" in shown:
        one = st.floats(allow_nan=False, allow_infinity=False)
    return st.lists(one, max_size=3) if "list" in shown.lower() else one


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_documents_of_the_sdk_with_any_values_of_the_right_type(client: httpx.Client, name: str) -> None:
    document = DOCUMENTS[name]
    head = document[: document.index("{")]
    kinds = dict(re.findall(r"\$(\w+): ([\[\]\w!]+)", head))

    @settings(bounded, max_examples=8)
    @given(st.fixed_dictionaries({variable: typed(kind) for variable, kind in kinds.items()}))
    def send(variables: dict[str, Any]) -> None:
        checked(post(client, {"query": document, "variables": variables}))

    send()


@pytest.mark.parametrize(("kind", "operation"), OPERATIONS)
def test_every_operation_with_arguments_of_any_type(client: httpx.Client, kind: str, operation: str) -> None:
    table = registry.QUERIES if kind == "query" else registry.MUTATIONS
    names = read_by(table[operation])

    @settings(bounded, max_examples=8)
    @given(
        st.lists(st.sampled_from(names), max_size=12).map(
            lambda given: {name: FIT.get(name, "p") for name in given}
        ),
        st.dictionaries(st.sampled_from(names), anything, max_size=2),
    )
    def send(fit: dict[str, Any], unfit: dict[str, Any]) -> None:
        arguments = fit | unfit
        signature, field = asked(operation, arguments)
        document = f"{kind} {signature} {{ {field} {{ __typename id name }} }}"
        checked(post(client, {"query": document, "variables": arguments}))

    send()


def read_by(resolver: registry.Resolver) -> list[str]:
    """Arguments that a resolver may read: those that its module names, or all."""
    source = inspect.getsource(inspect.getmodule(resolver) or registry)
    return sorted(set(re.findall(r'args(?:\.get\(|\[)"(\w+)"', source))) or ARGUMENTS


@pytest.mark.parametrize(
    ("kind", "name"), [field for field in sorted(registry.FIELDS) if field[0] in PARENTS]
)
def test_every_field_with_arguments_of_any_type(client: httpx.Client, kind: str, name: str) -> None:
    names = read_by(registry.FIELDS[kind, name])

    @settings(bounded, max_examples=4)
    @given(st.dictionaries(st.sampled_from(names), anything, max_size=3))
    def send(arguments: dict[str, Any]) -> None:
        signature, field = asked(name, arguments)
        document = f"query {signature} {PARENTS[kind].replace('...', f'{field} {{ __typename id name }}')}"
        checked(post(client, {"query": document, "variables": arguments}))

    send()


def asked(name: str, arguments: dict[str, Any]) -> tuple[str, str]:
    """The head of an operation, and a field of it, with arguments of no declared type."""
    declared = ", ".join(f"${argument}: Any" for argument in arguments)
    passed = ", ".join(f"{argument}: ${argument}" for argument in arguments)
    return (f"Q({declared})", f"{name}({passed})") if arguments else ("Q", name)


@bounded
@given(st.data())
def test_every_route_with_any_path_and_body(client: httpx.Client, data: st.DataObject) -> None:
    template = data.draw(st.sampled_from(ROUTES))
    method = data.draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"]))
    path = re.sub(
        r"\{[^}]*\}",
        lambda _: data.draw(st.sampled_from([*TEXTS, "f", "%2e%2e", "..%2f..%2fcanary"])),
        template,
    )
    url = httpx.URL(client.base_url).copy_with(raw_path=_raw(path or "/"))
    checked(client.request(method, url, content=data.draw(st.binary(max_size=200))))


def _raw(path: str) -> bytes:
    quoted = "".join(char if 33 <= ord(char) < 127 and char not in "#?" else _percent(char) for char in path)
    return quoted.encode()


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())


# They would end the test, or repeat what it has sent.
_UNFIT = ("reset", "seed", "fail", "cut", "delay", "revoke", "requests", "state")
BODIES = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda value: json.dumps(value).encode(), anything),
    st.builds(gzip.compress, st.binary(max_size=50)),
    st.sampled_from(
        [
            b'{"query": "\\ud800"}',
            b'{"query": "{a}", "operationName": "\\ud800"}',
            b"[" * 100_000,
            b'{"a":' * 50_000,
            b'{"query": "' + b"{a" * 20_000 + b'"}',
            b"\xff\xfe{}",
        ]
    ),
)


@bounded
@given(
    st.sampled_from(
        ["/graphql", "/files/local/p/r/file_stream", "/oidc/token", "/_control/advance", "/_control/expire"]
    ),
    BODIES,
    st.sampled_from(["gzip", "identity", "br", "GZIP", "deflate, gzip", ""]),
)
def test_every_endpoint_with_any_body_and_encoding(
    client: httpx.Client, path: str, body: bytes, encoding: str
) -> None:
    checked(client.post(path, content=body, headers={"Content-Encoding": encoding}))


@bounded
@given(
    st.dictionaries(st.sampled_from(["files", "complete", "exitcode", "uploaded", "preempting"]), anything)
)
def test_file_stream_with_any_values(client: httpx.Client, body: dict[str, Any]) -> None:
    checked(client.post("/files/local/p/r/file_stream", content=json.dumps(body)))


@bounded
@given(
    st.sampled_from(["wandb-history.jsonl", "wandb-summary.json", "output.log", "wandb-events.jsonl", "x"]),
    st.dictionaries(
        st.sampled_from(["offset", "content"]),
        st.integers() | st.lists(text | anything.map(json.dumps) | rows.map(json.dumps), max_size=3),
    ),
)
def test_file_stream_with_any_lines(client: httpx.Client, file: str, chunk: dict[str, Any]) -> None:
    answer = client.post("/files/local/p/r/file_stream", content=json.dumps({"files": {file: chunk}}))
    checked(answer)


@pytest.mark.parametrize(
    "document",
    [
        "{ " * 500 + "viewer" + " }" * 500,
        "query { viewer " + "{ teams { edges { node " * 400 + "{ id }" + " } } }" * 400 + " }",
        """fragment A on User { teams { edges { node { members { ...B } } } } } fragment B on Member { ...A }
        { viewer { ...A } }""",
        'fragment A on Project { entity { project(name: "p") { ...A } } } { project(name: "p") { ...A } }',
        "{ ...Missing }",
        "query A { viewer { id } } query B { viewer { id } }",
        "subscription { viewer { id } }",
        "{ viewer }",
        "{ viewer { id { name } } }",
        "{ viewer { _teams _x } }",
        "query Q($x: Int = 99999999999999999999999999999) { models(first: $x) { totalCount } }",
        "{ models(first: " + "9" * 5000 + ") { totalCount } }",
        '{ models(first: -1, last: -1, after: "x") { totalCount } }',
        "{ a: viewer { id } @include(if: $missing) }",
        '{ viewer { id @skip(if: "yes") @include } }',
        '{ __schema { types { name fields { name } } } __type(name: "User") { fields { name } } }',
        "{" + "viewer { id } " * 9000 + "}",
        "",
        "\x00",
    ],
)
def test_odd_documents(client: httpx.Client, document: str) -> None:
    checked(post(client, {"query": document}))


def test_private_fields_are_not_told_and_objects_need_a_selection(client: httpx.Client) -> None:
    assert post(client, {"query": "{ viewer { _teams } }"}).json() == {"data": {"viewer": {"_teams": None}}}
    refused = post(client, {"query": "{ viewer }"})
    assert (refused.status_code, "select fields of it" in refused.json()["error"]) == (400, True)


def test_body_over_the_limit_is_refused(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wandb_airflow_provider.devserver.http_body.MAX_BODY_BYTES", 10_000)
    bomb = gzip.compress(b" " * 5_000_000)
    assert len(bomb) < 10_000
    for body, encoding, message in (
        (b" " * 10_001, "identity", "the body is larger than 10000 bytes"),
        (bomb, "gzip", "the body unpacks to more than 10000 bytes"),
        (gzip.compress(b"{}")[:-4], "gzip", "its end is missing"),
    ):
        refused = client.post("/graphql", content=body, headers={"Content-Encoding": encoding})
        assert (refused.status_code, message in refused.json()["error"]) == (400, True), refused.text


def test_every_control_with_any_arguments(client: httpx.Client) -> None:
    names = [(verb, name) for verb, name in controls._CONTROLS if name not in _UNFIT]

    @bounded
    @given(st.sampled_from(names), anything)
    def send(control: tuple[str, str], body: Any) -> None:
        checked(client.request(control[0], f"/_control/{control[1]}", content=json.dumps(body)))

    send()


def test_pages_show_whatever_has_been_stored(client: httpx.Client) -> None:
    for path in (
        "/",
        "/local/p",
        "/local/p/runs",
        "/local/p/runs?q=config.x%3E1&sort=summary.x",
        "/local/p/runs/r",
    ):
        page = client.get(path, headers={"Accept": "text/html"})
        # A run that was deleted has no page.
        assert page.status_code in (200, 404), (path, page.text[:2000])
