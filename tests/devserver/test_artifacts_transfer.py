"""Bytes on their way in and out: large, in ranges, cut off, and versions that are not complete yet."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import wandb

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.auth import find_account
from wandb_airflow_provider.devserver.uploads import sign_upload

OpenRun = Callable[..., wandb.Run]
FreshApi = Callable[..., wandb.Api]
Draft = Callable[..., wandb.Artifact]


def upload_url(server: DevServer, content: bytes) -> str:
    """Return a URL that takes a file of an artifact with this content."""
    with server.backend.store.read() as conn:
        user = find_account(conn, "dev")
    assert user is not None
    purpose = {"kind": "artifact-file", "artifact": "a", "name": "f", "md5": hashlib.md5(content).hexdigest()}
    return sign_upload(server.backend.context(user, server.url), purpose)


def test_file_of_many_pieces_comes_back_whole_and_in_ranges(
    open_run: OpenRun, fresh_api: FreshApi, project: str, tmp_path: Path
) -> None:
    content = os.urandom(5_300_001)
    (tmp_path / "big.bin").write_bytes(content)
    artifact = wandb.Artifact("big", type="dataset")
    artifact.add_file(str(tmp_path / "big.bin"), skip_cache=True)
    with open_run() as run:
        run.log_artifact(artifact).wait()
    found = fresh_api().artifact(f"local/{project}/big:v0")
    (listed,) = found.files()
    part = httpx.get(listed.direct_url, headers={"Range": "bytes=2000000-4999999"})
    assert (part.status_code, part.content) == (206, content[2_000_000:5_000_000])
    assert httpx.get(listed.direct_url, headers={"Range": "bytes=9000000-"}).status_code == 416
    folder = Path(found.download(root=str(tmp_path / "parts"), multipart=True, skip_cache=True))
    assert (folder / "big.bin").read_bytes() == content
    assert Path(found.file(root=str(tmp_path / "whole"))).read_bytes() == content


def test_upload_cut_off_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    md5 = hashlib.md5(content).hexdigest()
    with DevServer(tmp_path / "cut") as server:
        url, blobs = upload_url(server, content), server.backend.blobs
        address = urlsplit(url)
        with socket.create_connection((str(address.hostname), int(address.port or 0))) as cut:
            head = f"PUT {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(content)}\r\n\r\n"
            cut.sendall(head.encode() + content[:2_500_000])
        assert httpx.put(url, content=content[:-1] + bytes([content[-1] ^ 1])).status_code == 400
        assert not blobs.exists(md5)
        assert httpx.put(url, content=content).status_code == 200
        assert blobs.read(md5) == content
    assert list((tmp_path / "cut" / "blobs" / "incoming").iterdir()) == []


def test_version_that_is_still_uploading_is_not_to_be_seen(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, graphql: Any
) -> None:
    with open_run(id="writer", group="g") as run:
        run.log_artifact(draft("shards", {"f": "done"})).wait()
        run.upsert_artifact(draft("shards", {"0": "part"}), aliases=["wanted"], distributed_id="parts")
    api = fresh_api()
    assert [item.name for item in api.artifacts("dataset", f"local/{project}/shards")] == ["shards:v0"]
    assert not api.artifact_exists(f"local/{project}/shards:v1")
    assert not api.artifact_exists(f"local/{project}/shards:wanted")
    assert api.artifact(f"local/{project}/shards:latest").version == "v0"
    assert [item.name for item in api.run(f"local/{project}/writer").logged_artifacts()] == ["shards:v0"]
    (collection,) = api.artifact_type("dataset", f"local/{project}").collections()
    assert (collection.aliases, [item.version for item in collection.artifacts()]) == (["latest"], ["v0"])
    with open_run(group="g") as run:
        run.finish_artifact(draft("shards", {"1": "rest"}), aliases=["last"], distributed_id="parts")
    found = fresh_api().artifact(f"local/{project}/shards:wanted")
    assert (found.version, sorted(found.manifest.entries)) == ("v1", ["0", "1"])
    assert sorted(found.aliases) == ["last", "latest", "wanted"]


def test_same_content_logged_at_once_or_in_parts_is_one_version(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str
) -> None:
    runs = [open_run(id=f"r{number}") for number in range(4)]

    # Making them is not for several threads: wandb keeps the latest in a dictionary of its own.
    drafts = [draft("one", {"f": "same"}) for _ in runs]

    def log(number: int) -> tuple[str, str]:
        made = runs[number].log_artifact(drafts[number], aliases=[f"by{number}"], tags=["t"]).wait()
        return made.version, made.id

    with ThreadPoolExecutor(4) as pool:
        ((version, artifact_id),) = set(pool.map(log, range(4)))
    assert version == "v0"
    nothing_new = (
        runs[0].log_artifact(draft("one", {"f": "same"}, incremental=True), aliases=["again"]).wait()
    )
    assert (nothing_new.version, nothing_new.id) == ("v0", artifact_id)
    for part in range(2):
        finish = runs[part].upsert_artifact if part == 0 else runs[part].finish_artifact
        finish(draft("one", {"f": "same"}), distributed_id="parts")
        runs[part].finish()
    api = fresh_api()
    (found,) = api.artifacts("dataset", f"local/{project}/one")
    assert sorted(found.aliases) == ["again", "by0", "by1", "by2", "by3", "latest"]
    for number in range(4):
        runs[number].finish()
        logged = api.run(f"local/{project}/r{number}").logged_artifacts()
        assert [(item.name, item.state) for item in logged] == [("one:v0", "COMMITTED")]
    with open_run() as run:
        assert run.log_artifact(draft("one", {"f": "other"})).wait().version == "v1"


def test_xxh128_artifact_falls_back_to_md5(
    open_run: OpenRun, fresh_api: FreshApi, project: str, tmp_path: Path
) -> None:
    (tmp_path / "f.txt").write_text("hashed twice")
    artifact = wandb.Artifact("fast", type="dataset", digest_algorithm="XXH128")
    artifact.add_file(str(tmp_path / "f.txt"))
    with open_run() as run:
        run.log_artifact(artifact).wait()
    found = fresh_api().artifact(f"local/{project}/fast:v0")
    folder = found.download(root=str(tmp_path / "down"))
    found.verify(root=folder)
    assert found.digest == found.manifest.digest()
    assert found.manifest.entries["f.txt"].digest == "7Rg9X6rIdQlgNMMFJEAHOQ=="


def test_version_tells_when_it_was_logged_who_used_it_and_where_it_is_linked(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, tmp_path: Path
) -> None:
    with open_run(id="maker") as run:
        for step in range(3):
            run.log({"loss": step})
        logged = run.log_artifact(draft("net", {"w": "1"}, type="model"), aliases=["best"]).wait()
        linked = run.link_artifact(logged, "wandb-registry-model/net", aliases=["prod"])
    assert (linked.is_link, linked.source_qualified_name) == (True, f"local/{project}/net:v0")
    with open_run(id="user") as run:
        used = run.use_artifact("wandb-registry-model/net:prod")
        assert (used.is_link, used.source_name, used.version) == (True, "net:v0", "v0")
        run.use_artifact("net:best", type="model", aliases=["again"])
    source = fresh_api().artifact(f"local/{project}/net:best")
    assert source.history_step == 2
    assert {item.qualified_name for item in source.linked_artifacts} == {linked.qualified_name}
    assert [item.linked_at is not None for item in source.linked_artifacts] == [True]
    assert [run.id for run in source.used_by()] == ["user"]
    assert source.source_artifact.id == linked.source_artifact.id == source.id
    assert source.collection.is_sequence()
    assert not linked.collection.is_sequence()
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "stray.txt").write_text("not in it")
    folder = Path(source.checkout(root=str(tmp_path / "checkout")))
    assert sorted(path.name for path in folder.iterdir()) == ["w"]
    with pytest.raises(ValueError, match="is not a linked artifact"):
        source.unlink()
    fresh_api().artifact("wandb-registry-model/net:prod").unlink()
    assert fresh_api().artifact(f"local/{project}/net:best").linked_artifacts == []
    relinked = fresh_api().artifact(f"local/{project}/net:best").link("wandb-registry-model/net")
    assert relinked.version == "v1", "the number of the link that was taken away is not used again"
