"""One large file as an artifact, up and down with wandb's SDK, against a plain HTTP copy of the same file."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import httpx

from benchmarks import plain_server
from benchmarks.figure import Figure, milliseconds, repeat, spread
from benchmarks.memory import MemoryGrowth
from benchmarks.plain_server import PIECE_BYTES
from benchmarks.sdk_process import run_script
from benchmarks.server_process import RunningServer, running_server

_LEAST_SPEED = 0.5
_MOST_MB = 200.0
# From the file on disk to the version that others can use.
_UPLOAD = """
import json, sys, time
import wandb
folder, url, key, path, options = sys.argv[1:]
settings = wandb.Settings(base_url=url, api_key=key, silent=True, console="off")
run = wandb.init(project="benchmark", entity="local", id="writer", dir=folder, settings=settings)
began = time.perf_counter()
artifact = wandb.Artifact("large", type="dataset")
artifact.add_file(path, **json.loads(options))
run.log_artifact(artifact).wait()
print(time.perf_counter() - began)
run.finish()
"""
_DOWNLOAD = """
import sys, time
import wandb
folder, url, key, target = sys.argv[1:]
api = wandb.Api(overrides={"base_url": url}, api_key=key)
began = time.perf_counter()
api.artifact("local/benchmark/large:v0").download(root=target)
print(time.perf_counter() - began)
"""
# By default the SDK copies the file aside before it sends it, and into its cache after. Neither is needed for a file
# that does not change meanwhile and that is not read back on this machine.
_OPTIONS: dict[str, dict[str, object]] = {
    "up, SDK": {},
    "up, SDK without copies": {"policy": "immutable", "skip_cache": True},
}
_FILE_URL = """
mutation CreateRunFiles($files: [String!]!) {
    createRunFiles(entityName: "local", projectName: "benchmark", runName: "writer", files: $files) {
        files { uploadUrl }
    }
}
"""


def measure(rounds: int, *, megabytes: int = 1000) -> list[Figure]:
    """
    Return the speeds as parts of that of the plain copy, and how much the server's memory grew.

    Besides the SDK, the plain client of the comparison also talks to the dev server, which is the server's part.

    :param megabytes: Size of the file, in 10⁶ bytes.
    :raises RuntimeError: what came back is not what was sent.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "large.bin")
        with source.open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(1_000_000))
        found = repeat(lambda: _round(source), rounds)
    memory = {name: found.pop(name) for name in list(found) if name.startswith("memory")}
    typical = {name: median(seconds) for name, seconds in found.items()}
    # The SDK hashes the file before it sends it; the server can hash what arrives while it does.
    least = typical["limit, MD5"] + max(typical["limit, MD5"], typical["up, plain copy"])
    limits = {
        "limit up, SDK": least + typical["limit, file copy on disk"],
        "limit up, SDK without copies": least,
    }
    return [
        *(_speed(name, typical, _LEAST_SPEED) for name in (*_OPTIONS, "down, SDK")),
        *(_speed(name, {**typical, **limits}) for name in limits),
        *(_speed(f"{way}, plain client to the dev server", typical) for way in ("up", "down")),
        *(
            spread(f"growth of the server's {name}", values, "MB", bar=_MOST_MB)
            for name, values in memory.items()
        ),
        *(milliseconds(f"{megabytes} MB {name}", seconds) for name, seconds in found.items()),
    ]


def _speed(name: str, seconds: Mapping[str, float], least: float | None = None) -> Figure:
    plain = "down, plain copy" if name.startswith("down") else "up, plain copy"
    return Figure(f"speed {name} / plain copy", seconds[plain] / seconds[name], "x", floor=least)


def _round(source: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {**_limits(source, folder), **_plain_copy(source, folder), **_artifact(source, folder)}


def _limits(source: Path, folder: Path) -> dict[str, float]:
    """Return the seconds of what nobody can do without: one copy on this disk, and the MD5 that names the content."""
    began = time.perf_counter()
    shutil.copyfile(source, folder / "copy.bin")
    copied = time.perf_counter()
    (folder / "copy.bin").unlink()
    hashing = time.perf_counter()
    with source.open("rb") as file:
        hashlib.file_digest(file, "md5")
    return {"limit, file copy on disk": copied - began, "limit, MD5": time.perf_counter() - hashing}


def _plain_copy(source: Path, folder: Path) -> dict[str, float]:
    served = folder / "served"
    served.mkdir()
    with _plain_server(served) as url:
        found = {"up, plain copy": _put(f"{url}/large.bin", source)}
        found["down, plain copy"] = _get(f"{url}/large.bin", {}, folder / "plain.bin")
    shutil.rmtree(served)
    _expect_equal(source, folder / "plain.bin")
    return found


def _artifact(source: Path, folder: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, options in _OPTIONS.items():
        # A server that has the content already would not be sent it again.
        shutil.rmtree(folder / "data", ignore_errors=True)
        with running_server(folder / "data") as server:
            found |= _sdk(name, server, folder, _UPLOAD, source, json.dumps(options))
    with running_server(folder / "data") as server:
        found |= _sdk("down, SDK", server, folder, _DOWNLOAD, folder / "target")
        _expect_equal(source, folder / "target" / source.name)
        shutil.rmtree(folder / "target")
        key = {"Authorization": f"Basic {b64encode(f'api:{server.api_key}'.encode()).decode()}"}
        found["up, plain client to the dev server"] = _put(_upload_url(server, key, source.name), source)
        address = f"{server.url}/files/local/benchmark/writer/{source.name}"
        found["down, plain client to the dev server"] = _get(address, key, folder / "plain.bin")
        _expect_equal(source, folder / "plain.bin")
    return found


def _sdk(name: str, server: RunningServer, folder: Path, script: str, *arguments: object) -> dict[str, float]:
    """Return the seconds and the memory of one transfer by the SDK, which has folders of its own."""
    own = folder / "own"
    own.mkdir()
    with MemoryGrowth(server.pid) as growth:
        seconds = float(run_script(script, str(own), server.url, server.api_key, *arguments))
    shutil.rmtree(own)
    return {name: seconds, f"memory, {name}": growth.peak_bytes / 1e6}


def _upload_url(server: RunningServer, headers: Mapping[str, str], name: str) -> str:
    payload = {"query": _FILE_URL, "variables": {"files": [name]}}
    answer = httpx.post(f"{server.url}/graphql", json=payload, headers=headers).raise_for_status()
    return str(answer.json()["data"]["createRunFiles"]["files"][0]["uploadUrl"])


@contextmanager
def _plain_server(folder: Path) -> Iterator[str]:
    command = [sys.executable, plain_server.__file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def _put(url: str, source: Path) -> float:
    began = time.perf_counter()
    address = urlsplit(url)
    connection = HTTPConnection(address.netloc, blocksize=PIECE_BYTES)
    with source.open("rb") as file:
        connection.request("PUT", address.path, file, {"Content-Length": str(source.stat().st_size)})
        answer = connection.getresponse()
        answer.read()
    connection.close()
    if answer.status >= 300:
        raise RuntimeError(f"PUT {url} was answered with {answer.status}.")
    return time.perf_counter() - began


def _get(url: str, headers: Mapping[str, str], target: Path) -> float:
    began = time.perf_counter()
    address = urlsplit(url)
    connection = HTTPConnection(address.netloc, blocksize=PIECE_BYTES)
    connection.request("GET", address.path, headers=dict(headers))
    answer = connection.getresponse()
    with target.open("wb") as file:
        shutil.copyfileobj(answer, file, PIECE_BYTES)
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"GET {url} was answered with {answer.status}.")
    return time.perf_counter() - began


def _expect_equal(source: Path, copy: Path) -> None:
    if not filecmp.cmp(source, copy, shallow=False):
        raise RuntimeError(f"{copy.name!r} is not the file that was sent.")
