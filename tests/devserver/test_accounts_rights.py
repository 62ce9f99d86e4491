"""Every kind of key against every kind of request, over plain HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import wandb

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.graphql import registry as resolvers

KEYS = ("reader", "read-only key", "viewer", "stranger", "key for another team", "member")
ALLOWED = frozenset({"member"})
# What needs more than being a member of the team that a thing belongs to.
ADMIN_ONLY = frozenset({"createTeam", "createUser", "createInvite", "deleteInvite", "createServiceAccount"})

Inputs = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    with DevServer(tmp_path_factory.mktemp("rights")) as server:
        yield server
        wandb.teardown()


@pytest.fixture(scope="module")
def keys(own: DevServer) -> dict[str, str]:
    keys = {
        "reader": own.add_account("reader", role="read-only", teams=("local",)),
        "viewer": own.add_account("watcher", teams=("local",)),
        "stranger": own.add_account("stranger", teams=("elsewhere",)),
        "member": own.add_account("member", teams=("local", "elsewhere")),
    }
    own.add_member("local", "watcher", role="viewer")
    own.add_member("elsewhere", "dev")
    keys["read-only key"] = own.create_key("member", read_only=True)
    keys["key for another team"] = own.create_key("member", teams=["elsewhere"])
    return keys


@pytest.fixture(scope="module")
def things(own: DevServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run with a file, and a version of an artifact that is linked, all in team ``local``."""
    folder = tmp_path_factory.mktemp("things")
    settings = wandb.Settings(base_url=own.url, api_key=own.api_key, console="off", silent=True)
    with wandb.init(project="p", entity="local", id="r", dir=folder, settings=settings) as run:
        artifact = wandb.Artifact("net", type="model")
        with artifact.new_file("w") as file:
            file.write("x")
        logged = run.log_artifact(artifact).wait()
        linked = run.link_artifact(logged, "wandb-registry-model/net")
    found = ask(own, own.api_key, "Q", """query Q { project(name: "p", entityName: "local") { id run(name: "r") { id
        files { edges { node { id } } } } } }""")  # fmt: skip
    project = found.json()["data"]["project"]
    return {
        "project": project["id"],
        "run": project["run"]["id"],
        "file": project["run"]["files"]["edges"][-1]["node"]["id"],
        "artifact": logged.id,
        "sequence": logged.collection.id,
        "portfolio": linked.collection.id,
    }


def ask(server: DevServer, key: str, name: str, document: str, variables: Any = None) -> httpx.Response:
    body = {"query": document, "operationName": name, "variables": variables or {}}
    return httpx.post(f"{server.url}/graphql", json=body, auth=("api", key), timeout=30)


def writes(things: dict[str, Any]) -> Inputs:
    """One request for each mutation that changes what belongs to team ``local``; none ends what others need."""
    place = {"entityName": "local", "projectName": "p"}
    alias = {**place, "artifactCollectionName": "net", "alias": "a"}
    collection = {**place, "artifactCollectionName": "net", "tags": [{"tagName": "t"}]}
    return {
        "upsertModel": {"entityName": "local", "name": "p", "description": "d"},
        "upsertBucket": {"entityName": "local", "modelName": "p", "name": "r", "notes": "n"},
        "createRunFiles": {**place, "runName": "r", "files": ["f"]},
        "markRunFilesUploaded": {**place, "runName": "r", "files": ["f"]},
        "notifyScriptableRunAlert": {**place, "runName": "r", "title": "t", "text": "t"},
        "stopRun": {"id": things["run"]},
        "createArtifact": {
            **place,
            "artifactTypeName": "model",
            "artifactCollectionName": "net",
            "digest": "0" * 32,
        },
        "updateArtifact": {"artifactID": things["artifact"], "description": "d"},
        "useArtifact": {**place, "runName": "r", "artifactID": things["artifact"]},
        "addAliases": {"artifactID": things["artifact"], "aliases": [alias]},
        "deleteAliases": {"artifactID": things["artifact"], "aliases": [alias]},
        "updateArtifactSequence": {"artifactSequenceID": things["sequence"], "description": "d"},
        "createArtifactCollectionTagAssignments": collection,
        "deleteArtifactCollectionTagAssignments": collection,
        "deleteFiles": {"files": [things["file"]]},
        "createTeam": {"teamName": "mine"},
        "createUser": {"email": "mine@example.com"},
        "createInvite": {"entityName": "local", "username": "stranger"},
        "deleteInvite": {"entityName": "local", "id": "VXNlcjox"},
        "createServiceAccount": {"entityName": "local", "description": "mine"},
    }


@pytest.mark.parametrize("who", KEYS)
def test_key_writes_what_it_may_and_nothing_else(
    own: DevServer, keys: dict[str, str], things: dict[str, Any], who: str
) -> None:
    for name, given in writes(things).items():
        assert name in resolvers.MUTATIONS
        document = f"mutation M($input: I!) {{ {name}(input: $input) {{ __typename }} }}"
        answer = ask(own, keys[who], "M", document, {"input": given})
        if who in ALLOWED and name not in ADMIN_ONLY:
            assert answer.status_code == 200, (name, answer.text)
            continue
        # What a key may not even see is not there, for it.
        assert answer.status_code in (403, 404), (name, answer.status_code, answer.text)
        if answer.status_code == 403:
            assert answer.json()["error"].startswith("permission denied: "), answer.text
    stream = f"{own.url}/files/local/p/r/file_stream"
    status = httpx.post(stream, json={}, auth=("api", keys[who])).status_code
    assert status == (200 if who in ALLOWED else 403)


@pytest.mark.parametrize("name", ["config.yaml", "new.txt"])
@pytest.mark.parametrize("who", KEYS)
def test_query_gives_nobody_an_upload_who_may_not_write(
    own: DevServer, keys: dict[str, str], things: dict[str, Any], who: str, name: str
) -> None:
    document = """query Q($names: [String]) { project(name: "p", entityName: "local") { run(name: "r") {
        files(names: $names) { edges { node { url(upload: true) } } } } } }"""
    answer = ask(own, keys[who], "Q", document, {"names": [name]})
    if who in ALLOWED:
        (edge,) = answer.json()["data"]["project"]["run"]["files"]["edges"]
        assert httpx.put(edge["node"]["url"], content=b"sent").status_code == 200
    else:
        assert "/storage/" not in answer.text


@pytest.mark.parametrize("who", KEYS)
def test_key_sees_what_it_may_and_nothing_else(
    own: DevServer, keys: dict[str, str], things: dict[str, Any], who: str
) -> None:
    sees = who not in ("stranger", "key for another team")
    document = """query Q($artifact: ID!, $sequence: ID!) {
        project(name: "p", entityName: "local") { name }
        models(entityName: "local") { totalCount }
        entity(name: "local") { members { username } }
        artifactCollection(id: $sequence) { name }
    }"""
    data = ask(own, keys[who], "Q", document, things).json()["data"]
    assert (data["project"] is not None, data["models"]["totalCount"] > 0) == (sees, sees)
    assert (data["entity"] is not None, data["artifactCollection"] is not None) == (sees, sees)
    for path in ("/files/local/p/r/config.yaml", "/artifacts/local/9dd4e461268c8034f5c8564e155c67a6"):
        status = httpx.get(f"{own.url}{path}", auth=("api", keys[who])).status_code
        assert (status, path) == (200 if sees else 404, path)
    # The link in the registry is seen by the whole organisation, through the link only.
    linked = "query Q($artifact: ID!) { artifact(id: $artifact) { artifactSequence { project { name } } } }"
    found = ask(own, keys[who], "Q", linked, things).json()["data"]["artifact"]
    assert found == {"artifactSequence": {"project": {"name": "p"} if sees else None}}


@pytest.mark.parametrize(
    "header", [None, "Basic", "Basic !!!", "Bearer", "Digest x", "Bearer \xff", "Basic " + "A" * 9000]
)
def test_credentials_that_are_none_are_refused_everywhere(own: DevServer, header: str | None) -> None:
    headers = [] if header is None else [("Authorization", header.encode("latin-1"))]
    for method, path in (
        ("POST", "/graphql"),
        ("POST", "/files/local/p/r/file_stream"),
        ("GET", "/files/local/p/r/config.yaml"),
        ("GET", "/artifacts/local/9dd4e461268c8034f5c8564e155c67a6"),
        ("GET", "/artifactsV2/default/local/p/net/id/9dd4e461268c8034f5c8564e155c67a6/w"),
    ):
        body = {"query": "{ viewer { id } }"} if method == "POST" else None
        answer = httpx.request(method, f"{own.url}{path}", headers=headers, json=body)
        assert (answer.status_code, path) == (401, path), answer.text
        assert "API key" in answer.json()["error"]


def test_revoked_key_is_refused_at_once_also_where_it_has_worked(tmp_path: Path) -> None:
    with DevServer(tmp_path) as server:
        key = server.create_key()
        assert ask(server, key, "Q", "query Q { viewer { id } }").status_code == 200
        server.revoke_key(key)
        refused = ask(server, key, "Q", "query Q { viewer { id } }")
        assert (refused.status_code, "does not know it" in refused.json()["error"]) == (401, True)


@pytest.mark.slow
def test_read_only_key_gets_no_mutation_done_whatever_it_sends(
    own: DevServer, keys: dict[str, str], things: dict[str, Any]
) -> None:
    place = {"entityName": "local", "projectName": "p", "modelName": "p", "runName": "r", "name": "r"}
    given = {
        **place,
        "artifactID": things["artifact"],
        "artifactSequenceID": things["sequence"],
        "artifactPortfolioID": things["portfolio"],
        "projectId": things["project"],
        "artifactTypeName": "model",
        "artifactCollectionName": "net",
        "aliases": [{**place, "artifactCollectionName": "net", "alias": "a"}],
        "tags": [{"tagName": "t"}],
        "digest": "0" * 32,
        "files": [things["file"]],
        "description": "d",
        "config": "{}",
        "state": "failed",
        "title": "t",
        "text": "t",
    }
    for name in sorted(resolvers.MUTATIONS):
        document = f"mutation M($input: I!) {{ {name}(input: $input) {{ __typename }} }}"
        answer = ask(own, keys["reader"], "M", document, {"input": {**given, "id": things["run"]}})
        assert answer.status_code in (400, 403, 404), (name, answer.text)
