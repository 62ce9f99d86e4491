"""Object stores: S3 in few requests, others by nothing but fsspec's own interface; wandb finds what they keep."""

from __future__ import annotations

import hashlib
import json
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
import numpy as np
import pandas as pd
import pytest

from tests.unit.xcom.conftest import FRAME, Backend, pull, push
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbXComIntegrityError
from wandb_airflow_provider.object_storage import Place, address_of, open_place
from wandb_airflow_provider.xcom.artifact_run import artifact_run
from wandb_airflow_provider.xcom.index import INDEX_NAME, FileFacts
from wandb_airflow_provider.xcom.reference import Producer, StoredReference
from wandb_airflow_provider.xcom.stores.artifact import add_references, log_value, new_value
from wandb_airflow_provider.xcom.stores.objects import ObjectStore
from wandb_airflow_provider.xcom.stores.stored_file import StoredFile, stored_file
from wandb_airflow_provider.xcom.stores.transfer import Arrival, put_in_place, receive, send


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in memory, which is neither local nor S3."""
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def test_a_store_that_is_not_s3_keeps_checks_lists_and_removes_values(
    backend: Backend, option: Any, memory: Any, hook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option(storage="memory://bucket/xcom")
    (tmp_path / "data" / "inner").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "inner/empty"):
        (tmp_path / "data" / name).write_text(name.removesuffix("inner/empty"))
    raw, other = push(backend, tmp_path / "data"), push(backend, FRAME, key="frame")
    back = pull(backend, raw)
    assert {path.relative_to(back).as_posix() for path in back.rglob("*") if path.is_file()} == {
        "a.txt",
        "b.txt",
        "inner/empty",
    }
    assert (back / "b.txt").read_text() == "b.txt"
    pd.testing.assert_frame_equal(pull(backend, other), FRAME)
    location = StoredReference.from_json(raw).location
    entries = hook.get_conn().artifact(raw["artifact"]).manifest.entries
    assert entries["a.txt"].ref == f"memory://bucket/xcom/{location}/a.txt"
    written = memory.created(f"/bucket/xcom/{location}/a.txt")
    assert push(backend, tmp_path / "data", run_id="run2")["artifact"] == raw["artifact"]
    assert memory.created(f"/bucket/xcom/{location}/a.txt") == written
    store = ObjectStore("memory://bucket/xcom")
    (seen,) = [found for found in store.stored([raw["scope"]]) if found.location == location]
    memory.pipe_file(f"/bucket/xcom/{location}/a.txt", b"altered and longer")
    with pytest.raises(WandbXComIntegrityError, match=r"sha256:\w{64}.*sha256:\w{64}"):
        pull(backend, raw)
    memory.pipe_file(f"/bucket/xcom/{location}/a.txt", b"A.TXT")
    monkeypatch.setenv("AIRFLOW_CTX_TRY_NUMBER", "2")
    push(backend, tmp_path / "data")
    assert (pull(backend, raw) / "a.txt").read_text() == "a.txt"
    assert not store.remove(seen)
    now = store.found(location)
    assert now is not None
    assert store.remove(now)
    assert location not in {found.location for found in store.stored([raw["scope"]])}
    with pytest.raises(WandbXComIntegrityError, match="is gone"):
        pull(backend, raw)


def test_a_folder_as_store_is_read_by_wandb_itself(
    backend: Backend, option: Any, hook: Any, tmp_path: Path
) -> None:
    option(storage=tmp_path / "store")
    raw = push(backend, FRAME)
    artifact = hook.get_conn().artifact(raw["artifact"])
    found = Path(artifact.download(root=str(tmp_path / "back")))
    files = {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}
    assert files == set(artifact.manifest.entries) == {"table.arrows", f"{INDEX_NAME}/folder"}


def test_what_was_altered_in_a_folder_is_written_again_by_a_retry_and_not_read_by_a_first_try(
    backend: Backend, option: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option(storage=tmp_path / "store", threshold_bytes=4)
    raw = push(backend, "precious")
    file = tmp_path / "store" / StoredReference.from_json(raw).location / "value.txt"
    file.write_text("PRECIOUS")
    monkeypatch.setenv("AIRFLOW_CTX_TRY_NUMBER", "1")
    push(backend, "precious", run_id="run2")
    assert file.read_text() == "PRECIOUS"
    monkeypatch.setenv("AIRFLOW_CTX_TRY_NUMBER", "2")
    push(backend, "precious")
    assert pull(backend, raw) == "precious"
    (tmp_path / "elsewhere").write_text("precious")
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    push(backend, "precious")
    assert not file.is_symlink()
    assert pull(backend, raw) == "precious"


def test_a_file_that_is_sent_again_after_a_timeout_is_sent_whole(bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"content" * 1000)
    place = open_place(f"s3://{bucket.name}/xcom", "XCom storage")
    place.fs.connect()
    attempts = []

    def time_out_once(**_: Any) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise TimeoutError

    place.fs.s3.meta.events.register("after-call.s3.PutObject", time_out_once)
    send(place, [(tmp_path / "value", f"{place.root}/value")])
    assert len(attempts) == 2
    assert bucket.Object("xcom/value").get()["Body"].read() == b"content" * 1000


def test_a_table_takes_three_requests_into_s3_and_two_out_of_it(
    backend: Backend, option: Any, bucket: Any
) -> None:
    option(storage=f"s3://{bucket.name}/xcom")
    fs = open_place(f"s3://{bucket.name}/xcom", "XCom storage").fs
    fs.connect()
    asked: list[str] = []
    fs.s3.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
    large = pd.DataFrame({"x": np.random.default_rng(1).normal(size=300_000)})
    for number, value in enumerate((FRAME, large)):
        asked.clear()
        raw = push(backend, value, key=f"key{number}")
        assert asked == ["ListObjectsV2", "PutObject", "PutObject"]
        asked.clear()
        pd.testing.assert_frame_equal(pull(backend, raw), value)
        assert asked == ["GetObject", "GetObject"]
        asked.clear()
        push(backend, value, key=f"key{number}", run_id="run2")
        assert asked == ["ListObjectsV2"]


def test_a_file_in_s3_that_has_become_larger_is_refused_before_it_is_read(
    bucket: Any, tmp_path: Path
) -> None:
    place = open_place(f"s3://{bucket.name}/xcom", "XCom storage")
    content = b"x" * (3 << 20)
    facts = FileFacts(len(content), hashlib.sha256(content).hexdigest(), 0o600)
    bucket.put_object(Key="xcom/a", Body=content)
    receive(place, [Arrival(f"{place.root}/a", tmp_path / "a", facts)], "a value")
    assert (tmp_path / "a").read_bytes() == content
    bucket.put_object(Key="xcom/b", Body=content * 2)
    with pytest.raises(WandbXComIntegrityError, match=r"'b' has 6291456 bytes.*sha256:\w{64}"):
        receive(place, [Arrival(f"{place.root}/b", tmp_path / "b", facts)], "a value")
    assert not (tmp_path / "b").exists()


def test_a_file_in_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("new")
    target = tmp_path / "store" / ("n" * 255)
    target.parent.mkdir()
    target.write_text("published")
    place = open_place(str(target.parent), "XCom storage")
    with target.open() as reader:
        send(place, [(tmp_path / "value", str(target))])
        assert reader.read() == "published"
    assert target.read_text() == "new"
    with pytest.raises(FileNotFoundError):
        put_in_place(str(target), lambda half: half.write_text("ha") and half.with_name("gone").read_text())
    assert (target.read_text(), list(target.parent.iterdir())) == ("new", [target])


def test_an_url_that_nothing_opens_is_refused_with_what_to_install() -> None:
    with pytest.raises(WandbConfigurationError, match=r"Install what reads nosuch://"):
        open_place("nosuch://bucket/x", "XCom storage")
    with pytest.raises(
        WandbConfigurationError, match="names an Airflow connection, and no installed provider"
    ):
        open_place("memory://conn@bucket/x", "XCom storage")
    assert address_of("gs://google_default@bucket/x/") == "gs://bucket/x"


def _place(protocol: Any, **attributes: Any) -> Place:
    made = type("Store", (fsspec.AbstractFileSystem,), {"protocol": protocol, **attributes})
    return Place(made(), "bucket/xcom", False)


@pytest.mark.parametrize(
    ("place", "facts", "expected"),
    [
        (
            _place(("s3", "s3a")),
            {
                "size": 3,
                "ETag": '"abc-2"',
                "VersionId": "null",
                "LastModified": datetime(2026, 1, 1, tzinfo=UTC),
            },
            StoredFile("s3://bucket/xcom/a", 3, "abc-2"),
        ),
        (
            _place(("s3", "s3a")),
            {"size": 3, "ETag": '"abc"', "VersionId": "v7"},
            StoredFile("s3://bucket/xcom/a", 3, "abc", "v7"),
        ),
        (
            _place(("gs", "gcs")),
            {"size": 3, "etag": "CJ=", "generation": "17"},
            StoredFile("gs://bucket/xcom/a", 3, "CJ=", "17"),
        ),
        (
            # As adlfs is when it was given a connection string.
            _place(
                ("abfs", "az", "abfss"),
                account_name=None,
                service_client=SimpleNamespace(
                    scheme="https",
                    primary_hostname="acme.blob.core.windows.net",
                    url="https://acme.blob.core.windows.net/?sig=secret",
                ),
            ),
            {"size": 3, "etag": "0x8D", "version_id": None},
            StoredFile("https://acme.blob.core.windows.net/bucket/xcom/a", 3, "0x8D"),
        ),
        (_place("sftp"), {"size": 3}, StoredFile("sftp://bucket/xcom/a", 3)),
    ],
)
def test_a_file_is_referred_to_as_wandb_knows_its_store(
    place: Place, facts: Any, expected: StoredFile
) -> None:
    assert stored_file(place, "bucket/xcom/a", facts) == expected


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """What Google's client asks for to read objects: ``{"bucket/key": content}``."""
    with warnings.catch_warnings():
        # Of packages that it could also use.
        warnings.simplefilter("ignore")
        import google.cloud.storage  # noqa: F401
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            bucket, _, key = unquote(url.path.partition("/b/")[2]).partition("/o/")
            content = objects.get(f"{bucket}/{key}")
            if content is None:
                self.send_error(404)
                return
            if "alt=media" not in url.query:
                facts = {
                    "name": key,
                    "bucket": bucket,
                    "size": len(content),
                    "etag": "CJ=",
                    "generation": "17",
                }
                content = json.dumps(facts).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    yield objects
    server.shutdown()
    server.server_close()
    thread.join()


def test_wandb_reads_what_a_bucket_of_google_keeps(
    backend: Backend, hook: Any, gcs: dict[str, bytes], tmp_path: Path
) -> None:
    gcs["bucket/xcom/a b.txt"] = b"content"
    producer = Producer("dag", "run1", "task", "key")
    artifact = new_value(producer, {})
    add_references(artifact, {"a b.txt": StoredFile("gs://bucket/xcom/a b.txt", 7, "CJ=", "17")})
    with artifact_run(hook, producer) as wandb_run:
        path, url = log_value(wandb_run, artifact, producer)
    found = hook.get_conn().artifact(path)
    assert Path(found.download(root=str(tmp_path / "back")), "a b.txt").read_bytes() == b"content"
    assert found.url == url
