"""The process that pushes and pulls, for ``benchmarks.xcom``: prints its seconds and bytes as JSON."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pickle
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pyarrow as pa
import s3fs
from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.io import attach

from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.sdk import RunSpec
from wandb_airflow_provider.xcom.backend import WandbXComBackend

Raw = namedtuple("Raw", "value")
_FLOATS = 8
_FOLDER_FILES = 10
_SMALL = {"rows": 1000, "accuracy": 0.91, "path": "s3://bucket/prefix", "tags": ["a", "b"]}
_SMALL_TIMES = 500
_RESET_PEAK = "5"


_ORDERS_ROW_BYTES = 80


def _orders(number: int, megabytes: int) -> pd.DataFrame:
    """Return a table as a shop has it: ids, times, categories, text, counts, rounded and unrounded numbers."""
    rows = megabytes * 2**20 // _ORDERS_ROW_BYTES
    random = np.random.default_rng(number)
    seconds = np.sort(random.integers(0, 90 * 86400, rows))
    return pd.DataFrame(
        {
            "order_id": np.arange(rows) + random.integers(10**9),
            "customer_id": random.integers(0, 200_000, rows),
            "ordered_at": pd.Timestamp("2026-01-01") + pd.to_timedelta(seconds, unit="s"),
            "country": pd.Categorical(random.choice(["DE", "FR", "US", "JP", "BR", "IN"], rows)),
            "product": random.choice([f"product {name:04}" for name in range(500)], rows),
            "quantity": random.poisson(2, rows) + 1,
            "price": np.round(random.lognormal(3, 1, rows), 2),
            "discount": random.choice([0, 0.05, 0.1, 0.2], rows),
            "score": random.normal(size=rows),
            "weight": random.normal(size=rows).astype("float32"),
            "returned": random.random(rows) < 0.03,
        }
    )


def _floats(number: int, megabytes: int) -> pd.DataFrame:
    """Return a table that nothing can compress."""
    rows = megabytes * 2**20 // 8 // _FLOATS
    values = np.random.default_rng(number).normal(size=(rows, _FLOATS))
    return pd.DataFrame(values, columns=[f"feature_{column}" for column in range(_FLOATS)])


def _push(backend: type[BaseXCom], value: Any, key: str) -> Any:
    return backend.serialize_value(value, key=key, task_id="t", dag_id="d", run_id="r", map_index=-1)


def _seconds(work: Callable[[], Any]) -> float:
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _grown(work: Callable[[], Any]) -> tuple[Any, int]:
    """Return what the work returns, and how much more memory than before was resident at most, as Linux counts it."""
    gc.collect()
    # Memory that was freed, but not given back, would hide what the work takes.
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    found = work()
    return found, _resident("VmHWM") - before


def _resident(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{what}:"))) * 1024


def _small(backend: type[BaseXCom]) -> float:
    began = time.perf_counter()
    for _ in range(_SMALL_TIMES):
        backend.deserialize_value(Raw(_push(backend, _SMALL, "small")))
    return (time.perf_counter() - began) / _SMALL_TIMES


def _times(s3: Any, table: pd.DataFrame, key: str) -> dict[str, float]:
    """Return the seconds of each way there and back, and the sizes of what it stores in bytes."""

    def there_and_back(backend: type[BaseXCom]) -> None:
        back = backend.deserialize_value(Raw(_push(backend, table, key)))
        assert back.shape == table.shape

    def plain(content: bytes) -> bytes:
        s3.put_object(Bucket="xcoms", Key="plain", Body=content)
        return bytes(s3.get_object(Bucket="xcoms", Key="plain")["Body"].read())

    common_io = _seconds(lambda: there_and_back(XComObjectStorageBackend))
    written = s3.list_objects_v2(Bucket="xcoms", Prefix="common-io/").get("Contents", [])
    assert sum(item["Size"] for item in written) > 2**20, "common-io kept the table in Airflow's database"
    s3.delete_objects(Bucket="xcoms", Delete={"Objects": [{"Key": item["Key"]} for item in written]})
    pickled = _seconds(lambda: pickle.loads(plain(pickle.dumps(table, protocol=5))))
    backend = _seconds(lambda: there_and_back(WandbXComBackend))
    held = s3.list_objects_v2(Bucket="xcoms", Prefix="wandb/")["Contents"]
    stored = [item for item in held if f"/d.t.{key}/" in item["Key"]]
    largest = max(stored, key=lambda item: item["Size"])
    content = s3.get_object(Bucket="xcoms", Key=largest["Key"])["Body"].read()
    return {
        "common_io": common_io,
        "pickled": pickled,
        "backend": backend,
        "limit": _seconds(lambda: plain(content)),
        "stored_mb": sum(item["Size"] for item in stored) / 2**20,
    }


def _memory(table: pd.DataFrame, key: str) -> dict[str, float]:
    """Return the memory of a push and of a pull, as parts of the table's own."""
    size = int(table.memory_usage(index=False, deep=True).sum())
    raw, pushed = _grown(lambda: _push(WandbXComBackend, table, key))
    _, pulled = _grown(lambda: WandbXComBackend.deserialize_value(Raw(raw)))
    return {"push_memory": pushed / size, "pull_memory": pulled / size}


def main() -> None:
    """Measure, inside one open W&B run."""
    rounds, megabytes, folder_megabytes = (int(text) for text in sys.argv[1:4])
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="xcoms")
    # What the Amazon provider would register for s3://, which is not installed here.
    attach("s3", fs=s3fs.S3FileSystem())
    found: dict[str, Any] = {"small": []}
    spec = RunSpec("run", "run", "group", "job", entity="local", project="xcom-benchmark")
    with WandbHook().open_run(spec):
        for number in range(rounds + 1):
            measured = {"small": max(0.0, _small(WandbXComBackend) - _small(BaseXCom))}
            for kind, make in (("orders", _orders), ("floats", _floats)):
                times = _times(s3, make(number, megabytes), f"{kind}{number}")
                measured |= {f"{kind}_{name}": value for name, value in times.items()}
                memory = _memory(make(number + 1000, megabytes), f"{kind}-memory")
                measured |= {f"{kind}_{name}": value for name, value in memory.items()}
            if number or not rounds:
                for name, value in measured.items():
                    found.setdefault(name, []).append(value)
        folder = Path(sys.argv[4]) / "streamed"
        folder.mkdir()
        for number in range(_FOLDER_FILES):
            with (folder / f"{number}.bin").open("wb") as file:
                for _ in range(folder_megabytes // _FOLDER_FILES):
                    file.write(os.urandom(10**6))

        def stream() -> None:
            back = WandbXComBackend.deserialize_value(Raw(_push(WandbXComBackend, folder, "folder")))
            assert len(list(back.iterdir())) == _FOLDER_FILES

        _, grown = _grown(stream)
        found["folder_mb"] = grown / 1e6
    print(json.dumps(found))


if __name__ == "__main__":
    main()
