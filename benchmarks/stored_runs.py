"""Finished runs by the hundred, as a benchmark needs them that reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from benchmarks.server_process import RunningServer

_RUNS_PER_REQUEST = 100


def add_runs(server: RunningServer, runs: Sequence[Mapping[str, Any]]) -> None:
    """Add runs by their ``UpsertBucketInput``, as the SDK opens them but many in a request."""
    with httpx.Client(auth=("api", server.api_key), timeout=60.0) as client:
        for start in range(0, len(runs), _RUNS_PER_REQUEST):
            values = {f"v{number}": run for number, run in enumerate(runs[start : start + _RUNS_PER_REQUEST])}
            takes = ", ".join(f"${name}: UpsertBucketInput!" for name in values)
            fields = " ".join(f"r_{name}: upsertBucket(input: ${name}) {{ inserted }}" for name in values)
            query = f"mutation UpsertBucket({takes}) {{ {fields} }}"
            answer = client.post(f"{server.url}/graphql", json={"query": query, "variables": values})
            answer.raise_for_status()
