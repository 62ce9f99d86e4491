from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from wandb_airflow_provider.devserver import DEFAULT_API_KEY, DevServer, queries
from wandb_airflow_provider.devserver.uploads import DOWNLOAD_SECONDS, UPLOAD_SECONDS

CREATE_FILES = """mutation F($files: [String!]!) { createRunFiles(input: {entityName: "local", projectName: "p",
    runName: "r", files: $files}) { files { name uploadUrl } } }"""
MANIFEST = """mutation M($id: ID!, $digest: String!) { createArtifactManifest(input: {artifactID: $id, digest: $digest,
    type: FULL, name: "wandb_manifest.json"}) { artifactManifest { file { uploadUrl } } } }"""
CREATE_ARTIFACT = """mutation C { createArtifact(input: {entityName: "local", projectName: "p",
    artifactTypeName: "t", artifactCollectionName: "c", digest: "d"}) { artifact { id } } }"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[DevServer]:
    with DevServer(tmp_path / "data") as server:
        server.clock.freeze(datetime(2026, 5, 1, tzinfo=UTC))
        ask(server, 'mutation U { upsertBucket(input: {modelName: "p", name: "r"}) { inserted } }')
        yield server


def ask(server: DevServer, document: str, **variables: Any) -> dict[str, Any]:
    answer = httpx.post(
        f"{server.url}/graphql",
        json={"query": document, "variables": variables},
        auth=("api", server.api_key),
    )
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def upload_url(server: DevServer, name: str) -> str:
    (file,) = ask(server, CREATE_FILES, files=[name])["createRunFiles"]["files"]
    return str(file["uploadUrl"])


def download_url(server: DevServer, name: str) -> str:
    document = """query Q($n: [String]) { project(name: "p") { run(name: "r") { files(names: $n) { edges { node {
        directUrl } } } } } }"""
    (edge,) = ask(server, document, n=[name])["project"]["run"]["files"]["edges"]
    return str(edge["node"]["directUrl"])


def message(answer: httpx.Response) -> str:
    return str(answer.json()["errors"][0]["message"])


def tampered(url: str) -> Iterator[str]:
    """A signed URL with its payload or its signature changed, cut or taken off."""
    base, _, token = url.rpartition("/storage/")
    token, slash, filename = token.partition("/")
    payload, _, tag = token.partition(".")
    flipped = "A" if tag[0] != "A" else "B"
    for changed in (
        f"{payload[:-4]}AAAA.{tag}",
        f"{payload}.{flipped}{tag[1:]}",
        f"{payload}.",
        payload,
        f".{tag}",
    ):
        yield f"{base}/storage/{changed}{slash}{filename}"


def test_signed_urls_work_until_they_expire_and_only_as_they_were_signed(own: DevServer) -> None:
    up = upload_url(own, "notes.txt")
    assert httpx.put(up, content=b"one").status_code == 200
    down = download_url(own, "notes.txt")
    assert httpx.get(down).content == b"one", "a signed URL needs no key"

    for changed in tampered(up):
        assert httpx.put(changed, content=b"two").status_code == 403
    for changed in tampered(down):
        assert httpx.get(changed).status_code == 403
    # Neither is good for the other.
    assert message(httpx.get(up + "/notes.txt")) == "this storage URL is for an upload, not for a download."
    refused = httpx.put(down.rpartition("/")[0], content=b"two")
    assert message(refused) == "this storage URL is for a download, not for an upload."

    own.clock.advance(DOWNLOAD_SECONDS + 1)
    late = httpx.get(down)
    assert (late.status_code, message(late)) == (403, "this storage URL has expired: ask for a new one.")
    own.clock.advance(UPLOAD_SECONDS)
    assert httpx.put(up, content=b"two").status_code == 403
    assert httpx.get(download_url(own, "notes.txt")).content == b"one"


def test_url_of_one_server_is_nothing_to_another(own: DevServer, tmp_path: Path) -> None:
    httpx.put(upload_url(own, "notes.txt"), content=b"one")
    path = download_url(own, "notes.txt").removeprefix(own.url)
    with DevServer(tmp_path / "other") as other:
        refused = httpx.get(other.url + path)
    assert (refused.status_code, message(refused)) == (403, "this storage URL was not signed by this server.")


def test_upload_url_takes_only_the_content_or_the_file_that_it_is_for(own: DevServer) -> None:
    artifact = ask(own, CREATE_ARTIFACT)["createArtifact"]["artifact"]["id"]
    content = b'{"version": 1, "contents": {}}'
    digest = hashlib.md5(content).digest()
    answer = ask(own, MANIFEST, id=artifact, digest=base64.b64encode(digest).decode())
    url = answer["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
    assert httpx.put(url, content=content).status_code == 200
    refused = httpx.put(url, content=b'{"version": 1, "contents": {"x": {}}}')
    assert (refused.status_code, "was announced" in message(refused)) == (400, True)
    assert httpx.put(url, content=content).status_code == 200, "a client that retries sends the same again"

    # The content of a run's file is not known beforehand; its URL writes that file and no other.
    assert httpx.put(upload_url(own, "a.txt"), content=b"a").status_code == 200
    assert httpx.put(upload_url(own, "b.txt"), content=b"b").status_code == 200
    (run,) = queries.list_runs(own.backend, "local", "p")
    assert {file.name: file.size for file in queries.list_files(own.backend, run)} == {"a.txt": 1, "b.txt": 1}
    bad = httpx.put(upload_url(own, "a.txt"), content=b"a", headers={"Content-MD5": "AAAA"})
    assert bad.status_code == 400


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..", "a/..", "\x00", ""])
def test_no_file_name_leads_out_of_its_run(own: DevServer, name: str) -> None:
    answer = httpx.post(
        f"{own.url}/graphql",
        json={"query": CREATE_FILES, "variables": {"files": [name]}},
        auth=("api", own.api_key),
    )
    assert answer.status_code == 400
    assert "invalid file name" in message(answer)


def test_stored_pages_are_no_pages_of_the_server(own: DevServer) -> None:
    httpx.put(upload_url(own, "evil.html"), content=b"<script>alert(1)</script>")
    served = httpx.get(f"{own.url}/files/local/p/r/evil.html", auth=("api", own.api_key))
    assert served.content == b"<script>alert(1)</script>"
    for answer in (served, httpx.get(download_url(own, "evil.html"))):
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_names_are_escaped_on_every_page_that_shows_them(own: DevServer) -> None:
    evil = "<img src=x onerror=alert(1)>"
    ask(
        own,
        """mutation U($t: String, $c: JSONString, $g: [String!]) { upsertBucket(input: {modelName: "p", name: "r",
        displayName: $t, notes: $t, groupName: $t, jobType: $t, config: $c, tags: $g, host: $t}) { inserted } }""",
        t=evil,
        c='{"<b>key": {"value": "' + evil + '"}}',
        g=[evil],
    )
    ask(
        own,
        'mutation M($t: String) { upsertModel(input: {name: "p", description: $t}) { inserted } }',
        t=evil,
    )
    for path in (
        "/",
        "/local/p",
        "/local/p/runs/r",
        f"/local/p/groups/{evil}",
        f"/local/{evil}",
        f"/{evil}/p",
    ):
        page = httpx.get(own.url + path, headers={"Accept": "text/html"})
        assert page.status_code in (200, 404), path
        assert evil not in page.text, path
        assert "<b>key" not in page.text, path


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "8.8.8.8", "[::2]", "", "[oops", "ü"]
)
def test_server_on_loopback_does_not_answer_to_names_that_lead_there(own: DevServer, host: str) -> None:
    for path in ("/", "/local/p", "/files/local/p/r/x", "/_control/state"):
        headers = [("Host", host.encode())]
        refused = httpx.get(own.url + path, headers=headers, auth=("api", own.api_key))
        assert refused.status_code in (400, 403), (path, refused.text)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:80", "[::1]:9", "wandb.localhost", "host.docker.internal:1"]
)
def test_server_on_loopback_answers_to_names_of_this_machine(own: DevServer, host: str) -> None:
    assert httpx.get(own.url, headers={"Host": host}).status_code == 200


@pytest.mark.slow
def test_other_address_takes_a_flag_and_gets_a_generated_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="listens there only with allow_remote=True"):
        DevServer(host="0.0.0.0")
    with pytest.raises(ValueError, match=r"other machines can reach 'devserver.internal'"):
        DevServer(host="devserver.internal")
    with DevServer(tmp_path) as before:
        assert before.api_key == DEFAULT_API_KEY
    with DevServer(tmp_path, host="0.0.0.0", allow_remote=True, seed="known") as server:
        first = server.api_key
        assert first != DEFAULT_API_KEY
        assert len(first) == 40
        url = f"http://127.0.0.1:{server.url.rsplit(':', 1)[1]}"
        member = server.add_account("member", teams=("local",))
        limited = server.create_key(read_only=True)
        for path in ("/", "/local/p", "/-/pages.css", "/nowhere/else/at/all", "/_control/state"):
            asked = httpx.get(url + path, headers={"Accept": "text/html"})
            assert (asked.status_code, path) == (401, path)
            assert httpx.get(url + path, auth=("api", DEFAULT_API_KEY)).status_code == 401
            for key in (member, limited):
                assert httpx.get(url + path, auth=("api", key)).status_code == 403
        assert httpx.get(url, headers={"Accept": "text/html"}).headers["www-authenticate"].startswith("Basic")
        assert httpx.get(url, auth=("api", first)).status_code == 200
        assert httpx.get(url, auth=("api", first), headers={"Host": "build-7.example"}).status_code == 200
        assert httpx.get(f"{url}/ready").text == "ok"
        assert (
            httpx.post(
                f"{url}/graphql", json={"query": "{ viewer { id } }"}, auth=("api", member)
            ).status_code
            == 200
        )
        big = httpx.post(f"{url}/graphql", content=b"x" * 10_000_000, headers={"Authorization": "Bearer x"})
        assert big.status_code == 401, "nothing is read from whoever has no key"
    with DevServer(tmp_path, host="0.0.0.0", allow_remote=True, seed="known") as server:
        assert server.api_key != first, "no seed tells the key"


def test_url_of_an_ipv6_address_has_brackets() -> None:
    with DevServer(host="::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert httpx.get(f"{server.url}/ready").text == "ok"
