"""Values through Airflow's task runner: what is stored, in which run, and what a reader gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import DAG
from airflow.sdk.bases.xcom import BaseXCom

from tests.unit.xcom.conftest import FRAME, Backend, pull, push
from wandb_airflow_provider import WandbDownloadArtifactOperator, WandbPythonOperator, by_reference
from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbUnavailableError,
    WandbXComRefusedError,
)
from wandb_airflow_provider.xcom.index import INDEX_NAME
from wandb_airflow_provider.xcom.producer import prepare
from wandb_airflow_provider.xcom.reference import MARKER, Producer


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


@pytest.mark.slow
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


def test_bytes_in_a_dict_or_list_are_passed_small_and_large(
    backend: Backend, option: Any, server: Any
) -> None:
    option(threshold_bytes=2000)
    value = {"small": b"\x00\xff", "rest": [bytearray(b"x"), [b"\x01" * 2001]]}
    raw = push(backend, value)
    assert raw["rest"][1][0]["name"] == "dag.task.return_value--rest--1--0"
    assert pull(backend, raw) == value
    many = [bytes([number]) * 50 for number in range(99)]
    raw = push(backend, many, key="many")
    assert raw["codec"] == "json"
    assert pull(backend, raw) == many
    before = len(server.requests())
    assert pull(backend, push(backend, [b"", b"\n"])) == [b"", b"\n"]
    assert len(server.requests()) == before


def make_several() -> Any:
    return {"text": "x" * 100_000, "rows": list(range(20_000)), "small": 3}


def test_each_of_several_outputs_is_logged_in_the_run_of_its_task(
    backend: Backend, hook: Any, run_task: Any
) -> None:
    with DAG("dag", schedule=None):
        several = WandbPythonOperator(task_id="several", python_callable=make_several, multiple_outputs=True)
    made = run_task(several)
    assert made.state == "success", made.error
    assert [made.xcom(key)["codec"] for key in ("text", "rows")] == ["text", "json"]
    assert made.xcom("small") == 3
    (run,) = _runs(hook)
    assert {artifact.name.partition(":")[0] for artifact in run.logged_artifacts()} >= {
        "dag.several.text",
        "dag.several.rows",
    }
    assert {key: len(pull(backend, made.xcom(key))) for key in ("text", "rows")} == {
        "text": 100_000,
        "rows": 20_000,
    }
    assert pull(backend, made.xcom()) == make_several()


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


@pytest.mark.slow
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


def test_keys_that_are_the_same_in_json_are_refused(backend: Backend, hook: Any) -> None:
    with pytest.raises(WandbConfigurationError, match="become the same text in JSON"):
        push(backend, {1: FRAME, "1": FRAME.head(1)})


@pytest.mark.parametrize(
    ("member", "error"),
    [
        (pd.DataFrame({"a": [1 + 2j]}), WandbConfigurationError),
        (np.array([object()]), WandbConfigurationError),
        ({1: "a", "1": "b"}, WandbConfigurationError),
        ("x" * 3000, WandbXComRefusedError),
        (object(), TypeError),
    ],
    ids=["table", "array", "keys", "size", "class"],
)
@pytest.mark.parametrize("several", [False, True])
def test_a_member_that_cannot_be_passed_is_refused_before_another_one_is_sent(
    backend: Backend, option: Any, server: Any, hook: Any, member: Any, error: type[Exception], several: bool
) -> None:
    option(max_value_bytes=2500)
    before = len(server.requests())
    value = {"good": FRAME, "bad": member}
    producer = Producer("dag", "run1", "task", "return_value")
    with pytest.raises(error):
        prepare(value, producer, each=True) if several else push(backend, value)
    assert len(server.requests()) == before


def test_a_result_that_could_not_be_stored_is_not_taken_for_stored(
    backend: Backend, option: Any, tmp_path: Path
) -> None:
    option(storage="/proc/no-folder-can-be-made-here")
    value = {"table": FRAME}
    with pytest.raises(WandbUnavailableError):
        prepare(value, Producer("dag", "run1", "task", "return_value"), each=False)
    option(storage=tmp_path / "store")
    pd.testing.assert_frame_equal(pull(backend, push(backend, value))["table"], FRAME)


@pytest.mark.slow
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
