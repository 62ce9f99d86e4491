"""Runs that continue from a step in the past, and runs that several processes write at once."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import wandb
from wandb.apis.public import Run as PublicRun

from wandb_airflow_provider.devserver import DevServer

OpenRun = Callable[..., wandb.Run]
FindRun = Callable[[str], PublicRun]

_NUMBERS = itertools.count()
SECOND_WRITER = """
import sys
import wandb
url, key, project, folder = sys.argv[1:]
settings = wandb.Settings(base_url=url, api_key=key, silent=True, disable_git=True, x_disable_machine_info=True,
    console="wrap", mode="shared", x_primary=False, x_label="second", x_update_finish_state=False)
with wandb.init(entity="local", project=project, id="joint", dir=folder, settings=settings) as run:
    for step in range(3):
        run.log({"second": step})
    print("line of the second")
"""


@pytest.fixture
def parent(open_run: OpenRun) -> wandb.Run:
    """A finished run with steps 0 to 9, its ``loss`` being the step."""
    # An id of its own each time: an init that was refused leaves its id in use in this process.
    run = open_run(id=f"parent{next(_NUMBERS)}", config={"lr": 0.1}, name="first name")
    for step in range(10):
        run.log({"loss": step, **({"early": step} if step < 3 else {})})
    run.finish()
    return run


def rows(run: PublicRun) -> list[tuple[int, int]]:
    return [(row["_step"], row["loss"]) for row in run.scan_history()]


def test_forked_run_has_the_history_of_its_parent_up_to_the_fork(
    parent: wandb.Run, open_run: OpenRun, find: FindRun
) -> None:
    child = open_run(id="child", fork_from=f"{parent.id}?_step=4", config={"lr": 0.2})
    child.log({"loss": 100})
    child.finish()

    found = find("child")
    assert rows(found) == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 100)]
    assert (found.config, found.summary["loss"], found.lastHistoryStep) == ({"lr": 0.2}, 100, 5)
    assert found.historyKeys["keys"]["loss"]["typeCounts"] == [{"type": "number", "count": 6}]
    assert rows(find(parent.id)) == [(step, step) for step in range(10)]

    again = open_run(id="child", resume="must")
    again.log({"loss": 101})
    again.finish()
    assert rows(find("child"))[-2:] == [(5, 100), (6, 101)]


def test_rewound_run_continues_after_the_step_and_keeps_what_it_is(
    parent: wandb.Run, open_run: OpenRun, find: FindRun
) -> None:
    run = open_run(resume_from=f"{parent.id}?_step=6", config={"added": 1})
    found = find(parent.id)
    assert (found.state, found.summary["loss"], found.summary["early"]) == ("running", 6, 2)
    run.log({"loss": 100})
    run.finish()

    found = find(parent.id)
    assert rows(found) == [*((step, step) for step in range(7)), (7, 100)]
    assert (found.name, found.config) == ("first name", {"lr": 0.1, "added": 1})


@pytest.mark.parametrize(
    ("argument", "branch", "message"),
    [
        ("fork_from", "nowhere?_step=1", "cannot fork run 'local/.*/nowhere': it does not exist"),
        (
            "fork_from",
            "{parent}?_step=10",
            "cannot fork run '{parent}' at step 10: it has only come to step 9",
        ),
        ("resume_from", "nowhere?_step=1", "cannot rewind run 'local/.*/nowhere': no such run"),
        (
            "resume_from",
            "{parent}?_step=10",
            "cannot rewind run '{parent}' at step 10: it has only come to step 9",
        ),
    ],
)
def test_branch_from_where_no_run_has_been_is_refused(
    parent: wandb.Run,
    open_run: OpenRun,
    server: DevServer,
    project: str,
    argument: str,
    branch: str,
    message: str,
) -> None:
    with pytest.raises(wandb.errors.CommError, match=message.format(parent=parent.id)):
        open_run(**{argument: branch.format(parent=parent.id)})
    assert [run.name for run in server.runs(project)] == [parent.id]


@pytest.mark.slow
def test_processes_in_shared_mode_write_to_one_run(
    open_run: OpenRun, find: FindRun, server: DevServer, project: str, tmp_path: Path
) -> None:
    shared = {"mode": "shared", "x_primary": True, "x_label": "first", "console": "wrap"}
    first = open_run(id="joint", config={"from": "first"}, settings=shared)
    for step in range(3):
        first.log({"first": step})
    print("line of the first")
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    arguments = [server.url, server.api_key, project, str(tmp_path)]
    subprocess.run([sys.executable, "-c", SECOND_WRITER, *arguments], env=environment, check=True)
    assert find("joint").state == "running"
    first.finish()

    found = find("joint")
    history = list(found.scan_history())
    assert [row["first"] for row in history if "first" in row] == [0, 1, 2]
    assert [row["second"] for row in history if "second" in row] == [0, 1, 2]
    assert (found.state, found.config) == ("finished", {"from": "first"})
    assert (found.summary["first"], found.summary["second"]) == (2, 2)
    lines = {(line.label, line.content) for line in found.console_logs()}
    assert {("first", "line of the first"), ("second", "line of the second")} <= lines


def test_rows_of_a_writer_that_does_not_count_them_are_numbered_as_they_come(
    open_run: OpenRun, find: FindRun, server: DevServer, project: str
) -> None:
    # So does wandb 0.30 in shared mode.
    open_run(id="uncounted").finish()
    stream = f"{server.url}/files/local/{project}/uncounted/file_stream"

    def send(writer: str, offset: int, *rows: dict[str, Any]) -> None:
        files = {"wandb-history.jsonl": {"offset": offset, "content": [json.dumps(row) for row in rows]}}
        answer = httpx.post(
            stream,
            json={"files": files},
            headers={"x-wandb-async-client-id": writer},
            auth=("api", server.api_key),
        )
        assert answer.status_code == 200

    send("a", 0, {"a": 0}, {"a": 1})
    send("b", 0, {"b": 0}, {"b": 1, "_step": 9})
    send("a", 0, {"a": 0}, {"a": 1})
    send("a", 2, {"a": 2})
    found = [
        {key: row[key] for key in ("_step", "a", "b") if key in row}
        for row in find("uncounted").scan_history()
    ]
    assert found == [
        {"_step": 0, "a": 0},
        {"_step": 1, "a": 1},
        {"_step": 2, "b": 0},
        {"_step": 9, "b": 1},
        {"_step": 10, "a": 2},
    ]
