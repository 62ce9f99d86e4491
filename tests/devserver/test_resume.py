from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import wandb
from wandb.apis.public import Run as PublicRun

from wandb_airflow_provider.devserver import DevServer, queries

OpenRun = Callable[..., wandb.Run]
FindRun = Callable[[str], PublicRun]


@pytest.mark.parametrize("resume", ["allow", "must"])
def test_resumed_run_continues_where_it_ended(open_run: OpenRun, find: FindRun, resume: str) -> None:
    first = open_run(id="steady", config={"lr": 0.1, "kept": "yes"}, tags=["gold"], name="first name")
    for value in (1, 2, 3):
        first.log({"loss": value})
    first.finish(exit_code=1)
    assert find("steady").state == "failed"

    again = open_run(id="steady", resume=resume, config={"lr": 0.2})
    assert again.resumed
    assert find("steady").state == "running"
    assert (again.config["lr"], again.config["kept"], again.summary["loss"]) == (0.2, "yes", 3)
    again.log({"loss": 4})
    again.finish()

    found = find("steady")
    assert (found.state, found.name, found.tags) == ("finished", "first name", ["gold"])
    assert [(row["_step"], row["loss"]) for row in found.scan_history()] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert found.config == {"lr": 0.2, "kept": "yes"}


def test_resume_allow_starts_a_run_that_does_not_exist(open_run: OpenRun, find: FindRun) -> None:
    run = open_run(id="fresh", resume="allow")
    assert not run.resumed
    run.finish()
    assert find("fresh").state == "finished"


def test_resume_must_refuses_a_run_that_does_not_exist(open_run: OpenRun) -> None:
    with pytest.raises(wandb.errors.UsageError, match="does not exist or has not been initialized"):
        open_run(id="absent", resume="must")


def test_resume_never_refuses_a_run_that_exists(open_run: OpenRun) -> None:
    open_run(id="taken").finish()
    with pytest.raises(wandb.errors.UsageError, match="already exists, but your `resume`"):
        open_run(id="taken", resume="never")


def test_run_started_again_without_resume_replaces_its_history(open_run: OpenRun, find: FindRun) -> None:
    first = open_run(id="again")
    for value in (1, 2, 3):
        first.log({"loss": value})
    first.finish()
    second = open_run(id="again")
    second.log({"loss": 9})
    second.finish()

    assert [row["loss"] for row in find("again").scan_history()] == [9]


def test_resumed_run_is_running_again_even_if_it_was_preempting(open_run: OpenRun, find: FindRun) -> None:
    first = open_run(id="moved")
    first.mark_preempting()
    first.finish(exit_code=1)
    assert find("moved").state == "preempted"

    second = open_run(id="moved", resume="must")
    second.finish(exit_code=1)
    assert find("moved").state == "failed"


def test_id_of_a_deleted_run_is_refused_with_the_reason(
    open_run: OpenRun, find: FindRun, server: DevServer, project: str
) -> None:
    open_run(id="gone").finish()
    find("gone").delete()
    assert queries.get_run(server.backend, "local", project, "gone") is None
    assert queries.list_runs(server.backend, "local", project) == []

    with pytest.raises(wandb.errors.CommError, match=r"'gone'.*was created and then deleted.*new id"):
        open_run(id="gone")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": "a" * 129}, "invalid run id"),
        ({"id": ".."}, "invalid run id"),
        ({"id": "half%2fquarter"}, "invalid run id"),
        ({"project": ".."}, "invalid project name"),
        ({"project": "a" * 129}, "project name"),
        ({"entity": "strangers"}, "not a member of entity 'strangers'"),
    ],
)
def test_what_w_and_b_would_refuse_is_refused(
    open_run: OpenRun, arguments: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(wandb.errors.Error, match=message):
        open_run(**arguments)
