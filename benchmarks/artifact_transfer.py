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
from benchmarks.sdk_process import end_script, start_script
from benchmarks.server_process import RunningServer, running_server

_LEAST_SPEED = 0.5
_MOST_MB = 200.0
# From the file on disk to the version that others can use; of it, what happens before anything is sent.
_UPLOAD = """
import json, sys, time
import wandb
folder, url, key, path, options = sys.argv[1:]
settings = wandb.Settings(base_url=url, api_key=key, silent=True, console="off")
run = wandb.init(project="benchmark", entity="local", id="writer", dir=folder, settings=settings)
print("ready", flush=True)
sys.stdin.readline()
began = time.perf_counter()
artifact = wandb.Artifact("large", type="dataset")
artifact.add_file(path, **json.loads(options))
added = time.perf_counter()
run.log_artifact(artifact).wait()
print(time.perf_counter() - began, added - began)
run.finish()
"""
_DOWNLOAD = """
import sys, time
import wandb
folder, url, key, target = sys.argv[1:]
api = wandb.Api(overrides={"base_url": url}, api_key=key)
print("ready", flush=True)
sys.stdin.readline()
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
    upsertBucket(input: {entityName: "local", modelName: "benchmark", name: "writer"}) { bucket { id } }
    createRunFiles(entityName: "local", projectName: "benchmark", runName: "writer", files: $files) {
        files { uploadUrl }
    }
}
"""


def measure(rounds: int, *, megabytes: int = 1000) -> list[Figure]:
    """
    Return the speeds as parts of that of the plain copy, and how much the server's memory grew.

    Besides the SDK, the plain client of the comparison also talks to the dev server, which is the server's part; its
    limit is MD5 or the plain copy, whichever is slower.

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
    hashing, copying = typical["limit, MD5"], typical["up, plain copy"]
    # A server can hash what arrives while it does, but not faster; the SDK hashes the file before it sends it.
    checking = max(hashing, copying)
    limits = {
        "limit up, SDK": hashing + checking + typical["limit, file copy on disk"],
        "limit up, SDK without copies": hashing + checking,
        "limit up, SDK without copies, to a server that checks no digest": hashing + copying,
        "limit up, plain client": checking,
    }
    direct = "up, plain client to the dev server"
    return [
        *(_speed(name, typical, _LEAST_SPEED) for name in (*_OPTIONS, "down, SDK")),
        *(_speed(name, {**typical, **limits}) for name in limits),
        *(_speed(name, typical) for name in (direct, "down, plain client to the dev server")),
        Figure(f"speed {direct} / its limit", checking / typical[direct], "x"),
        *(
            spread(f"growth of the server's {name}", values, "MB", bar=_MOST_MB)
            for name, values in memory.items()
        ),
        *(milliseconds(f"{megabytes} MB {name}", seconds) for name, seconds in found.items()),
    ]


def _speed(name: str, seconds: Mapping[str, float], least: float | None = None) -> Figure:
    plain = "down, plain copy" if name.startswith("down") else "up, plain copy"
    return Figure(f"speed {name} / plain copy", seconds[plain] / seconds[name], "x", floor=least)


def _settle(source: Path) -> None:
    """
    Let what is measured next begin as the others do: nothing is left to write, and memory for one file was just freed.

    A virtual machine may have returned unused memory to its host. Its first use afterwards takes several times as long
    as what is written to it, and would be charged to whoever happens to come first.
    """
    os.sync()
    scratch = source.with_suffix(".scratch")
    shutil.copyfile(source, scratch)
    scratch.unlink()


def _round(source: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {**_limits(source, folder), **_plain_copy(source, folder), **_artifact(source, folder)}


def _limits(source: Path, folder: Path) -> dict[str, float]:
    """Return the seconds of what nobody can do without: one copy on this disk, and the MD5 that names the content."""
    _settle(source)
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
        _settle(source)
        found = {"up, plain copy": _put(f"{url}/large.bin", source)}
        _settle(source)
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
            found |= _sdk(name, server, folder, _UPLOAD, source, source, json.dumps(options))
    with running_server(folder / "data") as server:
        found |= _sdk("down, SDK", server, folder, _DOWNLOAD, source, folder / "target")
        _expect_equal(source, folder / "target" / source.name)
    shutil.rmtree(folder / "target")
    shutil.rmtree(folder / "data")
    return {**found, **_plain_client(source, folder)}


def _plain_client(source: Path, folder: Path) -> dict[str, float]:
    """Return the seconds of the plain client to a dev server that has nothing yet."""
    with running_server(folder / "data") as server:
        key = {"Authorization": f"Basic {b64encode(f'api:{server.api_key}'.encode()).decode()}"}
        upload_url = _upload_url(server, key, source.name)
        _settle(source)
        found = {"up, plain client to the dev server": _put(upload_url, source)}
        address = f"{server.url}/files/local/benchmark/writer/{source.name}"
        _settle(source)
        found["down, plain client to the dev server"] = _get(address, key, folder / "plain.bin")
    _expect_equal(source, folder / "plain.bin")
    return found


def _sdk(
    name: str, server: RunningServer, folder: Path, script: str, source: Path, *arguments: object
) -> dict[str, float]:
    """Return the seconds and the memory of one transfer by the SDK, which has folders of its own."""
    own = folder / "own"
    own.mkdir()
    with MemoryGrowth(server.pid) as growth:
        process = start_script(script, str(own), server.url, server.api_key, *arguments)
        assert process.stdout is not None
        process.stdout.readline()
        _settle(source)
        # The script waits for the end of its input.
        whole, *adding = map(float, end_script(process).splitlines()[-1].split())
    shutil.rmtree(own)
    found = {name: whole, f"memory, {name}": growth.peak_bytes / 1e6}
    return {**found, **{f"{name}, of it add_file()": seconds for seconds in adding}}


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
