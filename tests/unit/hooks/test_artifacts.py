"""Artifacts of an open run: files, folders, references, identical content, lineage, and every refusal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wandb_airflow_provider import download_artifact, log_artifact
from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import (
    WandbArtifactNotFoundError,
    WandbConfigurationError,
    WandbInvalidNameError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.sdk import RunSpec


@pytest.fixture
def wandb_run(hook: WandbHook, unique: str) -> Iterator[Any]:
    with hook.open_run(RunSpec("r1", "r1", "g", "t", entity="local", project=unique)) as session:
        yield session.run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("alpha")
    (folder / "sub" / "b.txt").write_text("beta")
    return folder


def files_below(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_files_and_folders_come_back_as_they_were(wandb_run: Any, data: Path, tmp_path: Path) -> None:
    single = tmp_path / "single.txt"
    single.write_text("one")
    ref = log_artifact(wandb_run, "corpus", type="dataset", paths=[data, str(single)], metadata={"rows": 2})
    assert (ref.name, ref.version, ref.type, ref.size_bytes) == ("corpus", "v0", "dataset", 12)
    assert ref.source_run == f"local/{wandb_run.project}/r1"
    folder = download_artifact(wandb_run, ref, tmp_path / "new" / "folder")
    assert folder == tmp_path / "new" / "folder"
    assert files_below(folder) == {"a.txt": "alpha", "sub/b.txt": "beta", "single.txt": "one"}


def test_a_part_of_an_artifact_is_downloaded_alone(wandb_run: Any, data: Path, tmp_path: Path) -> None:
    ref = log_artifact(wandb_run, "corpus", type="dataset", paths=data)
    folder = download_artifact(wandb_run, ref.to_json(), tmp_path / "part", part="sub")
    assert files_below(folder) == {"sub/b.txt": "beta"}


def test_identical_content_is_the_version_that_is_already_there(
    hook: WandbHook, wandb_run: Any, data: Path
) -> None:
    first = log_artifact(wandb_run, "corpus", type="dataset", paths=data, aliases=["old"])
    (data / "a.txt").write_text("changed")
    second = log_artifact(wandb_run, "corpus", type="dataset", paths=data)
    (data / "a.txt").write_text("alpha")
    again = log_artifact(wandb_run, "corpus", type="dataset", paths=data, aliases=["good"])
    assert [ref.version for ref in (first, second, again)] == ["v0", "v1", "v0"]
    assert again.digest == first.digest != second.digest
    held = hook.get_artifact(f"local/{wandb_run.project}/corpus:good")
    assert (held.version, set(held.aliases) >= {"good", "old"}) == ("v0", True)


def test_a_file_reference_stores_the_address_and_not_the_bytes(
    server: Any, hook: WandbHook, wandb_run: Any, data: Path, tmp_path: Path
) -> None:
    content = "content that stays where it is"
    (data / "a.txt").write_text(content)
    ref = log_artifact(wandb_run, "pointer", type="dataset", references=(data / "a.txt").as_uri())
    folder = download_artifact(wandb_run, ref, tmp_path / "copy")
    assert files_below(folder) == {"a.txt": content}
    stored = [path for path in server.data_dir.rglob("*") if path.is_file()]
    assert [path for path in stored if path.read_bytes() == content.encode()] == []
    entry = hook.get_conn().artifact(ref.path).manifest.entries["a.txt"]
    assert entry.ref == (data / "a.txt").as_uri()


def test_an_s3_reference_is_resolved_through_the_object_store(
    wandb_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    try:
        host, port = store.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_S3_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="corpora")
        s3.put_object(Bucket="corpora", Key="weekly/rows.txt", Body=b"three rows")
        ref = log_artifact(wandb_run, "remote", type="dataset", references=["s3://corpora/weekly"])
        folder = download_artifact(wandb_run, ref, tmp_path / "copy")
        assert files_below(folder) == {"rows.txt": "three rows"}
    finally:
        store.stop()


def test_using_and_logging_leave_edges_on_both_sides(
    hook: WandbHook, unique: str, data: Path, tmp_path: Path
) -> None:
    def spec(name: str) -> RunSpec:
        return RunSpec(name, name, "g", "t", entity="local", project=unique)

    with hook.open_run(spec("producer")) as session:
        ref = log_artifact(session.run, "corpus", type="dataset", paths=data)
    with hook.open_run(spec("consumer")) as session:
        download_artifact(session.run, "corpus", tmp_path / "copy")
    api = hook.get_conn()
    producer, consumer = (api.run(f"local/{unique}/{name}") for name in ("producer", "consumer"))
    assert [a.name for a in producer.logged_artifacts()] == ["corpus:v0"]
    assert [a.name for a in consumer.used_artifacts()] == ["corpus:v0"]
    assert [a.name for a in producer.used_artifacts()] == []
    assert hook.get_artifact(ref).source_run == f"local/{unique}/producer"
    assert [run.id for run in api.artifact(ref.path).used_by()] == ["consumer"]


def test_other_content_than_the_reference_s_is_refused(wandb_run: Any, data: Path, tmp_path: Path) -> None:
    ref = log_artifact(wandb_run, "corpus", type="dataset", paths=data)
    forged = ArtifactRef.from_json({**ref.to_json(), "digest": "0" * 32})
    with pytest.raises(WandbConfigurationError, match="not the same content"):
        download_artifact(wandb_run, forged, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "path", ["corpus:champion", "corpus:v7", "nothing:latest", "elsewhere/corpus:latest"]
)
def test_an_alias_or_version_that_does_not_exist_is_not_found(
    wandb_run: Any, data: Path, tmp_path: Path, path: str
) -> None:
    log_artifact(wandb_run, "corpus", type="dataset", paths=data)
    with pytest.raises(WandbArtifactNotFoundError, match=path.partition(":")[0]):
        download_artifact(wandb_run, path, tmp_path / "copy")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "bad name"}, WandbInvalidNameError, "W&B refuses the artifact name 'bad name'"),
        ({"name": "x" * 129}, WandbInvalidNameError, "W&B refuses the artifact name"),
        ({"aliases": ["v3"]}, WandbInvalidNameError, "'v3' looks like a version number"),
        ({"aliases": ["a/b"]}, WandbInvalidNameError, "W&B refuses the alias 'a/b'"),
        ({"type": ""}, WandbInvalidNameError, "type"),
        ({"type": "a/b"}, WandbInvalidNameError, "type"),
        ({"type": "job"}, WandbInvalidNameError, "type"),
        ({"paths": ["/no/such/file"]}, WandbConfigurationError, r"\['/no/such/file'\] do not exist"),
        ({"paths": ()}, WandbConfigurationError, "has nothing to log: pass paths or references"),
        ({"paths": "EMPTY"}, WandbConfigurationError, "nothing to log"),
        (
            {"metadata": {str(i): i for i in range(101)}},
            WandbConfigurationError,
            "has 101 metadata keys; W&B keeps at most 100",
        ),
        ({"references": "nothing://bucket"}, WandbConfigurationError, "nothing://bucket"),
        ({"references": "file:///no/such/file"}, WandbConfigurationError, "/no/such/file"),
        ({"metadata": {"when": object()}}, WandbConfigurationError, "has metadata that is no JSON"),
    ],
)
def test_what_cannot_be_logged_is_refused_before_anything_is_sent(
    server: Any,
    wandb_run: Any,
    data: Path,
    tmp_path: Path,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    if arguments.get("paths") == "EMPTY":
        (tmp_path / "empty").mkdir()
        arguments = {"paths": tmp_path / "empty"}
    given = {"name": "corpus", "type": "dataset", "paths": data, **arguments}
    server.backend.requests.clear()
    with pytest.raises(error, match=message):
        log_artifact(wandb_run, given.pop("name"), **given)
    assert [request.operation for request in server.requests() if "Artifact" in request.operation] == []


@pytest.mark.parametrize("artifact", ["a/b/c/d:v1", "bad name:v1", "", {"entity": "local"}, 7])
def test_what_is_no_artifact_is_refused_before_anything_is_sent(
    wandb_run: Any, tmp_path: Path, artifact: Any
) -> None:
    with pytest.raises(WandbConfigurationError):
        download_artifact(wandb_run, artifact, tmp_path)
    assert os.listdir(tmp_path) == []
