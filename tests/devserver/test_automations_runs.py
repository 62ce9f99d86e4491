"""Automations on runs: states and metrics, evaluated as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.automations import DoNothing, OnRunMetric, OnRunState, RunEvent

from tests.devserver.conftest import api_for
from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.history import EVENTS, HISTORY, write_lines
from wandb_airflow_provider.devserver.runs_table import get_run, insert_run, update_run
from wandb_airflow_provider.devserver.store import dumps

# The SDK reads a field of its own that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

OpenRun = Callable[..., wandb.Run]


class Lab:
    """A server whose clock stands, with a project, and runs that are written without a client."""

    def __init__(self, server: DevServer) -> None:
        self.server = server
        server.clock.freeze(datetime(2026, 5, 1, tzinfo=UTC))
        self.api = api_for(server)
        self.api.create_project("lab", "local")
        self.scope = self.api.project("lab", "local")

    def watch(self, event: type, condition: Any, name: str = "watch") -> None:
        self.api.create_automation(event(scope=self.scope, filter=condition) >> DoNothing(), name=name)

    def start(self, name: str, **values: Any) -> None:
        now = self.server.clock().isoformat(timespec="microseconds")
        defaults = {
            "display_name": f"run {name}",
            "user": "dev",
            "state": "running",
            "created_at": now,
            "heartbeat_at": now,
        }
        with self.server.backend.store.write() as conn:
            insert_run(conn, "local", "lab", name, {**defaults, **values})

    def change(self, name: str, **values: Any) -> None:
        with self.server.backend.store.write() as conn:
            row = get_run(conn, "local", "lab", name)
            assert row is not None
            update_run(conn, row["pk"], values)

    def log(self, name: str, *rows: dict[str, Any], offset: int = 0, stream: str = HISTORY) -> None:
        with self.server.backend.store.write() as conn:
            row = get_run(conn, "local", "lab", name)
            assert row is not None
            lines = [dumps({"_step": offset + number, **values}) for number, values in enumerate(rows)]
            write_lines(conn, row["pk"], stream, offset, lines)
            update_run(
                conn, row["pk"], {"heartbeat_at": self.server.clock().isoformat(timespec="microseconds")}
            )

    def fired(self, name: str = "watch") -> list[str]:
        self.server.settle_automations()
        return [item.subject.removeprefix("local/lab/") for item in self.server.automation_executions(name)]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with DevServer(tmp_path / "data") as server:
        yield Lab(server)


def test_run_of_the_sdk_fires_on_its_metrics_and_its_end(
    server: DevServer, api: wandb.Api, project: str, open_run: OpenRun
) -> None:
    api.create_project(project, "local")
    scope = api.project(project, "local")
    made = [
        api.create_automation(event >> DoNothing(), name=f"{project}-{name}")
        for name, event in {
            "low": OnRunMetric(scope=scope, filter=RunEvent.metric("loss").avg(2) < 0.3),
            "never": OnRunMetric(scope=scope, filter=RunEvent.metric("loss") > 2),
            "done": OnRunState(scope=scope, filter=RunEvent.state.in_(["finished", "failed"])),
            "started": OnRunState(scope=scope, filter=RunEvent.state == "running"),
        }.items()
    ]
    good = open_run()
    for step in range(6):
        good.log({"loss": 1 / (step + 1)})
    good.finish()
    bad = open_run()
    bad.log({"loss": 1})
    bad.finish(exit_code=1)
    server.settle_automations()
    paths = [f"local/{project}/{run.id}" for run in (good, bad)]
    found = [[item.subject for item in server.automation_executions(item.name)] for item in made]
    assert found == [paths[:1], [], paths, paths]
    for item in made:
        api.delete_automation(item)


def test_automation_fires_for_a_run_once_a_day(lab: Lab) -> None:
    lab.watch(OnRunMetric, RunEvent.metric("loss") > 1)
    lab.start("a")
    lab.start("b")
    lab.log("a", {"loss": 2}, {"loss": 3})
    assert lab.fired() == ["a"]
    lab.log("a", {"loss": 4}, offset=2)
    lab.log("b", {"loss": 4})
    assert lab.fired() == ["a", "b"]
    lab.server.clock.advance(24 * 3600)
    lab.log("a", {"loss": 0}, offset=3)
    assert lab.fired() == ["a", "b"]
    lab.log("a", {"loss": 5}, offset=4)
    assert lab.fired() == ["a", "b", "a"]


def test_new_automation_sees_windows_but_fires_only_for_what_comes(lab: Lab) -> None:
    lab.start("a")
    lab.log("a", {"loss": 9}, {"loss": 9})
    lab.watch(OnRunMetric, RunEvent.metric("loss") > 1)
    lab.watch(OnRunMetric, RunEvent.metric("loss").avg(3) > 5, "mean")
    lab.watch(OnRunState, RunEvent.state == "running", "state")
    assert lab.fired() == lab.fired("mean") == lab.fired("state") == []
    lab.log("a", {"loss": 0}, offset=2)
    assert (lab.fired(), lab.fired("mean"), lab.fired("state")) == ([], ["a"], [])


def test_lines_that_arrive_twice_count_once_and_a_run_that_starts_over_begins_anew(lab: Lab) -> None:
    lab.watch(OnRunMetric, RunEvent.metric("loss").avg(3) > 5)
    lab.start("a")
    lab.log("a", {"loss": 9}, {"loss": 9})
    lab.log("a", {"loss": 9}, {"loss": 9})
    lab.log("a", {"loss": 9}, {"loss": 9})
    assert lab.fired() == []
    lab.log("a", {"loss": 7})
    assert lab.fired() == []
    lab.log("a", {"loss": 7}, offset=1)
    lab.log("a", {"loss": 7}, offset=2)
    assert lab.fired() == ["a"]


def test_nested_and_system_metrics_are_found_and_other_values_skipped(lab: Lab) -> None:
    lab.watch(OnRunMetric, RunEvent.metric("eval.loss") > 1, "nested")
    lab.watch(OnRunMetric, RunEvent.metric("cpu") > 90, "system")
    lab.start("a")
    lab.log(
        "a",
        {"eval": {"loss": True}},
        {"eval": {"loss": "NaN"}},
        {"eval": {"loss": {"_type": "x"}}},
        {"other": 3},
    )
    lab.log("a", {"system.cpu": 50.0}, stream=EVENTS)
    assert lab.fired("nested") == lab.fired("system") == []
    lab.log("a", {"eval": {"loss": 2}}, offset=4)
    lab.log("a", {"system.cpu": 95.0}, offset=1, stream=EVENTS)
    assert lab.fired("nested") == lab.fired("system") == ["a"]


def test_only_runs_that_pass_the_filter_fire(lab: Lab) -> None:
    lab.watch(OnRunMetric, (RunEvent.metric("loss") > 1) & RunEvent.name.contains("(b)"))
    lab.start("a")
    lab.start("b", display_name="run (b)")
    lab.log("a", {"loss": 2})
    lab.log("b", {"loss": 2})
    assert lab.fired() == ["b"]


def test_crash_counts_as_failure_and_a_killed_run_fires_nothing(lab: Lab) -> None:
    lab.start("before")
    lab.server.clock.advance(301)
    lab.watch(OnRunState, RunEvent.state == "failed")
    lab.start("crashes")
    lab.start("killed")
    lab.change("killed", state="killed")
    assert lab.fired() == []
    lab.server.clock.advance(301)
    assert lab.fired() == ["crashes"]
    lab.server.clock.advance(25 * 3600)
    assert lab.fired() == ["crashes"]
    lab.change("crashes", heartbeat_at=lab.server.clock().isoformat(timespec="microseconds"))
    lab.server.clock.advance(301)
    assert lab.fired() == ["crashes", "crashes"]


def test_reset_leaves_nothing_to_fire(lab: Lab) -> None:
    lab.watch(OnRunMetric, RunEvent.metric("loss") > 1)
    lab.start("a")
    lab.log("a", {"loss": 2})
    lab.server.reset()
    assert lab.fired() == []
    assert lab.server.webhook_deliveries() == []
