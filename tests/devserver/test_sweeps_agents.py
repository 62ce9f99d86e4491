"""Sweeps with the SDK's own agents, command line and public API."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from click.testing import CliRunner
from wandb import wandb_agent
from wandb.agents import pyagent
from wandb.apis.public import Sweep
from wandb.cli.cli import cli

from tests.devserver.conftest import FindRun, OpenRun
from wandb_airflow_provider.devserver import DevServer

pytestmark = [
    # wandb.sweep itself calls what the SDK has deprecated.
    pytest.mark.filterwarnings("ignore:Read the `app_url` setting:DeprecationWarning"),
    # The SDK leaves the file that it reads a sweep's parameters from to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
    ),
]

CreateSweep = Callable[[dict[str, Any]], str]

LOSS = {"name": "loss", "goal": "minimize"}
# Whole seconds only; by default history is sent every 15.
_SENT = wandb.Settings(x_file_stream_transmit_interval=1, disable_git=True, x_disable_machine_info=True)
_TRAIN = """
import wandb
with wandb.init() as run:
    run.log({"loss": run.config["lr"] * 2})
"""


@pytest.fixture(autouse=True)
def _as_user(
    server: DevServer, project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Agents take the server, the project and the folder from the environment, and change it."""
    monkeypatch.setattr(pyagent.Agent, "HEARTBEAT_SLEEP_SECONDS", 1.0)
    monkeypatch.setattr(wandb_agent.Agent, "POLL_INTERVAL", 0.05)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_SWEEP") or name == "WANDB_RUN_ID"]:
            patch.delenv(name)
        for name, value in {
            "BASE_URL": server.url,
            "API_KEY": server.api_key,
            "ENTITY": "local",
            "PROJECT": project,
            "DIR": str(tmp_path),
            "CONSOLE": "off",
            "SILENT": "true",
        }.items():
            patch.setenv(f"WANDB_{name}", value)
        wandb.teardown()
        yield
        for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
            os.environ.pop(name, None)
    wandb.teardown()


@pytest.fixture
def create(project: str) -> CreateSweep:
    return lambda config: wandb.sweep(config, entity="local", project=project)


@pytest.mark.slow
def test_a_grid_sweep_runs_every_point_and_is_read_by_the_public_api(
    server: DevServer, project: str, create: CreateSweep, api: wandb.Api
) -> None:
    parameters = {
        "lr": {"values": [0.1, 0.2]},
        "model": {"parameters": {"depth": {"values": [3]}, "kind": {"value": "tree"}}},
    }
    sweep_id = create({"method": "grid", "name": "first grid", "metric": LOSS, "parameters": parameters})
    assert api.sweep(f"local/{project}/{sweep_id}").state == "PENDING"
    opened: list[tuple[str | None, str | None, str | None, dict[str, Any]]] = []

    def train() -> None:
        with wandb.init(settings=_SENT) as run:
            opened.append((run.sweep_id, run.name, run.sweep_url, dict(run.config)))
            run.log({"loss": 1 - run.config["lr"]})

    wandb.agent(sweep_id, train, count=2)

    depth = {"depth": 3, "kind": "tree"}
    assert [config for *_, config in opened] == [{"lr": 0.1, "model": depth}, {"lr": 0.2, "model": depth}]
    assert {(sweep, url) for sweep, _, url, _ in opened} == {
        (sweep_id, f"{server.url}/local/{project}/sweeps/{sweep_id}")
    }
    assert [str(name).split("-", 1)[1] for _, name, _, _ in opened] == ["sweep-1", "sweep-2"]

    api.flush()
    sweep = wandb.Api().sweep(f"local/{project}/{sweep_id}")
    assert (sweep.name, sweep.state, sweep.expected_run_count) == ("first grid", "FINISHED", 2)
    assert sweep.config["parameters"] == parameters
    assert sweep.order == "+summary_metrics.loss"
    assert [(run.state, run.config["lr"]) for run in sweep.runs] == [("finished", 0.1), ("finished", 0.2)]
    best = sweep.best_run()
    assert best is not None
    assert best.config == {"lr": 0.2, "model": depth}
    assert best.sweep.id == sweep_id
    (agent,) = sweep.agents()
    assert [run.id for run in agent.runs()] == [run.id for run in sweep.runs]
    assert sweep.agent(agent.id).state == "RUNNING"


@pytest.mark.slow
def test_hyperband_stops_a_bad_run_that_a_bayes_sweep_started(project: str, create: CreateSweep) -> None:
    sweep_id = create(
        {
            "method": "bayes",
            "metric": LOSS,
            "run_cap": 2,
            "early_terminate": {"type": "hyperband", "min_iter": 1},
            "parameters": {"lr": {"min": 0.001, "max": 0.1}},
        }
    )
    steps: list[int] = []

    def train() -> None:
        with wandb.init(settings=_SENT) as run:
            is_first = not steps
            steps.append(0)
            for _ in range(90 if is_first else 200):
                run.log({"loss": 0.1 if is_first else 10})
                steps[-1] += 1
                time.sleep(0.0 if is_first else 0.05)

    wandb.agent(sweep_id, train, count=2)

    runs = wandb.Api().sweep(f"local/{project}/{sweep_id}").runs
    assert [run.state for run in runs] == ["finished", "killed"]
    assert all(0.001 <= run.config["lr"] <= 0.1 for run in runs)
    assert steps[1] < 200


@pytest.mark.slow
def test_the_command_line_agent_starts_the_program_with_its_parameters(
    project: str, create: CreateSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text(_TRAIN)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    sweep_id = create(
        {
            "method": "random",
            "program": "train.py",
            "metric": LOSS,
            "run_cap": 1,
            "parameters": {"lr": {"min": 0.1, "max": 0.2}},
        }
    )
    wandb.agent(sweep_id)
    sweep = wandb.Api().sweep(f"local/{project}/{sweep_id}")
    (run,) = sweep.runs
    assert (run.state, sweep.state, sweep.expected_run_count) == ("finished", "FINISHED", 1)
    assert run.summary["loss"] == run.config["lr"] * 2
    assert [agent.state for agent in sweep.agents()] == ["FINISHED"]


def test_the_command_line_pauses_resumes_stops_and_updates_a_sweep(
    project: str, create: CreateSweep, graphql: Callable[..., tuple[int, dict[str, Any]]], tmp_path: Path
) -> None:
    def command(*arguments: str) -> int:
        return CliRunner().invoke(cli, ["sweep", *arguments]).exit_code

    def read() -> Sweep:
        return wandb.Api().sweep(path)

    name = create({"method": "random", "parameters": {"lr": {"min": 0.1, "max": 0.2}}})
    path = f"local/{project}/{name}"
    config = tmp_path / "sweep.yaml"
    config.write_text("method: grid\nname: updated\nprogram: a.py\nparameters:\n  lr: {values: [1, 2, 3]}\n")
    assert command("--update", path, str(config)) == 0
    assert (read().expected_run_count, read().name) == (3, "updated")
    assert command("--pause", path) == 1, "a pending sweep cannot be paused"
    document = """mutation A($sweep: String!, $project: String) {
      createAgent(input: {sweep: $sweep, projectName: $project, host: "h"}) { agent { id } } }"""
    assert graphql(document, {"sweep": name, "project": project})[0] == 200
    for option, state in (("--pause", "PAUSED"), ("--resume", "RUNNING"), ("--stop", "FINISHED")):
        assert command(option, path) == 0
        assert read().state == state
    assert command("--cancel", path) == 1, "it has ended"
    status, answer = graphql(document, {"sweep": name, "project": project})
    assert status == 400
    assert f"Sweep {path} is not running" in answer["errors"][0]["message"]

    other = create({"method": "random", "name": "other", "parameters": {"lr": {"min": 0.1, "max": 0.2}}})
    listed = wandb.Api().project(project, "local")
    assert [sweep.id for sweep in listed.sweeps()] == [other, name]
    assert [sweep.id for sweep in listed.sweeps(per_page=1)] == [other, name]
    assert [sweep.id for sweep in listed.sweeps(filters={"state": "FINISHED"})] == [name]


def test_earlier_runs_are_part_of_a_sweep_and_are_not_run_again(
    project: str, create: CreateSweep, open_run: OpenRun, find: FindRun
) -> None:
    with open_run(config={"lr": 1}) as run:
        run.log({"loss": 3})
    sweep_id = wandb.sweep(
        {"method": "grid", "metric": LOSS, "parameters": {"lr": {"values": [1, 2]}}},
        entity="local",
        project=project,
        prior_runs=[run.id],
    )
    assert find(run.id).sweep_name == sweep_id
    tried: list[int] = []

    def train() -> None:
        with wandb.init(settings=_SENT) as opened:
            tried.append(opened.config["lr"])

    wandb.agent(sweep_id, train, count=1)
    assert tried == [2]
