from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import wandb
from wandb.apis.public import Run as PublicRun

from wandb_airflow_provider.devserver import DevServer, queries

OpenRun = Callable[..., wandb.Run]
FindRun = Callable[[str], PublicRun]


@pytest.fixture
def saved(open_run: OpenRun, tmp_path: Path) -> wandb.Run:
    """A finished run with two files of its own."""
    run = open_run()
    folder = tmp_path / "mine"
    (folder / "sub").mkdir(parents=True)
    (folder / "one.txt").write_text("one")
    (folder / "sub" / "two words.bin").write_bytes(bytes(range(256)) * 1000)
    run.save(str(folder / "one.txt"), base_path=str(folder))
    run.save(str(folder / "sub" / "two words.bin"), base_path=str(folder))
    run.finish()
    return run


def test_saved_files_come_back_byte_by_byte(saved: wandb.Run, find: FindRun, tmp_path: Path) -> None:
    found = find(saved.id)
    names = [file.name for file in found.files()]
    assert {"one.txt", "sub/two words.bin", "wandb-summary.json", "config.yaml"} <= set(names)

    target = tmp_path / "downloaded"
    found.file("sub/two words.bin").download(root=str(target)).close()
    content = (target / "sub" / "two words.bin").read_bytes()
    assert content == bytes(range(256)) * 1000
    file = found.file("sub/two words.bin")
    assert (file.size, file.mimetype) == (256_000, "application/octet-stream")
    assert found.file("one.txt").mimetype == "text/plain"


def test_files_are_selected_by_name_and_pattern_and_paged(saved: wandb.Run, find: FindRun) -> None:
    found = find(saved.id)
    assert [file.name for file in found.files(names=["one.txt"])] == ["one.txt"]
    assert [file.name for file in found.files(pattern="%.bin")] == ["sub/two words.bin"]
    everything = [file.name for file in found.files()]
    assert [file.name for file in found.files(per_page=2)] == everything
    assert len(found.files()) == len(everything)


def test_file_that_a_run_does_not_have_is_told_by_its_digest(
    saved: wandb.Run, find: FindRun, server: DevServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find(saved.id)
    told = [(file.name, file.size, file.md5 == "0") for file in found.files(names=["none.txt", "./one.txt"])]
    assert told == [("none.txt", 0, True), ("one.txt", 3, False)]
    with pytest.raises(Exception, match="404"):
        found.file("none.txt").download(root=str(tmp_path))

    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", server.api_key)
    path = "/".join(found.path)
    with pytest.raises(ValueError, match=r"none\.txt not found in"):
        wandb.restore("none.txt", run_path=path, root=str(tmp_path))
    restored = wandb.restore("one.txt", run_path=path, root=str(tmp_path))
    assert restored is not None
    with restored:
        assert restored.read() == "one"


def test_file_is_uploaded_replaced_and_deleted_through_the_public_api(
    saved: wandb.Run, find: FindRun, server: DevServer, project: str, tmp_path: Path
) -> None:
    extra = tmp_path / "extra.json"
    for content in ("{}", '{"again": true}'):
        extra.write_text(content)
        find(saved.id).upload_file(str(extra), root=str(tmp_path))
    record = queries.get_run(server.backend, "local", project, saved.id)
    assert record is not None
    assert record.state == "finished"
    (stored,) = [file for file in queries.list_files(server.backend, record) if file.name == "extra.json"]
    assert server.backend.blobs.read(stored.md5) == b'{"again": true}'

    find(saved.id).file("extra.json").delete()
    assert "extra.json" not in [file.name for file in find(saved.id).files()]


def test_run_files_need_a_key_and_signed_urls_do_not(
    saved: wandb.Run, find: FindRun, server: DevServer
) -> None:
    file = find(saved.id).file("one.txt")
    assert httpx.get(file.url).status_code == 401
    assert httpx.get(file.url, auth=("api", server.api_key)).text == "one"
    assert httpx.get(file.direct_url).text == "one"
    part = httpx.get(file.direct_url, headers={"Range": "bytes=1-"})
    assert (part.status_code, part.text) == (206, "ne")


def test_changed_or_expired_storage_url_is_refused(
    saved: wandb.Run, find: FindRun, server: DevServer
) -> None:
    url = str(find(saved.id).file("one.txt").direct_url)
    head, token, name = url.rsplit("/", 2)
    flipped = ("A" if token[5] != "A" else "B").join((token[:5], token[6:]))
    for changed in (flipped, token[:-2], "x", token.replace(".", "")):
        refused = httpx.get(f"{head}/{changed}/{name}")
        assert refused.status_code == 403
        assert "storage URL" in refused.json()["error"]
    assert (
        httpx.put(f"{head}/{token}", content=b"x")
        .json()["error"]
        .startswith("this storage URL is for a download")
    )
    backend = server.backend
    with pytest.raises(Exception, match="has expired"):
        backend.signer.verify_download(token, backend.now() + timedelta(hours=2))


def test_upload_with_another_digest_than_announced_is_refused(
    open_run: OpenRun, server: DevServer, project: str
) -> None:
    run = open_run()
    document = """mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) {
      createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) {
        files { name uploadUrl } } }"""

    def create(name: str) -> httpx.Response:
        variables = {"entity": "local", "project": project, "run": run.id, "files": name}
        return httpx.post(
            f"{server.url}/graphql",
            json={"query": document, "variables": variables, "operationName": ""},
            auth=("api", server.api_key),
        )

    url = create("data.bin").json()["data"]["createRunFiles"]["files"][0]["uploadUrl"]
    wrong = httpx.put(url, content=b"content", headers={"Content-MD5": "XrY7u+Ae7tCTyyK7j1rNww=="})
    assert (wrong.status_code, "was announced: upload it again" in wrong.json()["error"]) == (400, True)
    assert httpx.put(url, content=b"content").headers["ETag"] == f'"{hashlib.md5(b"content").hexdigest()}"'
    for name in ("../escape", "/etc/passwd", "a/../../b"):
        refused = create(name)
        assert (refused.status_code, "must stay inside" in refused.json()["error"]) == (400, True)
