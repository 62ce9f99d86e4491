"""Only what nothing refers to is removed: of one project, one Airflow, and not while it is stored again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.unit.xcom.conftest import FRAME, NOW, Backend, Database, clear, pull, push
from wandb_airflow_provider import WandbXComCleanupOperator
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.object_storage import open_place
from wandb_airflow_provider.xcom.artifact_run import artifact_run
from wandb_airflow_provider.xcom.orphans import remove_orphan
from wandb_airflow_provider.xcom.reference import Producer, StoredReference
from wandb_airflow_provider.xcom.referrers import producer_of
from wandb_airflow_provider.xcom.removal import delete_version
from wandb_airflow_provider.xcom.stored_value import StoredValue
from wandb_airflow_provider.xcom.stores.artifact import log_value, new_value
from wandb_airflow_provider.xcom.stores.objects import ObjectStore


@pytest.fixture
def store(option: Callable[..., None], tmp_path: Path) -> Path:
    """A folder as XCom storage, and a name of this Airflow."""
    option(storage=tmp_path / "store", deployment="here")
    return tmp_path / "store"


def test_cleaning_up_one_project_leaves_what_another_keeps_in_the_same_store(
    backend: Backend, option: Any, hook: Any, store: Path, database: Database
) -> None:
    push(backend, FRAME)
    option(project=f"{hook.project}-other")
    other = push(backend, FRAME)
    assert other["artifact"].startswith(f"local/{hook.project}-other/")
    assert database.clean(hook) == 1
    assert database.orphans(hook) == []
    pd.testing.assert_frame_equal(pull(backend, other), FRAME)
    assert database.clean(WandbHook(project=f"{hook.project}-other")) == 1
    assert not any(path.is_file() for path in store.rglob("*"))


def test_cleaning_up_one_airflow_leaves_what_another_keeps_in_the_same_project_and_store(
    backend: Backend, option: Any, hook: Any, store: Path, database: Database, supervisor: Any
) -> None:
    ours = push(backend, FRAME)
    option(deployment="there")
    theirs = push(backend, FRAME)
    only_theirs = push(backend, FRAME.head(1), run_id="run2")
    assert theirs["artifact"] == ours["artifact"]
    option(deployment="here", purge="delete")
    assert database.orphans(hook) == []
    clear(backend, supervisor, ours, "run1")
    clear(backend, supervisor, only_theirs, "run2")
    for raw, value in ((theirs, FRAME), (only_theirs, FRAME.head(1))):
        assert hook.get_conn().artifact_exists(raw["artifact"])
        pd.testing.assert_frame_equal(pull(backend, raw), value)


def test_to_remove_anything_this_airflow_needs_a_name(
    backend: Backend, option: Any, hook: Any, run_task: Any
) -> None:
    option(purge="delete")
    with pytest.raises(WandbConfigurationError, match="'deployment' to be set"):
        push(backend, FRAME)
    option(purge="keep")
    from airflow.sdk import DAG

    with DAG("clean", schedule=None):
        clean = WandbXComCleanupOperator(task_id="clean", dry_run=False)
    done = run_task(clean)
    assert isinstance(done.error, WandbConfigurationError)
    assert "set 'deployment' of [wandb_xcom]" in str(done.error)


def test_what_is_stored_again_between_finding_and_removing_is_kept(
    backend: Backend, hook: Any, store: Path, database: Database
) -> None:
    raw = push(backend, FRAME)
    (orphan,) = database.orphans(hook)
    stale = hook.get_conn().artifact(raw["artifact"])
    again = push(backend, FRAME, run_id="run2")
    database.at_work.add("run2")
    assert not remove_orphan(hook, database.airflow, orphan, min_age=NOW)
    # Even at the last moment, when its aliases were looked at already.
    assert not delete_version(hook, stale)
    assert set(hook.get_artifact(raw["artifact"]).aliases) == {"latest", "run=run2==here"}
    pd.testing.assert_frame_equal(pull(backend, again), FRAME)


def test_an_object_that_is_used_again_between_finding_and_removing_is_kept(
    backend: Backend, hook: Any, store: Path, database: Database
) -> None:
    raw = push(backend, FRAME)
    hours_ago = os.stat(store).st_mtime - 7200
    for path in store.rglob("*"):
        os.utime(path, (hours_ago, hours_ago))
    hook.get_conn().artifact(raw["artifact"]).delete(delete_aliases=True)
    (orphan,) = database.orphans(hook)
    assert (orphan.artifact, orphan.location) == (None, StoredReference.from_json(raw).location)
    staged = {path: path.stat().st_mtime for path in store.rglob("*") if path.is_file()}
    # What a task does first: the version that it will log is not there yet.
    again = push(backend, FRAME, run_id="run2")
    assert {path: path.stat().st_mtime for path in staged} == staged
    hook.get_conn().artifact(again["artifact"]).delete(delete_aliases=True)
    assert not remove_orphan(hook, database.airflow, orphan, min_age=NOW)
    pd.testing.assert_frame_equal(pull(backend, again), FRAME)
    assert database.clean(hook) == 1
    assert not any(path.is_file() for path in store.rglob("*"))


@pytest.mark.slow
def test_an_object_in_s3_is_removed_unless_it_is_used_again(
    backend: Backend, option: Any, hook: Any, bucket: Any, database: Database
) -> None:
    # Who stores a value knows that it may be removed at any time, and says that it uses what is there.
    option(storage=f"s3://{bucket.name}/xcom", deployment="here", purge="delete")
    fs = open_place(f"s3://{bucket.name}/xcom", "XCom storage").fs
    fs.connect()
    asked: list[str] = []
    raw = push(backend, FRAME)
    hook.get_conn().artifact(raw["artifact"]).delete(delete_aliases=True)
    (orphan,) = database.orphans(hook)
    fs.s3.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
    again = push(backend, FRAME, run_id="run2")
    assert asked == ["ListObjectsV2", "PutObject", "ListObjectsV2"]
    hook.get_conn().artifact(again["artifact"]).delete(delete_aliases=True)
    assert not remove_orphan(hook, database.airflow, orphan, min_age=NOW)
    pd.testing.assert_frame_equal(pull(backend, again), FRAME)
    bucket.put_object(Key="xcom/another-project/d.t.k/0/value", Body=b"kept")
    assert database.clean(hook) == 1
    assert [item.key for item in bucket.objects.all()] == ["xcom/another-project/d.t.k/0/value"]


def test_an_earlier_attempt_is_removed_and_the_value_of_the_later_one_kept(
    backend: Backend, hook: Any, store: Path, database: Database
) -> None:
    first, second = push(backend, FRAME), push(backend, FRAME.head(1))
    assert second["artifact"].endswith(":v1")
    database.xcoms[("run1", "task")] = second
    (orphan,) = database.orphans(hook)
    assert (orphan.artifact, orphan.why) == (first["artifact"], "no XCom of ['run1'] refers to it")
    assert database.clean(hook) == 1
    pd.testing.assert_frame_equal(pull(backend, second), FRAME.head(1))


def test_a_value_without_an_artifact_that_is_passed_on_is_kept(
    backend: Backend, hook: Any, store: Path, database: Database
) -> None:
    raw = push(backend, FRAME)
    hook.get_conn().artifact(raw["artifact"]).delete(delete_aliases=True)
    alone = {**raw, "artifact": None}
    push(backend, StoredValue(StoredReference.from_json(alone)), run_id="run7", task_id="choose")
    database.xcoms[("run7", "choose")] = alone
    assert database.orphans(hook) == []
    database.xcoms.clear()
    assert database.clean(hook) == 1


FACTS = {
    "dag_id": "dag",
    "task_id": "task",
    "key": "return_value",
    "map_index": -1,
    "part": [],
    "dag_run_id": "run1",
    "deployment": "",
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"map_index": "first"},
        {"map_index": None},
        {"part": 3},
        {"part": [1]},
        {"dag_id": None},
        {"dag_run_id": ["run1"]},
        {"deployment": 7},
        {"task_id": {}},
    ],
)
def test_metadata_that_this_package_does_not_write_names_no_producer(wrong: dict[str, Any]) -> None:
    assert producer_of(FACTS) == Producer("dag", "run1", "task", "return_value")
    assert producer_of({**FACTS, **wrong}) is None
    assert producer_of("forged") is None


def test_forged_metadata_and_notes_keep_neither_tasks_nor_the_cleanup_from_their_work(
    backend: Backend, option: Any, hook: Any, store: Path, database: Database, supervisor: Any
) -> None:
    option(purge="delete")
    good = push(backend, FRAME)
    forged = [
        {**FACTS, "map_index": "first"},
        {**FACTS, "deployment": "here", "digest": 7, "size_bytes": "many"},
        {**FACTS, "deployment": "here", "digest": "sha256:" + "0" * 64, "dag_runs": 3, "passed_on": [1]},
        {**FACTS, "deployment": "here", "digest": "sha256:" + "0" * 64, "dag_id": "another"},
    ]
    paths = []
    with artifact_run(hook, Producer("dag", "run1", "task", "forged")) as wandb_run:
        for number, facts in enumerate(forged):
            producer = Producer("dag", "other", "task", f"return_value{number}", deployment="here")
            artifact = new_value(producer, {**facts, "key": producer.key})
            with artifact.new_file("value.txt") as file:
                file.write(str(number))
            paths.append(log_value(wandb_run, artifact, producer)[0])
    for path in paths:
        ref = {**good, "artifact": path, "name": path.rpartition("/")[2].partition(":")[0]}
        clear(backend, supervisor, [ref, {"nested": [ref]}], "run1")
    for note, content in (("list.json", "[]"), ("half.json", "{")):
        folder = store / ".notes" / good["scope"] / "d.t.k" / ("1" * 64)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / note).write_text(content)
    found = {orphan.artifact for orphan in database.orphans(hook)}
    assert found == {good["artifact"], paths[2]}
    assert all(hook.get_conn().artifact_exists(path) for path in paths)


def test_a_value_that_was_removed_while_it_was_found_is_written_again(
    backend: Backend, store: Path, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = push(backend, FRAME)
    for path in store.rglob("*"):
        os.utime(path, (1.0, 1.0))
    write = ObjectStore._write

    def remove_first(self: ObjectStore, target: str, content: bytes) -> Any:
        if target.endswith("/in-use"):
            seen = self.found(StoredReference.from_json(raw).location)
            assert seen is not None
            assert self.remove(seen)
        return write(self, target, content)

    monkeypatch.setattr(ObjectStore, "_write", remove_first)
    pd.testing.assert_frame_equal(pull(backend, push(backend, FRAME, run_id="run2")), FRAME)
