"""The XCom backend as Airflow's task runner uses it, the XComs of an Airflow, and an S3 server on loopback."""

from __future__ import annotations

import hashlib
import json
from collections import namedtuple
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.unit.xcom.forgery import Forge
from wandb_airflow_provider.xcom import producer
from wandb_airflow_provider.xcom.backend import WandbXComBackend
from wandb_airflow_provider.xcom.index import INDEX_NAME
from wandb_airflow_provider.xcom.orphans import Orphan, find_orphans, remove_orphan
from wandb_airflow_provider.xcom.reference import StoredReference
from wandb_airflow_provider.xcom.referrers import Airflow

Raw = namedtuple("Raw", "value")
Backend = type[WandbXComBackend]
FRAME = pd.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]})
NOW = timedelta(0)


def push(backend: Backend, value: Any, key: str = "return_value", run_id: str = "run1", **where: Any) -> Any:
    where = {"dag_id": "dag", "task_id": "task", "map_index": -1, **where}
    return backend.serialize_value(value, key=key, run_id=run_id, **where)


def pull(backend: Backend, raw: Any) -> Any:
    return backend.deserialize_value(Raw(raw))


def clear(backend: Backend, supervisor: Any, raw: Any, run_id: str, task_id: str = "task") -> None:
    """Clear a task as Airflow does."""
    supervisor.xcoms[(task_id, "return_value", -1)] = raw
    backend.delete(key="return_value", task_id=task_id, dag_id="dag", run_id=run_id)


class Database:
    """The XComs of an Airflow by DAG run and task, and which of its DAG runs have not ended."""

    def __init__(self) -> None:
        self.xcoms: dict[tuple[str, str], Any] = {}
        self.at_work: set[str] = set()

    @property
    def airflow(self) -> Airflow:
        return Airflow(
            lambda producer: self.xcoms.get((producer.dag_run_id, producer.task_id)),
            lambda dag_id, dag_run_id: dag_run_id in self.at_work,
        )

    def orphans(self, hook: Any) -> list[Orphan]:
        return list(find_orphans(hook, self.airflow, min_age=NOW))

    def clean(self, hook: Any) -> int:
        """Clean up as a DAG does, again and again: what was in doubt once is looked at anew. Returns what is gone."""
        return sum(
            remove_orphan(hook, self.airflow, orphan, min_age=NOW)
            for _ in range(3)
            for orphan in self.orphans(hook)
        )


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def option(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``option(purge="delete")`` sets options of the section."""

    def option(**values: Any) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"AIRFLOW__WANDB_XCOM__{name.upper()}", str(value))

    return option


@pytest.fixture
def backend(hook: Any, supervisor: Any, monkeypatch: pytest.MonkeyPatch) -> type[WandbXComBackend]:
    """Airflow configured with the backend, and a project of the test's own."""
    from airflow.sdk.execution_time import task_runner, xcom

    monkeypatch.setattr(xcom, "XCom", WandbXComBackend)
    monkeypatch.setattr(task_runner, "XCom", WandbXComBackend)
    producer._prepared.clear()
    return WandbXComBackend


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    yield "http://{}:{}".format(*store.get_host_and_port())
    store.stop()


@pytest.fixture
def bucket(s3_url: str, monkeypatch: pytest.MonkeyPatch, unique: str) -> Any:
    """A bucket of the test's own."""
    import boto3
    import s3fs

    for name, value in (
        ("AWS_ENDPOINT_URL", s3_url),
        ("AWS_S3_ENDPOINT_URL", s3_url),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    made = boto3.resource("s3", endpoint_url=s3_url).Bucket(unique[-60:].strip("-"))
    made.create()
    yield made
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as XCom storage, in which an attacker may write."""
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__WANDB_XCOM__STORAGE", str(folder))
    return folder


@pytest.fixture
def forge(store: Path) -> Forge:
    """``forge(index, files)`` plants a value with a digest that matches, and returns a reference to it."""

    def forge(index: dict[str, Any], files: dict[str, bytes] | None = None, **changes: Any) -> dict[str, Any]:
        facts = {
            name: [len(content), hashlib.sha256(content).hexdigest(), 0o600]
            for name, content in (files or {}).items()
        }
        content = json.dumps({"format": 1, "meta": {}, "files": facts, "folders": {}, **index}).encode()
        digest = hashlib.sha256(content).hexdigest()
        folder = store / "evil" / digest
        folder.mkdir(parents=True)
        (folder / INDEX_NAME).write_bytes(content)
        for name, body in (files or {}).items():
            (folder / name).write_bytes(body)
        ref = StoredReference(f"sha256:{digest}", index["codec"], "evil", 1, 1, store=f"file://{store}")
        return {**ref.to_json(), **changes}

    return forge
