"""Values in XCom storage come back whole from where they were stored, and heal when pushed again."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from boto3.s3.transfer import TransferConfig

from tests.unit.xcom.conftest import FRAME, Backend, pull, push
from wandb_airflow_provider.exceptions import WandbXComIntegrityError
from wandb_airflow_provider.xcom.index import INDEX_NAME
from wandb_airflow_provider.xcom.reference import StoredReference
from wandb_airflow_provider.xcom.stores import transfer


def test_a_folder_comes_back_from_the_object_store(
    backend: Backend, option: Any, bucket: Any, tmp_path: Path, hook: Any
) -> None:
    option(storage=f"s3://{bucket.name}/xcom")
    (tmp_path / "data" / "empty").mkdir(parents=True)
    (tmp_path / "data" / "run.sh").write_text("echo")
    (tmp_path / "data" / "run.sh").chmod(0o750)
    raw = push(backend, tmp_path / "data")
    assert raw["store"] == f"s3://{bucket.name}/xcom"
    entries = hook.get_conn().artifact(raw["artifact"]).manifest.entries
    location = StoredReference.from_json(raw).location
    assert entries["run.sh"].ref == f"s3://{bucket.name}/xcom/{location}/run.sh"
    back = pull(backend, raw)
    assert ((back / "run.sh").read_text(), (back / "run.sh").stat().st_mode & 0o777) == ("echo", 0o750)
    assert (back / "empty").is_dir()
    written = {item.key: item.last_modified for item in bucket.objects.all()}
    assert push(backend, tmp_path / "data", run_id="run2")["artifact"] == raw["artifact"]
    assert {item.key: item.last_modified for item in bucket.objects.all()} == written


def test_an_altered_or_truncated_or_missing_object_is_refused_with_both_digests_and_heals_when_it_is_pushed_again(
    backend: Backend, option: Any, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CTX_TRY_NUMBER", raising=False)
    option(storage=f"s3://{bucket.name}/xcom", threshold_bytes=4)
    raw = push(backend, "precious")
    prefix = f"xcom/{StoredReference.from_json(raw).location}"
    for content in (b"PRECIOUS", b"prec", b"much longer than it was", b""):
        bucket.put_object(Key=f"{prefix}/value.txt", Body=content)
        with pytest.raises(WandbXComIntegrityError, match=r"sha256:\w{64}.*sha256:\w{64}"):
            pull(backend, raw)
        assert push(backend, "precious")["artifact"] == raw["artifact"]
        assert pull(backend, raw) == "precious"
    index = next(item for item in bucket.objects.all() if item.key.endswith("index.json"))
    for content in (b"", index.get()["Body"].read().replace(b"text", b"json")):
        index.put(Body=content)
        with pytest.raises(WandbXComIntegrityError, match=r"sha256:\w{64}.*sha256:\w{64}"):
            pull(backend, raw)
    push(backend, "precious", run_id="another")
    assert pull(backend, raw) == "precious"
    index.delete()
    with pytest.raises(WandbXComIntegrityError, match="is gone"):
        pull(backend, raw)
    push(backend, "precious")
    assert pull(backend, raw) == "precious"


def test_a_large_file_goes_to_the_store_in_parts_that_leave_memory(
    backend: Backend, option: Any, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_WHOLE_BYTES", 10 << 20)
    option(storage=f"s3://{bucket.name}/xcom")
    content = os.urandom(11 << 20)
    (tmp_path / "large.bin").write_bytes(content)
    raw = push(backend, tmp_path / "large.bin")
    stored = next(item for item in bucket.objects.all() if item.key.endswith("large.bin"))
    assert stored.e_tag.strip('"').endswith("-3")
    assert pull(backend, raw).read_bytes() == content
    stored.Object().put(Body=content + b"more")
    with pytest.raises(WandbXComIntegrityError, match=r"sha256:\w{64}.*sha256:\w{64}"):
        pull(backend, raw)
    # Sent in other parts than this package's, it has another ETag, and is what it was.
    monkeypatch.delenv("AIRFLOW_CTX_TRY_NUMBER", raising=False)
    transfer_config = TransferConfig(multipart_threshold=6 << 20, multipart_chunksize=6 << 20)
    bucket.upload_fileobj(io.BytesIO(content), stored.key, Config=transfer_config)
    assert bucket.Object(stored.key).e_tag.strip('"').endswith("-2")
    push(backend, tmp_path / "large.bin")
    assert bucket.Object(stored.key).e_tag.strip('"').endswith("-2")
    bucket.upload_fileobj(io.BytesIO(content[:-1] + b"?"), stored.key, Config=transfer_config)
    push(backend, tmp_path / "large.bin")
    assert bucket.Object(stored.key).e_tag == stored.e_tag
    assert pull(backend, raw).read_bytes() == content


def test_the_same_value_is_read_from_where_it_was_stored_after_the_storage_was_changed(
    backend: Backend, option: Any, bucket: Any, hook: Any, tmp_path: Path
) -> None:
    places = [str(tmp_path / "one"), "", str(tmp_path / "two"), f"s3://{bucket.name}/xcom", ""]
    option(readable_storage=" ".join(filter(None, places)))
    raws = []
    for place in places:
        option(storage=place)
        raws.append(push(backend, FRAME, run_id="run1"))
        pd.testing.assert_frame_equal(pull(backend, raws[-1]), FRAME)
    assert raws[1]["artifact"] == raws[4]["artifact"] != raws[0]["artifact"]
    for raw in raws:
        pd.testing.assert_frame_equal(pull(backend, raw), FRAME)
    found = Path(hook.get_conn().artifact(raws[0]["artifact"]).download(root=str(tmp_path / "back")))
    assert (found / "table.arrows").is_file()


def test_w_and_bs_own_download_reads_what_the_store_has(
    backend: Backend, option: Any, bucket: Any, hook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_WHOLE_BYTES", 10 << 20)
    option(storage=f"s3://{bucket.name}/xcom")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "large.bin").write_bytes(os.urandom(11 << 20))
    (folder / "small.txt").write_text("small")
    raw = push(backend, folder)
    artifact = hook.get_conn().artifact(raw["artifact"])
    stored = {item.key.rpartition("/")[2]: item.e_tag.strip('"') for item in bucket.objects.all()}
    assert {name: entry.digest for name, entry in artifact.manifest.entries.items()} == stored
    assert {name: entry.size for name, entry in artifact.manifest.entries.items()}["large.bin"] == 11 << 20
    found = Path(artifact.download(root=str(tmp_path / "back")))
    assert {path.name for path in found.iterdir()} == {"large.bin", "small.txt", INDEX_NAME}
    assert (found / "large.bin").read_bytes() == (folder / "large.bin").read_bytes()
    assert (artifact.url, raw["artifact"]) == (raw["url"], f"local/{hook.project}/{artifact.name}")
