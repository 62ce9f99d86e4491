"""How history is kept and read: metrics with steps of their own, system metrics, pages, and messages that are wrong."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import wandb
from wandb.apis.public import Run as PublicRun

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.history import HISTORY, read_history, write_lines
from wandb_airflow_provider.devserver.runs_table import get_run

OpenRun = Callable[..., wandb.Run]
FindRun = Callable[[str], PublicRun]


def test_defined_metrics_have_their_own_steps_and_summaries(open_run: OpenRun, find: FindRun) -> None:
    run = open_run()
    run.define_metric("epoch")
    run.define_metric("val/*", step_metric="epoch", summary="min,max,mean,first,last")
    run.define_metric("quiet", summary="none")
    for position, loss in enumerate([3, 1, 2]):
        run.log({"epoch": position * 10, "val/loss": loss, "quiet": 1, "nested": {"depth": position}})
    run.finish()

    found = find(run.id)
    assert found.summary_metrics["val/loss"] == {"min": 1, "max": 3, "mean": 2, "first": 3, "last": 2}
    assert "quiet" not in found.summary
    by_epoch = found.history(keys=["val/loss"], x_axis="epoch", pandas=False)
    assert by_epoch == [
        {"epoch": 0, "val/loss": 3},
        {"epoch": 10, "val/loss": 1},
        {"epoch": 20, "val/loss": 2},
    ]
    assert [row["nested.depth"] for row in found.history(keys=["nested.depth"], pandas=False)] == [0, 1, 2]
    assert found.rawconfig["_wandb"]["m"], "the definitions are part of the config"


def test_system_metrics_and_the_machine_are_recorded(open_run: OpenRun, find: FindRun) -> None:
    settings = {"x_disable_machine_info": False, "x_disable_stats": False, "x_stats_sampling_interval": 0.1}
    run = open_run(settings=settings)
    deadline = time.monotonic() + 30
    while not find(run.id).history(stream="system", pandas=False):
        assert time.monotonic() < deadline, "no system metrics have arrived"
        time.sleep(0.1)
    run.finish()

    found = find(run.id)
    events = found.history(stream="system", pandas=False)
    assert any("system.memory_percent" in event for event in events)
    assert found.system_metrics == events[-1]
    assert found.metadata["python"].startswith("CPython")


def test_lines_of_the_console_say_where_they_came_from(open_run: OpenRun, find: FindRun) -> None:
    run = open_run(settings={"console": "wrap"})
    print("[not a label] said")
    print("complained", file=sys.stderr)
    run.finish()

    lines = {(line.level, line.label, line.content) for line in find(run.id).console_logs()}
    assert {("", "", "[not a label] said"), ("error", "", "complained")} <= lines


def test_pages_of_a_scan_give_each_row_once(open_run: OpenRun, find: FindRun) -> None:
    run = open_run()
    for step in range(0, 90, 3):
        run.log({"loss": step, **({"rare": step} if step % 9 == 0 else {})}, step=step)
    run.finish()

    found = find(run.id)
    for page_size, (start, stop) in itertools.product((1, 7, 1000), ((0, None), (4, 40), (50, 10_000))):
        steps = [
            row["_step"] for row in found.scan_history(page_size=page_size, min_step=start, max_step=stop)
        ]
        assert steps == [step for step in range(0, 90, 3) if start <= step < (stop or 90)]
    assert [row["rare"] for row in found.scan_history(keys=["rare"], page_size=10)] == list(range(0, 90, 9))
    assert len(found.history(samples=5, pandas=False)) == 5


def test_repeated_and_overlapping_messages_are_counted_once(
    open_run: OpenRun, find: FindRun, server: DevServer, project: str
) -> None:
    run = open_run(id="target")
    lines = [json.dumps({"_step": step, "loss": step}) for step in range(6)]
    for start, stop in ((0, 4), (0, 4), (2, 6), (4, 6)):
        chunk = {"wandb-history.jsonl": {"offset": start, "content": lines[start:stop]}}
        assert _send(server, project, {"files": chunk}).status_code == 200
    found = find("target")
    assert [row["loss"] for row in found.scan_history()] == list(range(6))
    assert found.historyKeys["keys"]["loss"] == {
        "typeCounts": [{"type": "number", "count": 6}],
        "previousValue": 5,
    }

    other = {"wandb-history.jsonl": {"offset": 0, "content": ['{"_step": 0, "other": true}']}}
    assert _send(server, project, {"files": other}).status_code == 200
    assert find("target").historyKeys["keys"].keys() == {"_step", "other"}
    run.finish()


def test_history_keys_tell_the_latest_number_of_each_key(open_run: OpenRun, find: FindRun) -> None:
    run = open_run()
    run.log({"loss": 3.5, "kind": "first"})
    run.log({"loss": 2.5, "val": {"acc": 0.5}})
    run.log({"loss": 1.5, "kind": "last"})
    run.log({"val": {"acc": 0.75}})
    run.log({"loss": "none"})
    run.finish()

    found = find(run.id).history_keys
    latest = {key: told.get("previousValue") for key, told in found["keys"].items()}
    assert (latest["loss"], latest["val.acc"], latest["kind"], latest["_step"]) == (1.5, 0.75, None, 4)
    assert found["lastStep"] == 4


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"wandb-history.jsonl": {"offset": 3, "content": ["{"]}},
            "line 3 of the history of a run is not JSON",
        ),
        ({"wandb-history.jsonl": {"offset": -1, "content": ["{}"]}}, "needs 'offset' (from 0 on)"),
        ({"wandb-history.jsonl": {"offset": 0, "content": [{}]}}, "needs 'offset' (from 0 on)"),
        ({"wandb-summary.json": {"offset": 0, "content": ["[1]"]}}, "must be a JSON object, not list"),
        ({"wandb-summary.json": ["{}"]}, "needs 'offset' (from 0 on)"),
        ({"other.txt": {"offset": 0, "content": ["x"]}}, "does not know the file 'other.txt'"),
    ],
)
def test_message_that_is_not_understood_is_refused_and_changes_nothing(
    open_run: OpenRun, find: FindRun, server: DevServer, project: str, files: dict[str, Any], message: str
) -> None:
    open_run(id="target")
    answer = _send(server, project, {"files": {"output.log": {"offset": 0, "content": ["kept?"]}, **files}})
    assert (answer.status_code, message in answer.json()["error"]) == (400, True), answer.text
    assert "kept?" not in [line.content for line in find("target").console_logs()]


def test_page_of_a_long_history_is_found_through_the_index(
    open_run: OpenRun, server: DevServer, project: str
) -> None:
    open_run(id="target").finish()
    with server.backend.store.write() as conn:
        row = get_run(conn, "local", project, "target")
        assert row is not None
        write_lines(conn, row["pk"], HISTORY, 0, [json.dumps({"_step": step}) for step in range(20_000)])
        visited = 0

        def count() -> int:
            nonlocal visited
            visited += 1
            return 0

        conn.set_progress_handler(count, 100)
        page = read_history(conn, row["pk"], 15_000, 15_010)
        conn.set_progress_handler(None, 0)
    assert [json.loads(text)["_step"] for text in page] == list(range(15_000, 15_010))
    assert visited < 20, "reading ten lines has walked through the whole history"


def _send(server: DevServer, project: str, message: dict[str, Any]) -> httpx.Response:
    url = f"{server.url}/files/local/{project}/target/file_stream"
    return httpx.post(url, json=message, auth=("api", server.api_key))
