"""Values through Airflow's task runner: what is stored, in which run, and what a reader gets."""

from __future__ import annotations

import io
import os
from collections import namedtuple
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from airflow.sdk import DAG
from airflow.sdk.bases.xcom import BaseXCom
from boto3.s3.transfer import TransferConfig

from wandb_airflow_provider import WandbDownloadArtifactOperator, WandbPythonOperator, by_reference
from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbUnavailableError,
    WandbXComIntegrityError,
)
from wandb_airflow_provider.xcom.backend import WandbXComBackend
from wandb_airflow_provider.xcom.index import INDEX_NAME
from wandb_airflow_provider.xcom.orphans import find_orphans
from wandb_airflow_provider.xcom.reference import MARKER, StoredReference
from wandb_airflow_provider.xcom.referrers import Airflow
from wandb_airflow_provider.xcom.stores import transfer

Raw = namedtuple("Raw", "value")
Backend = type[WandbXComBackend]
FRAME = pd.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]})
NOTHING = Airflow(lambda producer: None, lambda dag_id, dag_run_id: False)
"""An Airflow without XComs and DAG runs."""


def push(backend: Backend, value: Any, key: str = "return_value", run_id: str = "run1", **where: Any) -> Any:
    where = {"dag_id": "dag", "task_id": "task", "map_index": -1, **where}
    return backend.serialize_value(value, key=key, run_id=run_id, **where)


def pull(backend: Backend, raw: Any) -> Any:
    return backend.deserialize_value(Raw(raw))


def tasks(*functions: Callable[..., Any]) -> list[Any]:
    """Return tasks of one DAG, named like their functions; each but the first gets what the first returned."""
    with DAG("dag", schedule=None):
        first = WandbPythonOperator(task_id=functions[0].__name__, python_callable=functions[0])
        return [
            first,
            *(
                WandbPythonOperator(
                    task_id=function.__name__,
                    python_callable=function,
                    op_args=[by_reference(first.output) if "ref" in function.__name__ else first.output],
                )
                for function in functions[1:]
            ),
        ]


def make() -> Any:
    return FRAME


def use(frame: Any) -> int:
    return len(frame)


def refer_on(value: Any) -> Any:
    return value


def load_ref(value: Any) -> int:
    return len(value.load())


@pytest.mark.parametrize("value", [None, 3, "text", [1, {"a": None}], {"a": (1, 2)}])
def test_a_small_value_stays_what_airflow_makes_of_it_and_asks_w_and_b_nothing(
    backend: Backend, server: Any, value: Any
) -> None:
    before = len(server.requests())
    raw = push(backend, value)
    assert raw == BaseXCom.serialize_value(value)
    assert pull(backend, raw) == value
    assert len(server.requests()) == before


def test_a_frame_becomes_an_artifact_named_after_its_producer(backend: Backend, hook: Any) -> None:
    raw = push(backend, FRAME)
    assert raw["artifact"] == f"local/{hook.project}/dag.task.return_value:v0"
    assert raw["url"].startswith("http")
    pd.testing.assert_frame_equal(pull(backend, raw), FRAME)
    artifact = hook.get_conn().artifact(raw["artifact"])
    assert (artifact.type, set(artifact.aliases)) == ("xcom", {"latest", "run=run1"})
    assert artifact.logged_by().job_type == "xcom"
    again = push(backend, FRAME, run_id="run2")
    assert again["artifact"] == raw["artifact"]
    other = push(backend, FRAME.head(1), run_id="run2")
    assert other["artifact"] == raw["artifact"].replace(":v0", ":v1")
    assert [run.job_type for run in hook.get_conn().runs(f"local/{hook.project}")] == ["xcom", "xcom"]


def test_large_text_bytes_and_lists_become_artifacts_and_small_bytes_do_not(
    backend: Backend, option: Any
) -> None:
    option(threshold_bytes=100)
    for value, codec in (("ä" * 60, "text"), (b"\x00" * 101, "bytes"), (list(range(100)), "json")):
        raw = push(backend, value)
        assert (raw[MARKER], raw["codec"]) == (1, codec)
        assert pull(backend, raw) == value
    assert pull(backend, push(backend, b"\x00\xff")) == b"\x00\xff"


def test_members_of_a_dict_are_artifacts_of_their_own(backend: Backend) -> None:
    raw = push(backend, {"train": FRAME, "rest": [FRAME.tail(1), 3]}, map_index=2)
    names = [raw["train"]["name"], raw["rest"][0]["name"]]
    assert names == ["dag.task.return_value.2--train", "dag.task.return_value.2--rest--0"]
    back = pull(backend, raw)
    pd.testing.assert_frame_equal(back["train"], FRAME)
    assert back["rest"][1] == 3


def test_a_task_with_a_run_logs_in_it_and_its_reader_records_the_use(
    backend: Backend, hook: Any, run_task: Any, supervisor: Any
) -> None:
    producer, consumer = tasks(make, use)
    made = run_task(producer)
    assert made.state == "success", made.error
    raw = made.xcom()
    used = run_task(consumer)
    assert (used.state, used.xcom()) == ("success", 2)
    runs = {run.name: run for run in hook.get_conn().runs(f"local/{hook.project}", lazy=False)}
    assert set(runs) == {"make", "use"}
    path = raw["artifact"].rpartition("/")[2]
    assert [a.name for a in runs["make"].logged_artifacts()] == [path]
    assert [a.name for a in runs["use"].used_artifacts()] == [path]


def test_an_output_passed_by_reference_is_not_downloaded(
    backend: Backend, server: Any, run_task: Any
) -> None:
    producer, passing, loading = tasks(make, refer_on, load_ref)
    made = run_task(producer)
    before = len(server.requests())
    passed = run_task(passing)
    assert (passed.state, passed.xcom()) == ("success", made.xcom())
    asked = [(request.method, request.path) for request in server.requests()[before:]]
    assert not any(method == "GET" and "storage" in path for method, path in asked)
    loaded = run_task(loading)
    assert loaded.xcom() == 2, loaded.error


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
    for content in (b"PRECIOUS", b"prec", b"much longer than it was"):
        bucket.put_object(Key=f"{prefix}/value.txt", Body=content)
        with pytest.raises(WandbXComIntegrityError, match=r"sha256:\w{64}.*sha256:\w{64}"):
            pull(backend, raw)
        assert push(backend, "precious")["artifact"] == raw["artifact"]
        assert pull(backend, raw) == "precious"
    index = next(item for item in bucket.objects.all() if item.key.endswith("index.json"))
    index.put(Body=index.get()["Body"].read().replace(b"text", b"json"))
    with pytest.raises(WandbXComIntegrityError, match=r"sha256:\w{64}.*sha256:\w{64}"):
        pull(backend, raw)
    push(backend, "precious", run_id="another")
    assert pull(backend, raw) == "precious"
    index.delete()
    with pytest.raises(WandbXComIntegrityError, match="is gone"):
        pull(backend, raw)
    push(backend, "precious")
    assert pull(backend, raw) == "precious"


def test_while_w_and_b_is_away_the_policy_decides(
    backend: Backend, option: Any, bucket: Any, server: Any, connect: Any, unique: str
) -> None:
    from wandb_airflow_provider import sdk

    connect(server, extra={"project": unique, "timeout": 1})
    sdk.release()
    server.go_away()
    try:
        with pytest.raises(WandbUnavailableError):
            push(backend, FRAME)
        option(on_unavailable="inline")
        raw = push(backend, FRAME)
        assert raw["inline"] == "files"
        pd.testing.assert_frame_equal(pull(backend, raw), FRAME)
        option(inline_limit_bytes=10)
        with pytest.raises(WandbUnavailableError):
            push(backend, FRAME)
        option(on_unavailable="object", storage=f"s3://{bucket.name}/xcom")
        raw = push(backend, FRAME)
        assert raw["artifact"] is None
        pd.testing.assert_frame_equal(pull(backend, raw), FRAME)
    finally:
        server.come_back()
        sdk.release()


def test_while_the_store_is_away_nothing_is_logged(
    backend: Backend, option: Any, bucket: Any, hook: Any
) -> None:
    option(storage=f"s3://{bucket.name}-that-is-not-there/xcom")
    with pytest.raises(WandbUnavailableError, match="XCom storage"):
        push(backend, FRAME)
    assert list(hook.get_conn().projects("local")) is not None
    assert "xcom" not in {run.job_type for run in _runs(hook)}


def _runs(hook: Any) -> list[Any]:
    if hook.project not in {project.name for project in hook.get_conn().projects("local")}:
        return []
    return list(hook.get_conn().runs(f"local/{hook.project}"))


def test_a_value_that_looks_like_a_reference_is_refused(backend: Backend) -> None:
    with pytest.raises(WandbConfigurationError, match="marks what this XCom backend has stored"):
        push(backend, {"a": {MARKER: 1}})


def test_what_a_cleared_task_stored_is_deleted_only_with_that_policy_and_when_no_one_else_refers_to_it(
    backend: Backend, option: Any, hook: Any, supervisor: Any
) -> None:
    from wandb_airflow_provider.exceptions import WandbArtifactNotFoundError

    option(deployment="tests")
    raw = push(backend, FRAME)
    push(backend, FRAME, run_id="run2")
    where = {"key": "return_value", "task_id": "task", "dag_id": "dag"}
    supervisor.xcoms[("task", "return_value", -1)] = raw
    backend.delete(run_id="run1", **where)
    assert hook.get_artifact(raw["artifact"]).version == "v0"
    option(purge="delete")
    backend.delete(run_id="run1", **where)
    assert set(hook.get_artifact(raw["artifact"]).aliases) == {"latest", "run=run2==tests"}
    supervisor.xcoms[("other", "return_value", -1)] = raw
    backend.delete(run_id="run2", **{**where, "task_id": "other"})
    assert hook.get_artifact(raw["artifact"]).version == "v0"
    backend.delete(run_id="run2", **where)
    with pytest.raises(WandbArtifactNotFoundError):
        hook.get_artifact(raw["artifact"])


@pytest.mark.parametrize("linked", [True, False])
def test_a_version_that_was_linked_is_neither_an_orphan_nor_purged(
    backend: Backend, option: Any, hook: Any, supervisor: Any, linked: bool
) -> None:
    option(purge="delete", deployment="tests")
    raw = push(backend, FRAME)
    supervisor.xcoms[("task", "return_value", -1)] = raw
    api = hook.get_conn()
    if linked:
        api.artifact(raw["artifact"]).link(f"local/{hook.project}/chosen")
    found = list(find_orphans(hook, NOTHING, min_age=timedelta(0)))
    assert [orphan.artifact for orphan in found] == ([] if linked else [raw["artifact"]])
    backend.delete(key="return_value", task_id="task", dag_id="dag", run_id="run1")
    assert api.artifact_exists(raw["artifact"]) is linked


def test_an_artifact_with_an_end_is_removed_by_w_and_b(backend: Backend, option: Any, hook: Any) -> None:
    option(purge="ttl", ttl_days=3)
    raw = push(backend, FRAME)
    assert hook.get_conn().artifact(raw["artifact"]).ttl == timedelta(days=3)
    option(purge="keep")
    other = push(backend, FRAME, key="other")
    assert hook.get_conn().artifact(other["artifact"]).ttl is None


class Shouting(BaseXCom):
    """An inner backend that keeps its values in capitals, and says what it removes."""

    purged: ClassVar[list[Any]] = []

    @staticmethod
    def serialize_value(value: Any, **where: Any) -> str:
        return BaseXCom.serialize_value({"inner": value, "for": [where["task_id"], where["key"]]})

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        return BaseXCom.deserialize_value(result)["inner"]

    @classmethod
    def purge(cls, xcom: Any, *args: Any) -> None:
        cls.purged.append(xcom.value)


def test_an_inner_backend_keeps_what_becomes_no_artifact_and_the_references(
    backend: Backend, option: Any, supervisor: Any
) -> None:
    option(inner_backend=f"{__name__}.Shouting")
    raw = push(backend, "small")
    assert raw == {"inner": "small", "for": ["task", "return_value"]}
    assert pull(backend, raw) == "small"
    frame = push(backend, FRAME)
    assert frame["inner"][MARKER] == 1
    pd.testing.assert_frame_equal(pull(backend, frame), FRAME)
    supervisor.xcoms[("task", "return_value", -1)] = raw
    Shouting.purged.clear()
    backend.delete(key="return_value", task_id="task", dag_id="dag", run_id="run1")
    assert Shouting.purged == [raw]


def test_what_is_no_backend_is_refused_as_the_inner_one(backend: Backend, option: Any) -> None:
    for name in ("json.JSONDecoder", "no_such_module.Backend", "wandb_airflow_provider.WandbXComBackend"):
        option(inner_backend=name)
        with pytest.raises(WandbConfigurationError, match="inner_backend"):
            push(backend, 1)


def test_an_operator_that_takes_an_artifact_takes_an_output_by_reference(
    backend: Backend, run_task: Any, tmp_path: Path
) -> None:
    (producer,) = tasks(make)
    download = WandbDownloadArtifactOperator(
        task_id="download", artifact=by_reference(producer.output), folder=str(tmp_path), dag=producer.dag
    )
    raw = run_task(producer).xcom()
    done = run_task(download)
    assert done.state == "success", done.error
    assert done.xcom()["path"] == raw["artifact"]
    assert INDEX_NAME in {path.name for path in tmp_path.iterdir()}


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
