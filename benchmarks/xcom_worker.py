"""The process that pushes and pulls, for ``benchmarks.xcom``: prints its seconds and bytes as JSON."""

from __future__ import annotations

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
from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend
from airflow.sdk.bases.xcom import BaseXCom

from benchmarks.memory import MemoryGrowth
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.sdk import RunSpec
from wandb_airflow_provider.xcom.backend import WandbXComBackend

Raw = namedtuple("Raw", "value")
_COLUMNS = 8
_FOLDER_FILES = 10
_SMALL = {"rows": 1000, "accuracy": 0.91, "path": "s3://bucket/prefix", "tags": ["a", "b"]}
_SMALL_TIMES = 500


def _table(number: int, megabytes: int) -> pd.DataFrame:
    rows = megabytes * 2**20 // 8 // _COLUMNS
    values = np.random.default_rng(number).normal(size=(rows, _COLUMNS))
    return pd.DataFrame(values, columns=[f"feature_{column}" for column in range(_COLUMNS)])


def _push(backend: type[BaseXCom], value: Any, key: str) -> Any:
    return backend.serialize_value(value, key=key, task_id="t", dag_id="d", run_id="r", map_index=-1)


def _seconds(work: Callable[[], Any]) -> float:
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _grown(work: Callable[[], Any]) -> tuple[Any, int]:
    gc.collect()
    with MemoryGrowth(os.getpid()) as memory:
        found = work()
    return found, memory.peak_bytes


def _small(backend: type[BaseXCom]) -> float:
    began = time.perf_counter()
    for _ in range(_SMALL_TIMES):
        backend.deserialize_value(Raw(_push(backend, _SMALL, "small")))
    return (time.perf_counter() - began) / _SMALL_TIMES


def main() -> None:
    """Measure, inside one open W&B run."""
    rounds, megabytes, folder_megabytes = (int(text) for text in sys.argv[1:4])
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="xcoms")
    found: dict[str, Any] = {
        name: [] for name in ("common_io", "boto3", "backend", "push_memory", "pull_memory", "small")
    }
    spec = RunSpec("run", "run", "group", "job", entity="local", project="xcom-benchmark")
    with WandbHook().open_run(spec):
        for number in range(rounds + 1):
            table = _table(number, megabytes)
            size = int(table.memory_usage(index=False).sum())

            def there_and_back(backend: type[BaseXCom], table: Any = table, number: int = number) -> None:
                back = backend.deserialize_value(Raw(_push(backend, table, f"table{number}")))
                assert back.shape == table.shape

            def plain(table: Any = table) -> None:
                s3.put_object(Bucket="xcoms", Key="plain", Body=pickle.dumps(table, protocol=5))
                pickle.loads(s3.get_object(Bucket="xcoms", Key="plain")["Body"].read())

            row = {
                "common_io": _seconds(lambda run=there_and_back: run(XComObjectStorageBackend)),
                "boto3": _seconds(plain),
                "backend": _seconds(lambda run=there_and_back: run(WandbXComBackend)),
                "small": max(0.0, _small(WandbXComBackend) - _small(BaseXCom)),
            }
            table = _table(number + 1000, megabytes)
            raw, pushed = _grown(lambda table=table: _push(WandbXComBackend, table, "memory"))
            _, pulled = _grown(lambda raw=raw: WandbXComBackend.deserialize_value(Raw(raw)))
            if number:
                for name, value in row.items():
                    found[name].append(value)
                found["push_memory"].append(pushed / size)
                found["pull_memory"].append(pulled / size)
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
