from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import wandb
from wandb.errors import CommError

from wandb_airflow_provider.devserver import DevServer, auth

OpenRun = Callable[..., wandb.Run]
FreshApi = Callable[..., wandb.Api]
Draft = Callable[..., wandb.Artifact]
GraphQL = Callable[..., tuple[int, dict[str, Any]]]

CREATE = """
mutation CreateArtifact($input: CreateArtifactInput!) {
  createArtifact(input: $input) { artifact { id state } }
}
"""
CREATE_FILES = """
mutation CreateArtifactFiles($artifactFiles: [CreateArtifactFileSpecInput!]!) {
  createArtifactFiles(input: {artifactFiles: $artifactFiles}) { files { edges { node { uploadUrl artifact { id } } } } }
}
"""
CREATE_MANIFEST = """
mutation CreateArtifactManifest($artifactID: ID!, $digest: String!) {
  createArtifactManifest(input: {artifactID: $artifactID, digest: $digest, type: FULL, name: "wandb_manifest.json"}) {
    artifactManifest { id file { uploadUrl } }
  }
}
"""
COMMIT = """
mutation CommitArtifact($id: ID!) { commitArtifact(input: {artifactID: $id}) { artifact { id digest } } }
"""


def md5_base64(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def logical_digest(contents: dict[str, dict[str, Any]]) -> str:
    lines = "".join(f"{path}:{entry['digest']}\n" for path, entry in sorted(contents.items()))
    return hashlib.md5(f"wandb-artifact-manifest-v1\n{lines}".encode()).hexdigest()


@pytest.fixture
def existing(open_run: OpenRun, project: str) -> str:
    """A project that exists, by name."""
    open_run(id="r").finish()
    return project


@pytest.fixture
def pending(existing: str, graphql: GraphQL) -> Callable[[str], str]:
    """``pending(digest)`` starts a version and returns its id."""

    def start(digest: str) -> str:
        status, answer = graphql(CREATE, {"input": inputs(existing, digest=digest)})
        assert status == 200, answer
        return str(answer["data"]["createArtifact"]["artifact"]["id"])

    return start


def inputs(project: str, **changes: Any) -> dict[str, Any]:
    return {
        "entityName": "local",
        "projectName": project,
        "artifactTypeName": "dataset",
        "artifactCollectionName": "things",
        "digest": "0" * 32,
        "aliases": [],
        "enableDigestDeduplication": True,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"artifactCollectionName": "a/b"}, "Invalid artifact name 'a/b'"),
        ({"artifactCollectionName": "with space"}, "Invalid artifact name 'with space'"),
        ({"artifactCollectionName": "name:v1"}, "Invalid artifact name 'name:v1'"),
        ({"artifactCollectionName": ""}, "Artifact name is empty"),
        ({"artifactCollectionName": "n" * 129}, "has 129 characters, at most 128 are allowed"),
        ({"artifactTypeName": "a/b"}, "Invalid artifact type 'a/b'"),
        ({"aliases": [{"alias": "a/b"}]}, "Invalid alias 'a/b'"),
        ({"aliases": [{"alias": "a:b"}]}, "Invalid alias 'a:b'"),
        ({"aliases": [{"alias": "v3"}]}, "reserved for version numbers"),
        ({"aliases": [{"alias": "x" * 129}]}, "has 129 characters"),
        ({"tags": [{"tagName": "no/slash"}]}, "Invalid tag 'no/slash'"),
        ({"tags": [{"tagName": f"t{number}"} for number in range(21)]}, "Too many tags: 21 given"),
        ({"metadata": "[1]"}, "a JSON object is needed, not list"),
        ({"metadata": '{"x": NaN}'}, "NaN is not a JSON value"),
        ({"metadata": json.dumps({str(n): n for n in range(101)})}, "101 keys given, at most 100"),
    ],
)
def test_names_that_are_not_allowed_are_refused(
    existing: str, graphql: GraphQL, changes: dict[str, Any], message: str
) -> None:
    status, answer = graphql(CREATE, {"input": inputs(existing, **changes)})
    assert status == 400
    assert message in answer["errors"][0]["message"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projectName": "no-such-project"}, "project 'local/no-such-project' not found"),
        ({"runName": "no-such-run"}, "no-such-run' not found"),
    ],
)
def test_project_and_run_must_exist(
    existing: str, graphql: GraphQL, changes: dict[str, Any], message: str
) -> None:
    status, answer = graphql(CREATE, {"input": inputs(existing, **changes)})
    assert status == 404
    assert message in answer["errors"][0]["message"]


def test_unknown_ids_are_not_found(graphql: GraphQL) -> None:
    for document in (
        COMMIT,
        CREATE_MANIFEST.replace("$artifactID: ID!", "$id: ID!").replace("$artifactID", "$id"),
    ):
        status, answer = graphql(document, {"id": "bm9uZQ==", "digest": ""})
        assert status == 404
        assert "artifact with id 'bm9uZQ==' not found" in answer["errors"][0]["message"]


def test_artifact_of_another_type_under_the_same_name_is_refused(
    open_run: OpenRun, draft: Draft, project: str, graphql: GraphQL
) -> None:
    with open_run() as run:
        run.log_artifact(draft("things", {"f": "x"})).wait()
        with pytest.raises(ValueError, match="already exists with type 'dataset'"):
            run.log_artifact(draft("things", {"f": "y"}, type="model"))
    status, answer = graphql(CREATE, {"input": inputs(project, artifactTypeName="model")})
    assert status == 400
    assert (
        "already exists with type 'dataset'; cannot create another with type 'model'"
        in answer["errors"][0]["message"]
    )


def test_version_is_not_committed_before_everything_is_uploaded(
    pending: Callable[[str], str], graphql: GraphQL, project: str
) -> None:
    content = f"never sent {project}".encode()
    contents = {"f.txt": {"digest": md5_base64(content), "size": len(content)}}
    manifest = json.dumps({"version": 1, "contents": contents}).encode()
    version = pending(logical_digest(contents))

    status, answer = graphql(COMMIT, {"id": version})
    assert (status, answer["errors"][0]["message"]) == (
        400, "cannot commit the artifact: its manifest was not uploaded.",
    )  # fmt: skip
    _, answer = graphql(CREATE_MANIFEST, {"artifactID": version, "digest": md5_base64(manifest)})
    url = answer["data"]["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
    assert httpx.put(url, content=manifest).status_code == 200
    status, answer = graphql(COMMIT, {"id": version})
    assert (status, answer["errors"][0]["message"]) == (
        400, "cannot commit the artifact: 1 file(s) were not uploaded: 'f.txt'.",
    )  # fmt: skip

    spec = {"artifactID": version, "name": "f.txt", "md5": md5_base64(content)}
    _, answer = graphql(CREATE_FILES, {"artifactFiles": [spec]})
    (edge,) = answer["data"]["createArtifactFiles"]["files"]["edges"]
    refused = httpx.put(edge["node"]["uploadUrl"], content=b"something else")
    assert refused.status_code == 400
    assert httpx.put(edge["node"]["uploadUrl"], content=content).status_code == 200
    _, answer = graphql(CREATE_FILES, {"artifactFiles": [spec]})
    (edge,) = answer["data"]["createArtifactFiles"]["files"]["edges"]
    assert edge["node"]["uploadUrl"] is None, "content that is stored need not be sent again"
    status, answer = graphql(COMMIT, {"id": version})
    assert status == 200
    assert graphql(COMMIT, {"id": version}) == (status, answer), "a client may repeat a commit"

    status, answer = graphql(CREATE_FILES, {"artifactFiles": [spec]})
    assert (status, answer["errors"][0]["message"]) == (
        400, "the content of artifact version v0 cannot change: it is committed.",
    )  # fmt: skip


def test_manifest_that_does_not_match_the_announced_digest_is_refused(
    pending: Callable[[str], str], graphql: GraphQL
) -> None:
    version = pending("f" * 32)
    manifest = json.dumps(
        {"version": 1, "contents": {"r": {"digest": "etag", "ref": "s3://b/r", "size": 1}}}
    ).encode()
    _, answer = graphql(CREATE_MANIFEST, {"artifactID": version, "digest": md5_base64(manifest)})
    url = answer["data"]["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
    assert httpx.put(url, content=b"{}").status_code == 400
    assert httpx.put(url, content=manifest).status_code == 200
    status, answer = graphql(COMMIT, {"id": version})
    assert status == 400
    assert f"but {'f' * 32} was announced" in answer["errors"][0]["message"]


REFERENCE = {"digest": "etag", "ref": "s3://b/r", "size": 1}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"../escape": REFERENCE}, "outside of the artifact: '../escape'"),
        ({"r": {**REFERENCE, "ref": {"to": "nowhere"}}}, "has for 'r' what is no text"),
        ({"r": {**REFERENCE, "birthArtifactID": 5}}, "has for 'r' what is no text"),
        ({"r": {**REFERENCE, "digest": "\ud800"}}, "has for 'r' what is no text"),
        ({"\ud800": REFERENCE}, "has for '\\ud800' what is no text"),
        ({"r": {**REFERENCE, "size": "1"}}, "has the size '1' for 'r'"),
        ({"r": {**REFERENCE, "size": -1}}, "has the size -1 for 'r'"),
        ({"r": {**REFERENCE, "size": 10**30}}, f"has the size {10**30} for 'r'"),
        ({"r": {"size": 1}}, "has no digest for 'r'"),
        ([], "has no contents"),
        ("[" * 100_000, "is not JSON: maximum recursion depth exceeded"),
    ],
)
def test_manifest_that_no_client_writes_is_refused(
    pending: Callable[[str], str], graphql: GraphQL, document: Any, message: str
) -> None:
    version = pending("f" * 32)
    raw = isinstance(document, str)
    manifest = (document if raw else json.dumps({"version": 1, "contents": document})).encode()
    _, answer = graphql(CREATE_MANIFEST, {"artifactID": version, "digest": md5_base64(manifest)})
    url = answer["data"]["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
    assert httpx.put(url, content=manifest).status_code == 200
    status, answer = graphql(COMMIT, {"id": version})
    assert status == 400
    assert message in answer["errors"][0]["message"]


def test_read_only_key_reads_but_changes_nothing(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, read_only_key: str, graphql: GraphQL
) -> None:
    with open_run() as run:
        run.log_artifact(draft("things", {"f": "x"})).wait()
    seen = fresh_api(read_only_key).artifact(f"local/{project}/things:v0")
    assert seen.manifest.entries.keys() == {"f"}
    seen.description = "changed"
    with pytest.raises(CommError, match="the API key of user 'reader' is read-only"):
        seen.save()
    seen = fresh_api(read_only_key).artifact(f"local/{project}/things:v0")
    seen.aliases.append("mine")
    with pytest.raises(CommError, match="the API key of user 'reader' is read-only"):
        seen.save()
    assert fresh_api().artifact(f"local/{project}/things:v0").aliases == ["latest"]
    with pytest.raises(CommError, match="the API key of user 'reader' is read-only"):
        seen.link("wandb-registry-dataset/read-only")
    with pytest.raises(CommError, match="the API key of user 'reader' is read-only"):
        seen.delete(delete_aliases=True)
    status, answer = graphql(CREATE, {"input": inputs(project)}, read_only_key)
    assert status == 403
    assert "cannot write to entity 'local'" in answer["errors"][0]["message"]


def test_key_of_another_team_does_not_see_the_artifact(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, server: DevServer, graphql: GraphQL
) -> None:
    key = "s" * 40
    with server.backend.store.write() as conn:
        auth.add_account(
            conn, "stranger", role="member", teams=("elsewhere",), now="2026-01-01T00:00:00+00:00"
        )
        auth.set_key(conn, "stranger", key)
    with open_run() as run:
        logged = run.log_artifact(draft("things", {"f": "x"})).wait()
    assert not fresh_api(key).artifact_exists(f"local/{project}/things:v0")
    document = "query ArtifactByID($id: ID!) { artifact(id: $id) { id } }"
    assert graphql(document, {"id": logged.id}, key) == (200, {"data": {"artifact": None}})
    md5 = hashlib.md5(b"x").hexdigest()
    url = f"{server.url}/artifactsV2/default/local/{project}/things/id/{md5}/f"
    assert httpx.get(url, auth=("api", key)).status_code == 404
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, auth=("api", server.api_key)).content == b"x"
    assert httpx.get(f"{server.url}/artifacts/local/{md5}", auth=("api", server.api_key)).content == b"x"
