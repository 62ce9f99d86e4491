"""Values that JSON, SQLite or an encoding cannot hold: they cost the run that sent them little, and others nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import wandb

from tests.devserver.conftest import FindRun, OpenRun
from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.blobs import BlobStore

UPSERT = """mutation M($project: String!, $name: String, $config: JSONString, $summary: JSONString) {
    upsertBucket(input: {entityName: "local", modelName: $project, name: $name, config: $config,
        summaryMetrics: $summary}) { bucket { id } } }"""

Graphql = Callable[..., tuple[int, dict[str, Any]]]


def page(server: DevServer, path: str) -> httpx.Response:
    return httpx.get(server.url + path, headers={"Accept": "text/html"})


def stream(server: DevServer, project: str, name: str, **message: Any) -> httpx.Response:
    url = f"{server.url}/files/local/{project}/{name}/file_stream"
    return httpx.post(url, content=json.dumps(message), auth=("api", server.api_key))


def chunk(file: str, *lines: str, offset: int = 0) -> dict[str, Any]:
    return {"files": {file: {"offset": offset, "content": list(lines)}}}


def test_infinities_in_a_config_leave_pages_and_filters_as_they_are(
    server: DevServer, open_run: OpenRun, api: wandb.Api, find: FindRun, project: str
) -> None:
    odd = open_run(id="odd", group="g", config={"x": math.inf, "deep": [math.nan, -math.inf], "y": 1})
    odd.finish()
    with open_run(id="plain", config={"x": 2.0, "y": 3}) as run:
        run.log({"loss": 1})
    # The SDK itself sends NaN as null, and the infinities as they are.
    assert dict(find("odd").config) == {"x": "Infinity", "deep": [None, "-Infinity"], "y": 1}
    path = f"local/{project}"
    assert [run.id for run in api.runs(path, filters={"config.y": {"$gt": 1}})] == ["plain"]
    assert [run.id for run in api.runs(path, order="-config.x")] == ["odd", "plain"]
    for address in (
        f"/{path}/runs/odd",
        f"/{path}/runs/plain",
        f"/{path}/groups/g",
        f"/{path}/runs?q=config.y%3E1",
    ):
        assert page(server, address).status_code == 200, address


def test_halves_of_surrogate_pairs_are_replaced(
    server: DevServer, open_run: OpenRun, find: FindRun, project: str
) -> None:
    with open_run(id="r", config={"text": "a\ud800b"}) as run:
        run.log({"note": "c\udfffd", "loss": 1, "face": "\U0001f600"})
    assert find("r").config == {"text": "a�b"}
    (row,) = find("r").scan_history()
    assert (row["note"], row["face"]) == ("c�d", "\U0001f600")
    assert find("r").summary["note"] == "c�d"
    sent = stream(server, project, "r", **chunk("output.log", "said \ud800", offset=0))
    assert (sent.status_code, "said �" in page(server, f"/local/{project}/runs/r").text) == (200, True)
    sent = stream(server, project, "r", **chunk("wandb-summary.json", json.dumps({"\ud800": "\udc00"})))
    assert (sent.status_code, dict(find("r").summary)) == (200, {"�": "�"})


@pytest.mark.parametrize(
    "config",
    [
        {"airflow": {"value": {"triggered_by": ["x", 1, None, {"run": ["y"]}]}}},
        {"airflow": {"value": {"triggered_by": "x", "parent_run": {"a": 1}}}},
        {"airflow": [1], "x": {"value": math.nan}},
        {"_wandb": 5},
        {"_wandb": {"value": {"m": "[no list", "t": {"3": 67}}}},
        {"n" * 3 + "1" * 5000: {"value": 10**400}, "n": {"value": 1}},
    ],
)
def test_no_config_breaks_the_pages(
    server: DevServer, graphql: Graphql, project: str, config: dict[str, Any]
) -> None:
    sent = {
        "project": project,
        "name": "r",
        "config": json.dumps(config),
        "summary": json.dumps({"x": -(10**400)}),
    }
    status, answer = graphql(UPSERT, sent)
    assert status == 200, answer
    lines = [
        json.dumps({"_step": 1, "y": 10**400, "z": 1}),
        '{"_step": 2, "y": 1e999, "z": -1e999}',
        '{"z": 3}',
    ]
    assert stream(server, project, "r", **chunk("wandb-history.jsonl", *lines)).status_code == 200
    events = ['{"_runtime": -1e999, "system.cpu": 1}', '{"_runtime": true, "system.cpu": NaN}']
    assert stream(server, project, "r", **chunk("wandb-events.jsonl", *events)).status_code == 200
    for path in ("/runs/r", "/runs?q=config.n:1", f"/runs?q=config.n%3C{10**400}", "/runs?sort=config.n", ""):
        shown = page(server, f"/local/{project}{path}")
        assert shown.status_code == 200, (path, shown.text[:2000])
    document = f"""{{ project(name: "{project}", entityName: "local") {{ run(name: "r") {{
        sampledHistory(specs: ["{{\\"keys\\": [\\"z\\"]}}"]) }} }} }}"""
    status, answer = graphql(document, {})
    rows = answer["data"]["project"]["run"]["sampledHistory"][0]
    assert (status, [row["z"] for row in rows]) == (200, [1, "-Infinity", 3])


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"complete": True, "exitcode": "x"}, "'exitcode' of the file stream must be a number"),
        ({"complete": True, "exitcode": 10**30}, "'exitcode' of the file stream must be a number"),
        ({"files": [1]}, "'files' of the file stream must be an object"),
        (chunk("output.log", "x", offset=10**30), "needs 'offset' (from 0 on)"),
        (chunk("wandb-history.jsonl", '{"_step": Infinity}'), "has the _step 'inf'"),
        (
            chunk("wandb-history.jsonl", f'{{"_step": {10**30}}}'),
            "a step is a whole number of at most 64 bits",
        ),
        (chunk("wandb-history.jsonl", '{"_step": "1"}'), "has the _step '1'"),
        (
            chunk("wandb-history.jsonl", "[1]"),
            "line 0 of the history of a run must be a JSON object, not list",
        ),
        (chunk("wandb-events.jsonl", nested(101)), "line 0 of the events of a run is nested deeper than 100"),
        (
            chunk("wandb-history.jsonl", nested(100_000)),
            "line 0 of the history of a run is nested deeper than 100",
        ),
        (chunk("wandb-summary.json", nested(101)), "the summary of a run is nested deeper than 100"),
    ],
)
def test_message_that_cannot_be_stored_is_refused_with_the_reason(
    server: DevServer, graphql: Graphql, project: str, message: dict[str, Any], reason: str
) -> None:
    assert graphql(UPSERT, {"project": project, "name": "r"})[0] == 200
    refused = stream(server, project, "r", **message)
    assert (refused.status_code, reason in refused.json()["error"]) == (400, True), refused.text


def test_documents_of_runs_are_taken_up_to_a_depth(server: DevServer, graphql: Graphql, project: str) -> None:
    sent = {"project": project, "name": "r", "config": nested(100), "summary": nested(100)}
    assert graphql(UPSERT, sent)[0] == 200
    assert stream(server, project, "r", **chunk("wandb-history.jsonl", nested(100))).status_code == 200
    assert page(server, f"/local/{project}/runs/r").status_code == 200
    for key, reason in (
        ("config", "config of a run is nested deeper"),
        ("summary", "summaryMetrics of a run is nested"),
    ):
        for depth in (101, 100_000):
            status, answer = graphql(UPSERT, sent | {key: nested(depth)})
            assert (status, reason in answer["error"]) == (400, True), answer


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('projectName: "p", runName: "r", files: [5]', "the argument 'files' must be text, not '5' (int)"),
        ('projectName: {a: 1}, runName: "r"', "the argument 'projectName' must be text"),
        ('projectName: null, runName: "r"', "the argument 'projectName' is required but null was given"),
    ],
)
def test_argument_of_a_wrong_type_is_refused_by_its_name(
    graphql: Graphql, arguments: str, reason: str
) -> None:
    status, answer = graphql(f"mutation {{ createRunFiles({arguments}) {{ runID }} }}", {})
    assert (status, reason in answer["error"]) == (400, True), answer


def test_request_with_halves_of_surrogate_pairs_is_refused_or_answered(server: DevServer) -> None:
    for body in (b'{"query": "{ \\ud800 }"}', b'{"query": "{ viewer { id } }", "operationName": "\\ud800"}'):
        refused = httpx.post(f"{server.url}/graphql", content=body, auth=("api", server.api_key))
        assert (refused.status_code, bool(refused.json()["error"])) == (400, True), refused.text


def test_files_of_any_size_and_depth_have_a_page(
    server: DevServer, graphql: Graphql, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert graphql(UPSERT, {"project": project, "name": "r"})[0] == 200
    link = '<link rel="stylesheet" type="text/css" href="https://app.wandb.ai/normalize.css" />'
    html = f"{link}<p>{'x' * 3_000_000}</p>"
    table = '{"columns": ["a"], "data": [[' + "[" * 100_000 + "]" * 100_000 + "]]}"
    files = {
        "media/html/report.html": (html, "text/html"),
        "media/table/t.table.json": (table, "application/json"),
    }
    with server.backend.store.write() as conn:
        run = conn.execute("SELECT pk FROM runs WHERE project = ?", (project,)).fetchone()["pk"]
        for name, (content, mimetype) in files.items():
            blob = server.backend.blobs.put(content.encode())
            conn.execute(
                "INSERT INTO run_files (run, name, md5, size, mimetype, updated_at) VALUES (?, ?, ?, ?, ?, ?)",
                (run, name, blob.md5, blob.size, mimetype, "2026-01-01T00:00:00+00:00"),
            )
    shown = page(server, f"/local/{project}/runs/r")
    assert (shown.status_code, "it is nested deeper than 100 levels" in shown.text) == (200, True)
    monkeypatch.delattr(BlobStore, "read")
    alone = page(server, f"/local/{project}/runs/r/files/media/html/report.html")
    assert (alone.status_code, alone.text) == (200, html.removeprefix(link))
    assert "sandbox" in alone.headers["content-security-policy"]
