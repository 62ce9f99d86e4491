"""XComs through the backend, against the object storage backend of Airflow's common-io provider and plain boto3."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure, milliseconds, spread
from benchmarks.server_process import running_server

_MOST_OF_COMMON_IO = 0.25
_MOST_EXTRA_MEMORY = 1.5
_MOST_FOLDER_MB = 200.0
_MOST_SMALL_MS = 0.2
_START_SECONDS = 60.0


def measure(rounds: int, *, megabytes: int = 32, folder_megabytes: int = 1000) -> list[Figure]:
    """
    Return the time of a table there and back as a part of that of common-io, and what values cost in memory.

    All go to one S3 server on loopback; the backend also logs the artifact, in a run that is open.

    :param megabytes: Size of the table, in 2²⁰ bytes.
    :param folder_megabytes: Size of the folder that is streamed.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        _s3_server() as s3_url,
        running_server(Path(folder)) as server,
    ):
        connection = {
            "conn_type": "wandb",
            "host": server.url,
            "password": server.api_key,
            "extra": {"entity": "local", "project": "xcom-benchmark"},
        }
        environment = os.environ | {
            "AIRFLOW_HOME": f"{folder}/airflow",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": "s3://xcoms/common-io",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
            "AIRFLOW__WANDB_XCOM__STORAGE": "s3://xcoms/wandb",
            "AIRFLOW_CONN_WANDB_DEFAULT": json.dumps(connection),
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": s3_url,
            "AWS_S3_ENDPOINT_URL": s3_url,
            "WANDB_DIR": folder,
            "WANDB_CACHE_DIR": f"{folder}/cache",
            "WANDB_CONFIG_DIR": f"{folder}/config",
            "WANDB_DATA_DIR": f"{folder}/data",
            "WANDB_SILENT": "true",
        }
        arguments = [str(rounds), str(megabytes), str(folder_megabytes), folder]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.xcom_worker", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"The worker ended with {done.returncode}: {done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
    figures = [milliseconds("a small value, added by the backend", found["small"], bar=_MOST_SMALL_MS)]
    for kind in ("orders", "floats"):
        what = f"{megabytes} MB of {kind}"
        seconds = {name: found[f"{kind}_{name}"] for name in ("common_io", "pickled", "backend", "limit")}
        usual = median(seconds["common_io"])
        figures += [
            spread(f"{what}, stored", found[f"{kind}_stored_mb"], "MB"),
            milliseconds(f"{what}, push and pull, common-io", seconds["common_io"]),
            milliseconds(f"{what}, push and pull, plain boto3 and pickle", seconds["pickled"]),
            milliseconds(f"{what}, push and pull, backend", seconds["backend"]),
            milliseconds(f"{what}, limit: plain boto3 of what it stores", seconds["limit"]),
            Figure(
                f"{what}, backend / common-io",
                median(seconds["backend"]) / usual,
                "x",
                bar=_MOST_OF_COMMON_IO,
            ),
            Figure(f"{what}, limit / common-io", median(seconds["limit"]) / usual, "x"),
            spread(
                f"memory of a push / the table, {what}",
                found[f"{kind}_push_memory"],
                "x",
                bar=_MOST_EXTRA_MEMORY,
            ),
            spread(
                f"memory of a pull / the table, {what}",
                found[f"{kind}_pull_memory"],
                "x",
                bar=_MOST_EXTRA_MEMORY,
            ),
        ]
    figures.append(
        Figure(f"memory of a folder of {folder_megabytes} MB", found["folder_mb"], "MB", bar=_MOST_FOLDER_MB)
    )
    return figures


@contextmanager
def _s3_server() -> Iterator[str]:
    """Start moto's S3 server in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
