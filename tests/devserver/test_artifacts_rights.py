"""Content of another team: neither the id of a version nor a digest is enough to get it into a version of one's own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import wandb

from wandb_airflow_provider.devserver import DevServer

OpenRun = Callable[..., wandb.Run]
FreshApi = Callable[..., wandb.Api]
Draft = Callable[..., wandb.Artifact]
GraphQL = Callable[..., tuple[int, dict[str, Any]]]

SECRET = b"what the team local keeps to itself"
CREATE = """mutation C($entity: String!, $project: String!, $digest: String!) {
  upsertModel(input: {entityName: $entity, name: $project}) { inserted }
  createArtifact(input: {entityName: $entity, projectName: $project, artifactTypeName: "dataset",
      artifactCollectionName: "things", digest: $digest}) { artifact { id } } }"""
MANIFEST = """mutation M($id: ID!, $type: ArtifactManifestType!, $base: ID, $digest: String) {
  createArtifactManifest(input: {artifactID: $id, digest: $digest, type: $type, baseArtifactID: $base,
      name: "wandb_manifest.json"}) { artifactManifest { id file { uploadUrl } } } }"""
UPDATE = """mutation U($id: ID!, $base: ID) { updateArtifactManifest(input: {artifactManifestID: $id,
  baseArtifactID: $base}) { artifactManifest { id file { uploadUrl } } } }"""
FILES = """mutation F($files: [CreateArtifactFileSpecInput!]!) { createArtifactFiles(input: {artifactFiles: $files}) {
  files { edges { node { uploadUrl } } } } }"""
COMMIT = "mutation T($id: ID!) { commitArtifact(input: {artifactID: $id}) { artifact { id } } }"
READ = "query R($id: ID!) { artifact(id: $id) { files { edges { node { name directUrl } } } } }"


def md5_base64(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def manifest_of(contents: dict[str, bytes]) -> bytes:
    entries = {path: {"digest": md5_base64(data), "size": len(data)} for path, data in contents.items()}
    return json.dumps({"version": 1, "contents": entries}).encode()


class Writer:
    """Logs versions over plain requests, with one key and to one project."""

    def __init__(self, graphql: GraphQL, key: str, entity: str, project: str = "p") -> None:
        self._graphql, self._key = graphql, key
        self._place = {"entity": entity, "project": project}

    def send(self, document: str, **variables: Any) -> tuple[int, dict[str, Any]]:
        return self._graphql(document, variables, self._key)

    def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        status, answer = self.send(document, **variables)
        assert status == 200, answer
        data: dict[str, Any] = answer["data"]
        return data

    def start(self, contents: dict[str, bytes]) -> str:
        lines = "".join(f"{path}:{md5_base64(data)}\n" for path, data in sorted(contents.items()))
        digest = hashlib.md5(f"wandb-artifact-manifest-v1\n{lines}".encode()).hexdigest()
        made = self.ask(CREATE, **self._place, digest=digest)
        return str(made["createArtifact"]["artifact"]["id"])

    def announce(
        self, version: str, contents: dict[str, bytes], kind: str = "FULL", base: str | None = None
    ) -> None:
        manifest = manifest_of(contents)
        made = self.ask(MANIFEST, id=version, type=kind, base=base, digest=md5_base64(manifest))
        url = made["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
        assert httpx.put(url, content=manifest).status_code == 200

    def upload_url(self, version: str, content: bytes) -> str | None:
        spec = {"artifactID": version, "name": "f", "md5": md5_base64(content)}
        (edge,) = self.ask(FILES, files=[spec])["createArtifactFiles"]["files"]["edges"]
        url: str | None = edge["node"]["uploadUrl"]
        return url

    def commit(self, version: str) -> tuple[int, str]:
        status, answer = self.send(COMMIT, id=version)
        return status, "" if status == 200 else answer["errors"][0]["message"]

    def contents(self, version: str) -> dict[str, bytes]:
        files = self.ask(READ, id=version)["artifact"]["files"]["edges"]
        return {file["node"]["name"]: httpx.get(file["node"]["directUrl"]).content for file in files}


@pytest.fixture
def owner(server: DevServer, graphql: GraphQL) -> Writer:
    return Writer(graphql, server.api_key, "local")


@pytest.fixture
def other(server: DevServer, graphql: GraphQL) -> Writer:
    """A writer of another team, which sees nothing of the team ``local``."""
    return Writer(graphql, server.add_account("eve", teams=("elsewhere",)), "elsewhere")


@pytest.fixture
def secret(owner: Writer) -> str:
    """A committed version of the team ``local``, by id."""
    version = owner.start({"f": SECRET})
    url = owner.upload_url(version, SECRET)
    assert url is not None
    assert httpx.put(url, content=SECRET).status_code == 200
    owner.announce(version, {"f": SECRET})
    assert owner.commit(version) == (200, "")
    return version


def test_version_that_one_may_not_read_is_no_base(owner: Writer, other: Writer, secret: str) -> None:
    version = other.start({"mine": b"x"})
    for base in (secret, "bm9uZQ=="):
        status, answer = other.send(MANIFEST, id=version, type="INCREMENTAL", base=base)
        assert (status, answer["errors"][0]["message"]) == (404, f"artifact with id {base!r} not found.")
    made = other.ask(MANIFEST, id=version, type="INCREMENTAL")["createArtifactManifest"]["artifactManifest"]
    status, answer = other.send(UPDATE, id=made["id"], base=secret)
    assert (status, answer["errors"][0]["message"]) == (404, f"artifact with id {secret!r} not found.")
    assert httpx.put(made["file"]["uploadUrl"], content=manifest_of({})).status_code == 200
    assert other.commit(version) == (200, "")
    assert other.contents(version) == {}

    built_on = owner.start({})
    owner.announce(built_on, {}, "INCREMENTAL", base=secret)
    assert owner.commit(built_on)[0] == 200
    assert owner.contents(built_on) == {"f": SECRET}, "who may read a version may build on it"


@pytest.mark.parametrize("kind", ["FULL", "INCREMENTAL", "PATCH"])
def test_digest_alone_gives_nobody_the_content(other: Writer, secret: str, kind: str) -> None:
    version = other.start({"stolen": SECRET})
    url = other.upload_url(version, SECRET)
    assert url is not None, "whether others have stored it is not told"
    other.announce(version, {"stolen": SECRET}, kind)
    assert other.commit(version) == (
        400, "cannot commit the artifact: 1 file(s) were not uploaded: 'stolen'.",
    )  # fmt: skip
    assert httpx.put(url, content=SECRET).status_code == 200
    assert other.commit(version) == (200, "")
    assert other.contents(version) == {"stolen": SECRET}


def test_content_of_ones_own_is_sent_once(
    owner: Writer, secret: str, graphql: GraphQL, server: DevServer
) -> None:
    assert owner.upload_url(owner.start({"f": SECRET, "g": b"more"}), SECRET) is None
    mate = Writer(graphql, server.add_account("mate", teams=("local",)), "local", project="q")
    version = mate.start({"f": SECRET})
    assert mate.upload_url(version, SECRET) is None, "in another project of the team, by another member"
    mate.announce(version, {"f": SECRET})
    assert mate.commit(version) == (200, "")
    assert mate.contents(version) == {"f": SECRET}


def test_content_of_a_file_of_a_run_is_ones_own_too(owner: Writer, other: Writer) -> None:
    document = """mutation F { upsertBucket(input: {modelName: "p", name: "r", entityName: "local"}) { inserted }
        createRunFiles(input: {entityName: "local", projectName: "p", runName: "r", files: ["f"]}) {
        files { uploadUrl } } }"""
    (file,) = owner.ask(document)["createRunFiles"]["files"]
    assert httpx.put(file["uploadUrl"], content=b"of a run").status_code == 200
    assert owner.upload_url(owner.start({"f": b"of a run"}), b"of a run") is None
    assert other.upload_url(other.start({"f": b"of a run"}), b"of a run") is not None


def test_content_that_is_linked_to_where_one_reads_may_be_used(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, server: DevServer, project: str
) -> None:
    key = server.add_account("ana", teams=("elsewhere",))
    with open_run() as run:
        run.link_artifact(
            run.log_artifact(draft("net", {"w": "weights"}, type="model")), "wandb-registry-model/net"
        )
    assert not fresh_api(key).artifact_exists(f"local/{project}/net:v0")
    shared = fresh_api(key).artifact("wandb-registry-model/net:v0")
    tuned = shared.new_draft()
    with tuned.new_file("notes") as file:
        file.write("tuned")
    with open_run(api_key=key, entity="elsewhere") as run:
        run.log_artifact(tuned).wait()
    found = fresh_api(key).artifact(f"elsewhere/{project}/net:v0")
    assert sorted(found.manifest.entries) == ["notes", "w"]
