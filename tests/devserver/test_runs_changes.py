"""What the public API changes in runs and projects, and what a run that falls silent becomes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import wandb
from wandb.apis.public import Run as PublicRun

from wandb_airflow_provider.devserver import DevServer

OpenRun = Callable[..., wandb.Run]
FindRun = Callable[[str], PublicRun]
Draft = Callable[..., wandb.Artifact]


def test_run_is_deleted_with_the_versions_that_it_made_and_only_those(
    open_run: OpenRun, find: FindRun, draft: Draft, fresh_api: Callable[..., wandb.Api], project: str
) -> None:
    first = open_run(id="first")
    first.log_artifact(draft("shared", {"a.txt": "same"})).wait()
    first.finish()
    second = open_run(id="second")
    second.log_artifact(draft("shared", {"a.txt": "same"}))
    second.log_artifact(draft("own", {"a.txt": "other"}), aliases=["best"]).wait()
    second.finish()

    find("second").delete(delete_artifacts=True)
    api = fresh_api()
    assert not api.artifact_exists(f"local/{project}/own:v0")
    assert api.artifact_exists(f"local/{project}/shared:v0")
    assert [run.id for run in api.runs(f"local/{project}")] == ["first"]

    find("first").delete()
    assert fresh_api().artifact_exists(f"local/{project}/shared:v0")


@pytest.mark.parametrize("resume", [None, "allow", "never"])
def test_id_of_a_deleted_run_is_refused_at_once(open_run: OpenRun, find: FindRun, resume: str | None) -> None:
    # An id of its own each time: an init that failed leaves its id in use in this process.
    name = f"gone-{resume}"
    open_run(id=name).finish()
    find(name).delete()
    began = time.monotonic()
    with pytest.raises(wandb.errors.CommError, match=f"'{name}'.*was created and then deleted"):
        open_run(id=name, resume=resume)
    assert time.monotonic() - began < 20, "the client has retried what can never succeed"


def test_runs_found_by_a_filter_are_changed_one_by_one(
    open_run: OpenRun, fresh_api: Callable[..., wandb.Api], project: str
) -> None:
    for number in range(3):
        open_run(id=f"run{number}", group="old", config={"number": number}).finish()
    for run in fresh_api().runs(f"local/{project}", filters={"config.number": {"$gte": 1}}):
        run.tags = [*run.tags, "chosen"]
        run.group = "new"
        run.config["seen"] = True
        run.update()

    found = fresh_api().runs(f"local/{project}", filters={"tags": "chosen"}, order="-config.number")
    assert [(run.id, run.group, run.config) for run in found] == [
        ("run2", "new", {"number": 2, "seen": True}),
        ("run1", "new", {"number": 1, "seen": True}),
    ]
    assert [run.id for run in fresh_api().runs(f"local/{project}", filters={"group": "old"})] == ["run0"]


@pytest.mark.slow
def test_run_without_heartbeats_has_crashed_for_readers_filters_and_a_resuming_process(
    open_run: OpenRun, find: FindRun, api: wandb.Api, server: DevServer, project: str
) -> None:
    run = open_run(id="silent")
    run.log({"loss": 1})
    assert find("silent").state == "running"
    # What it has logged is a sign of life too, whenever it arrives.
    deadline = time.monotonic() + 20
    while "loss" not in find("silent").summary:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.clock.advance(301)
    assert find("silent").state == "crashed"
    assert [found.id for found in api.runs(f"local/{project}", filters={"state": "crashed"})] == ["silent"]
    run.finish()
    assert find("silent").state == "finished"


def test_pending_run_waits_for_its_process(
    open_run: OpenRun, find: FindRun, api: wandb.Api, project: str, server: DevServer
) -> None:
    PublicRun.create(api, run_id="queued", project=project, entity="local", state="pending")
    server.clock.advance(1000)
    assert find("queued").state == "pending"
    run = open_run(id="queued", resume="allow")
    assert find("queued").state == "running"
    run.finish()


def test_custom_chart_is_kept_once(server: DevServer, api: wandb.Api) -> None:
    chart: dict[str, Any] = {"entity": "local", "name": "bars", "display_name": "Bars", "spec_type": "vega2"}
    assert api.create_custom_chart(**chart, access="private", spec={"mark": "bar"})
    with pytest.raises(Exception, match="'local/bars' exists already"):
        api.create_custom_chart(**chart, access="private", spec={})
