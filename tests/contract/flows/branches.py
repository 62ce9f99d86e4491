"""Runs that continue from a step in the past, and a run that two processes write."""

from __future__ import annotations

import os
import subprocess
import sys

from flows import Ground, flow
from wandb.apis.public import Run

_SECOND_WRITER = """
import sys
import wandb
url, key, entity, project, folder = sys.argv[1:]
settings = wandb.Settings(base_url=url, api_key=key, silent=True, console="off", disable_git=True,
    x_disable_machine_info=True, x_disable_stats=True, mode="shared", x_primary=False, x_label="second",
    x_update_finish_state=False)
with wandb.init(entity=entity, project=project, id="joint", dir=folder, settings=settings) as run:
    for step in range(3):
        run.log({"second": step})
"""


def _losses(run: Run) -> list[tuple[int, int]]:
    return [(row["_step"], row["loss"]) for row in run.scan_history(keys=["_step", "loss"])]


@flow
def fork_and_rewind_a_run(ground: Ground) -> None:
    with ground.init(id="parent", config={"lr": 0.1}) as run:
        for step in range(5):
            run.log({"loss": step})
    with ground.init(id="child", fork_from="parent?_step=2", config={"lr": 0.2}) as run:
        run.log({"loss": 100})
    with ground.init(resume_from="parent?_step=3", config={"added": 1}) as run:
        run.log({"loss": 200})
    child = ground.api().run(f"{ground.path}/child")
    assert _losses(child) == [(0, 0), (1, 1), (2, 2), (3, 100)]
    assert (child.config, child.state) == ({"lr": 0.2}, "finished")
    parent = ground.api().run(f"{ground.path}/parent")
    assert _losses(parent) == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 200)]
    assert (parent.config, parent.state) == ({"lr": 0.1, "added": 1}, "finished")


@flow
def two_processes_write_to_one_run(ground: Ground) -> None:
    shared = {"mode": "shared", "x_primary": True, "x_label": "first"}
    with ground.init(id="joint", config={"from": "first"}, settings=shared) as run:
        for step in range(3):
            run.log({"first": step})
        subprocess.run(
            [
                *(sys.executable, "-c", _SECOND_WRITER),
                *(ground.url, ground.api_key, ground.entity, ground.project, str(ground.folder)),
            ],
            # Its own helper process, as on another machine.
            env={name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        assert ground.api().run(f"{ground.path}/joint").state == "running"
    found = ground.api().run(f"{ground.path}/joint")
    rows = list(found.scan_history())
    for writer in ("first", "second"):
        assert [row[writer] for row in rows if row.get(writer) is not None] == [0, 1, 2], rows
        assert found.summary[writer] == 2
    assert (found.state, found.config) == ("finished", {"from": "first"})
