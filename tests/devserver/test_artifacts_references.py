"""References to object stores, web servers and other artifacts, as the SDK makes and follows them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
import wandb
from moto.server import ThreadedMotoServer

OpenRun = Callable[..., wandb.Run]
FreshApi = Callable[..., wandb.Api]
Draft = Callable[..., wandb.Artifact]


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto_url: str, project: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty S3 bucket; the SDK finds the server that has it by its environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_S3_ENDPOINT_URL", moto_url)
    resource = boto3.resource("s3", endpoint_url=moto_url, region_name="us-east-1")
    return resource.create_bucket(Bucket=project[-60:].strip("-"))


@pytest.mark.slow
def test_objects_of_a_bucket_are_referenced_by_checksum_and_read_back(
    bucket: Any, open_run: OpenRun, fresh_api: FreshApi, project: str, tmp_path: Path
) -> None:
    for key, body in (("data/a.csv", b"aa"), ("data/deep/b.csv", b"bbb"), ("single.txt", b"one")):
        bucket.put_object(Key=key, Body=body)
    artifact = wandb.Artifact("cloud", type="dataset")
    artifact.add_reference(f"s3://{bucket.name}/data", name="folder")
    artifact.add_reference(f"s3://{bucket.name}/single.txt")
    with open_run() as run:
        run.log_artifact(artifact).wait()
        again = wandb.Artifact("cloud", type="dataset")
        again.add_reference(f"s3://{bucket.name}/data", name="folder")
        again.add_reference(f"s3://{bucket.name}/single.txt")
        assert run.log_artifact(again).wait().version == "v0", "same objects, same version"
        bucket.put_object(Key="data/a.csv", Body=b"changed")
        changed = wandb.Artifact("cloud", type="dataset")
        changed.add_reference(f"s3://{bucket.name}/data", name="folder")
        assert run.log_artifact(changed).wait().version == "v1"

    first = fresh_api().artifact(f"local/{project}/cloud:v0")
    assert {path: (entry.ref, entry.size) for path, entry in first.manifest.entries.items()} == {
        "folder/a.csv": (f"s3://{bucket.name}/data/a.csv", 2),
        "folder/deep/b.csv": (f"s3://{bucket.name}/data/deep/b.csv", 3),
        "single.txt": (f"s3://{bucket.name}/single.txt", 3),
    }
    assert {file.name: file.direct_url for file in first.files()}[
        "single.txt"
    ] == f"s3://{bucket.name}/single.txt"
    with pytest.raises(FileNotFoundError, match="matching etag"):
        first.get_entry("folder/a.csv").download(root=str(tmp_path / "gone"))
    second = fresh_api().artifact(f"local/{project}/cloud:v1")
    folder = Path(second.download(root=str(tmp_path / "second")))
    assert (folder / "folder/a.csv").read_bytes() == b"changed"
    assert (folder / "folder/deep/b.csv").read_bytes() == b"bbb"
    second.verify(root=str(folder))


@pytest.mark.slow
def test_old_version_of_an_object_is_found_in_a_versioned_bucket(
    bucket: Any, open_run: OpenRun, fresh_api: FreshApi, project: str, tmp_path: Path
) -> None:
    bucket.Versioning().enable()
    bucket.put_object(Key="model.bin", Body=b"old")
    artifact = wandb.Artifact("kept", type="model")
    artifact.add_reference(f"s3://{bucket.name}/model.bin")
    with open_run() as run:
        run.log_artifact(artifact).wait()
    bucket.put_object(Key="model.bin", Body=b"new")
    entry = fresh_api().artifact(f"local/{project}/kept:v0").get_entry("model.bin")
    assert set(entry.extra) == {"etag", "versionID"}
    assert Path(entry.download(root=str(tmp_path / "old"))).read_bytes() == b"old"


class _Page(BaseHTTPRequestHandler):
    body = b"first"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{self.body.decode()}"')
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the console quiet."""


@pytest.fixture
def web_page() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/page.txt"
        server.shutdown()
        thread.join()


def test_changed_web_page_and_changed_file_are_noticed(
    web_page: str,
    open_run: OpenRun,
    fresh_api: FreshApi,
    project: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("before")
    artifact = wandb.Artifact("watched", type="dataset")
    artifact.add_reference(web_page)
    artifact.add_reference(f"file://{outside}")
    with open_run() as run:
        run.log_artifact(artifact).wait()
    found = fresh_api().artifact(f"local/{project}/watched:v0")
    folder = Path(found.download(root=str(tmp_path / "first")))
    assert ((folder / "page.txt").read_bytes(), (folder / "outside.txt").read_text()) == (b"first", "before")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "another-cache"))
    monkeypatch.setattr(_Page, "body", b"other")
    outside.write_text("after")
    found = fresh_api().artifact(f"local/{project}/watched:v0")
    with pytest.raises(ValueError, match="Digest mismatch for url"):
        found.get_entry("page.txt").download(root=str(tmp_path / "second"))
    with pytest.raises(ValueError, match="Digest mismatch"):
        found.get_entry("outside.txt").download(root=str(tmp_path / "second"))


def test_artifact_refers_to_one_that_the_same_run_is_still_logging(
    open_run: OpenRun, fresh_api: FreshApi, draft: Draft, project: str, tmp_path: Path
) -> None:
    source = wandb.Artifact("source", type="dataset")
    table = wandb.Table(columns=["x"], data=[[1], [2]])
    source.add(table, "shared")
    pointing = wandb.Artifact("pointing", type="dataset")
    with open_run() as run:
        run.log_artifact(source)
        pointing.add(table, "again")
        run.log_artifact(pointing).wait()
    found = fresh_api().artifact(f"local/{project}/pointing:v0")
    entry = found.manifest.entries["again.table.json"]
    assert entry.ref is not None
    assert entry.ref.startswith("wandb-artifact://")
    assert found.get("again").data == [[1], [2]]
    folder = Path(found.download(root=str(tmp_path / "pointing")))
    assert (folder / "again.table.json").is_file()
