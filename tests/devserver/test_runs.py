from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import wandb
from wandb.apis.public import Run as PublicRun

from wandb_airflow_provider.devserver import DevServer, queries

OpenRun = Callable[..., wandb.Run]
FindRun = Callable[[str], PublicRun]


def test_finished_run_reads_back_what_was_logged(open_run: OpenRun, find: FindRun, project: str) -> None:
    run = open_run(
        config={"lr": 0.1, "nested": {"depth": 3}},
        group="nightly",
        job_type="train",
        name="a readable name",
        tags=["gold", "cpu"],
        notes="why it ran",
    )
    for step in range(5):
        run.log({"loss": 1.0 / (step + 1), "phase": "warm"})
    run.summary["best"] = 0.2
    run.finish()

    found = find(run.id)
    assert (found.state, found.group, found.job_type, found.name, found.notes) == (
        "finished", "nightly", "train", "a readable name", "why it ran",
    )  # fmt: skip
    assert sorted(found.tags) == ["cpu", "gold"]
    assert found.config == {"lr": 0.1, "nested": {"depth": 3}}
    assert (found.summary["loss"], found.summary["best"]) == (0.2, 0.2)
    assert found.user.username == "dev"
    assert found.lastHistoryStep == 4
    assert found.url.endswith(f"/local/{project}/runs/{run.id}")
    losses = [row["loss"] for row in found.scan_history()]
    assert losses == pytest.approx([1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5])


def test_history_is_sampled_scanned_and_limited_to_steps(open_run: OpenRun, find: FindRun) -> None:
    run = open_run()
    for step in range(250):
        run.log({"loss": step, **({"rare": step} if step % 50 == 0 else {})})
    run.finish()

    found = find(run.id)
    assert [row["loss"] for row in found.scan_history(page_size=40)] == list(range(250))
    assert [row["_step"] for row in found.scan_history(min_step=10, max_step=13)] == [10, 11, 12]
    assert [row["rare"] for row in found.scan_history(keys=["rare"])] == [0, 50, 100, 150, 200]
    sampled = found.history(samples=10, pandas=False)
    assert len(sampled) == 10
    assert (sampled[0]["_step"], sampled[-1]["_step"]) == (0, 249)
    assert [row["rare"] for row in found.history(keys=["rare"], pandas=False)] == [0, 50, 100, 150, 200]
    assert len(found.history(keys=["loss"], samples=7, pandas=False)) == 7


def test_values_that_json_lacks_survive_in_history_and_summary(open_run: OpenRun, find: FindRun) -> None:
    run = open_run()
    run.log({"nan": math.nan, "up": math.inf, "down": -math.inf})
    run.finish()

    found = find(run.id)
    (row,) = found.scan_history()
    assert (row["nan"], row["up"], row["down"]) == ("NaN", "Infinity", "-Infinity")
    assert found.summary["nan"] == "NaN"


@pytest.mark.slow
def test_thousands_of_values_all_arrive(open_run: OpenRun, server: DevServer, project: str) -> None:
    run = open_run()
    for step in range(5_000):
        run.log({"loss": step})
    run.finish()

    record = queries.get_run(server.backend, "local", project, run.id)
    assert record is not None
    assert [row["loss"] for row in queries.get_history(server.backend, record)] == list(range(5_000))


@pytest.mark.parametrize(("exit_code", "state"), [(0, "finished"), (1, "failed"), (143, "failed")])
def test_exit_code_decides_the_final_state(
    open_run: OpenRun, server: DevServer, find: FindRun, project: str, exit_code: int, state: str
) -> None:
    run = open_run()
    assert find(run.id).state == "running"
    run.finish(exit_code=exit_code)

    assert find(run.id).state == state
    record = queries.get_run(server.backend, "local", project, run.id)
    assert record is not None
    assert (record.exit_code, record.finished_at is not None) == (exit_code, True)


@pytest.mark.parametrize(("exit_code", "state"), [(0, "finished"), (143, "preempted")])
def test_run_marked_preempting_is_preempted_unless_it_ends_well(
    open_run: OpenRun, find: FindRun, exit_code: int, state: str
) -> None:
    run = open_run()
    run.mark_preempting()
    run.finish(exit_code=exit_code)

    assert find(run.id).state == state


def test_console_lines_can_be_read_back(open_run: OpenRun, find: FindRun) -> None:
    run = open_run(settings={"console": "wrap"})
    print("first line")
    print("second line")
    run.finish()

    found = find(run.id)
    lines = list(found.console_logs(per_page=1))
    assert [line.content for line in lines][:2] == ["first line", "second line"]
    assert lines[0].timestamp is not None
    assert [line.content for line in found.console_logs(last=1)] == [lines[-1].content]


def test_alert_is_kept_once_within_its_wait(open_run: OpenRun, server: DevServer, project: str) -> None:
    run = open_run()
    run.alert("Loss is NaN", "look at step 3", level="WARN", wait_duration=60)
    run.alert("Loss is NaN", "look at step 4", level="WARN", wait_duration=60)
    run.alert("Other", "text", wait_duration=0)
    run.finish()

    record = queries.get_run(server.backend, "local", project, run.id)
    assert record is not None
    alerts = [
        (alert.title, alert.text, alert.severity) for alert in queries.list_alerts(server.backend, record)
    ]
    assert alerts == [("Loss is NaN", "look at step 3", "WARN"), ("Other", "text", "INFO")]


def test_public_api_edits_a_finished_run_without_reopening_it(
    open_run: OpenRun, find: FindRun, server: DevServer, project: str
) -> None:
    run = open_run(config={"lr": 0.1}, tags=["old"])
    run.log({"loss": 1.0})
    run.finish()

    found = find(run.id)
    found.config["lr"] = 0.5
    found.tags = ["new"]
    found.notes = "edited"
    found.name = "renamed"
    found.summary["extra"] = 7
    found.update()

    record = queries.get_run(server.backend, "local", project, run.id)
    assert record is not None
    assert record.state == "finished"
    assert (record.config, record.tags, record.notes, record.display_name) == (
        {"lr": 0.5},
        ["new"],
        "edited",
        "renamed",
    )
    assert (record.summary["extra"], record.summary["loss"]) == (7, 1.0)


def test_stop_is_passed_on_with_the_next_message(
    open_run: OpenRun, find: FindRun, server: DevServer, project: str
) -> None:
    run = open_run()
    find(run.id).stop()

    assert _stream(server, project, run.id, {})["stopped"] is True
    run.finish()


def test_same_message_twice_changes_nothing(open_run: OpenRun, server: DevServer, project: str) -> None:
    run = open_run()
    run.finish()
    chunk = {
        "wandb-history.jsonl": {"offset": 0, "content": ['{"_step":0,"loss":1}', '{"_step":1,"loss":2}']}
    }
    for _ in range(2):
        _stream(server, project, run.id, {"files": chunk})

    record = queries.get_run(server.backend, "local", project, run.id)
    assert record is not None
    assert [row["loss"] for row in queries.get_history(server.backend, record)] == [1, 2]


def test_messages_may_be_gzipped_and_need_a_key(open_run: OpenRun, server: DevServer, project: str) -> None:
    run = open_run()
    url = f"{server.url}/files/local/{project}/{run.id}/file_stream"
    body = gzip.compress(b'{"complete": true, "exitcode": 3}')
    headers = {"Content-Encoding": "gzip"}
    assert httpx.post(url, content=body, headers=headers).status_code == 401
    assert (
        httpx.post(url, content=b"not gzip", headers=headers, auth=("api", server.api_key)).status_code == 400
    )
    assert httpx.post(url, content=body, headers=headers, auth=("api", server.api_key)).status_code == 200

    record = queries.get_run(server.backend, "local", project, run.id)
    assert record is not None
    assert (record.state, record.exit_code) == ("failed", 3)


def _stream(server: DevServer, project: str, name: str, message: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(
        f"{server.url}/files/local/{project}/{name}/file_stream", json=message, auth=("api", server.api_key)
    )
    answer.raise_for_status()
    reply: dict[str, Any] = answer.json()
    return reply


def test_state_can_be_set_back_to_pending_only_from_where_it_is_allowed(
    open_run: OpenRun, find: FindRun
) -> None:
    run = open_run()
    run.finish(exit_code=1)
    found = find(run.id)
    assert found.update_state("pending") is True
    assert find(run.id).state == "pending"

    done = open_run()
    done.finish()
    with pytest.raises(wandb.Error, match="is finished: it cannot be set to 'pending'"):
        find(done.id).update_state("pending")


def test_missing_run_is_reported_as_missing(find: FindRun) -> None:
    with pytest.raises(wandb.errors.CommError, match="Could not find run"):
        find("nothere")
