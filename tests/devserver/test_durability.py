"""A server killed at any moment has lost nothing that it had acknowledged."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from wandb_airflow_provider.devserver import DEFAULT_API_KEY, DevServer, queries

pytestmark = pytest.mark.slow

KILLS = 10
# After how many further acknowledgements the next kill comes; drawn between these.
WORK = (20, 90)
SECONDS = 120.0
LINES = 20

_SERVE = """
import sys, threading
from wandb_airflow_provider.devserver import DevServer
DevServer(sys.argv[1], port=int(sys.argv[2])).start()
print("ready", flush=True)
threading.Event().wait()
"""
_UPSERT = (
    'mutation U($name: String) { upsertBucket(input: {modelName: "p", name: $name}) { bucket { name } } }'
)
_CREATE = """
mutation CreateArtifact($digest: String!, $client: ID!) {
  createArtifact(input: {entityName: "local", projectName: "p", artifactTypeName: "dataset",
      artifactCollectionNames: ["data"], digest: $digest, clientID: $client, sequenceClientID: "same",
      enableDigestDeduplication: true}) { artifact { id state } }
}"""
_MANIFEST = """
mutation CreateArtifactManifest($id: ID!, $digest: String!) {
  createArtifactManifest(input: {artifactID: $id, name: "wandb_manifest.json", digest: $digest, entityName: "local",
      projectName: "p", type: FULL}) { artifactManifest { id file { uploadUrl } } }
}"""
_FILES = """
mutation CreateArtifactFiles($files: [CreateArtifactFileSpecInput!]!) {
  createArtifactFiles(input: {artifactFiles: $files, storageLayout: V2}) { files { edges { node { uploadUrl } } } }
}"""
_COMMIT = (
    "mutation CommitArtifact($id: ID!) { commitArtifact(input: {artifactID: $id}) { artifact { digest } } }"
)


@dataclass
class Acknowledged:
    """What the server has said yes to, counted by the clients that heard it."""

    runs: set[str] = field(default_factory=set)
    lines: dict[str, int] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)

    def count(self) -> int:
        """How many answers were heard."""
        return len(self.runs) + sum(self.lines.values()) // LINES + len(self.artifacts)


class Writer:
    """A client that repeats each request until it is answered, as the SDK does, and notes the answer."""

    def __init__(self, url: str, number: int, heard: Acknowledged, stop: threading.Event) -> None:
        self._client = httpx.Client(base_url=url, auth=("api", DEFAULT_API_KEY), timeout=10)
        self._number, self._heard, self._stop = number, heard, stop

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def stream(self) -> None:
        """Open runs one after the other, and send each some hundred lines of history."""
        for count in itertools.count():
            name = f"run-{self._number}-{count}"
            if self._graphql(_UPSERT, name=name) is None:
                return
            self._heard.runs.add(name)
            for offset in range(0, 200, LINES):
                content = [json.dumps({"_step": offset + line}) for line in range(LINES)]
                body = {"files": {"wandb-history.jsonl": {"offset": offset, "content": content}}}
                if self._send("POST", f"/files/local/p/{name}/file_stream", json=body) is None:
                    return
                self._heard.lines[name] = offset + LINES

    def log_artifacts(self) -> None:
        """Commit one version after the other, each with a file of its own."""
        if self._graphql(_UPSERT, name=f"producer-{self._number}") is None:
            return
        for count in itertools.count():
            content = f"{self._number}-{count} ".encode() * 2000
            if not self._log_artifact(content):
                return
            self._heard.artifacts[digest_of(content)] = content

    def _log_artifact(self, content: bytes) -> bool:
        digest = digest_of(content)
        whole = hashlib.md5(f"wandb-artifact-manifest-v1\ndata.txt:{digest}\n".encode()).hexdigest()
        made = self._graphql(_CREATE, digest=whole, client=digest)
        if made is None:
            return False
        artifact = made["createArtifact"]["artifact"]["id"]
        entry = {"digest": digest, "size": len(content), "birthArtifactID": artifact}
        manifest = json.dumps(
            {
                "version": 1,
                "storagePolicy": "wandb-storage-policy-v1",
                "storagePolicyConfig": {"storageLayout": "V2"},
                "contents": {"data.txt": entry},
            }
        ).encode()
        made = self._graphql(_MANIFEST, id=artifact, digest=digest_of(manifest))
        if made is None:
            return False
        described = made["createArtifactManifest"]["artifactManifest"]
        file = {
            "artifactID": artifact,
            "artifactManifestID": described["id"],
            "name": "data.txt",
            "md5": digest,
        }
        files = self._graphql(_FILES, files=[file])
        if files is None:
            return False
        url = files["createArtifactFiles"]["files"]["edges"][0]["node"]["uploadUrl"]
        return (
            (url is None or self._send("PUT", url, content=content) is not None)
            and self._send("PUT", described["file"]["uploadUrl"], content=manifest) is not None
            and self._graphql(_COMMIT, id=artifact) is not None
        )

    def _graphql(self, document: str, **variables: Any) -> dict[str, Any] | None:
        answer = self._send("POST", "/graphql", json={"query": document, "variables": variables})
        return None if answer is None else answer.json()["data"]

    def _send(self, method: str, url: str, **content: Any) -> httpx.Response | None:
        while not self._stop.is_set():
            try:
                answer = self._client.request(method, url, **content)
            except httpx.TransportError:
                self._stop.wait(0.02)
                continue
            assert answer.status_code == 200, f"{method} {url}: {answer.status_code} {answer.text}"
            return answer
        return None


def digest_of(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


@contextmanager
def serving(data: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """The server in a process of its own, once it answers; killed at the end."""
    command = [sys.executable, "-c", _SERVE, str(data), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def port() -> int:
    """A port that is free now; below the range from which the system gives ports to others."""
    for candidate in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return candidate
    raise AssertionError("no port is free")


def test_nothing_acknowledged_is_lost_when_the_server_is_killed_again_and_again_under_load(
    tmp_path: Path, port: int
) -> None:
    heard, stop = Acknowledged(), threading.Event()
    failures: list[BaseException] = []

    def working(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        return run

    writers = [Writer(f"http://127.0.0.1:{port}", number, heard, stop) for number in range(4)]
    works = [writer.stream for writer in writers[:2]] + [writer.log_artifacts for writer in writers[2:]]
    threads = [threading.Thread(target=working(work)) for work in works]
    deadline = time.monotonic() + SECONDS
    chance = random.Random(7)
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            with serving(tmp_path, port):
                enough = heard.count() + chance.randint(*WORK)
                while heard.count() < enough and not failures:
                    assert time.monotonic() < deadline, (
                        f"{heard.count()} acknowledged, {enough} wanted in time"
                    )
                    stop.wait(0.002)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for writer in writers:
            writer.close()
    assert failures == []
    assert min(len(heard.runs), len(heard.artifacts)) > 5
    assert_kept(tmp_path, heard)


def assert_kept(data: Path, heard: Acknowledged) -> None:
    with DevServer(data) as server:
        runs = {run.name: run for run in server.runs("p")}
        assert heard.runs <= set(runs)
        for name, lines in heard.lines.items():
            steps = [row["_step"] for row in queries.get_history(server.backend, runs[name])]
            assert steps[:lines] == list(range(lines)), name
        for digest, content in heard.artifacts.items():
            assert server.backend.blobs.read(base64.b64decode(digest).hex()) == content
        with server.backend.store.read() as conn:
            rows = conn.execute(
                "SELECT e.digest FROM artifacts a JOIN artifact_entries e ON e.artifact_id = a.id"
                " WHERE a.state = 'COMMITTED'"
            ).fetchall()
        assert set(heard.artifacts) <= {row["digest"] for row in rows}
