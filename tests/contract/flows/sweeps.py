"""Sweeps: what agents try, when they stop, and which run was the best."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import wandb
from click.testing import CliRunner
from flows import Ground, flow
from wandb.agents import pyagent
from wandb.apis.public import Sweep
from wandb.cli.cli import cli

_LOSS = {"name": "loss", "goal": "minimize"}


class _QuickTime:
    """
    For an agent, which otherwise asks for its next run every five seconds.

    Not at once: after handing on a run the agent has wandb load its settings anew, and who reads them in that moment,
    as the next question does, gets them without the server's address.
    """

    time = staticmethod(time.time)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, 1.0))


pyagent.time = _QuickTime  # type: ignore[assignment]


def _work(ground: Ground, sweep_id: str, log: Callable[[wandb.Run], None], count: int) -> list[wandb.Run]:
    """Let an agent try some runs, and return them."""
    runs: list[wandb.Run] = []

    def train() -> None:
        # Whole seconds only; by default history is sent every 15.
        settings = wandb.Settings(x_file_stream_transmit_interval=1)
        with wandb.init(dir=str(ground.folder), settings=settings) as run:
            runs.append(run)
            log(run)

    before = set(os.environ)
    try:
        wandb.agent(sweep_id, train, entity=ground.entity, project=ground.project, count=count)
    finally:
        wandb.teardown()
        # What the agent has left would make the next run one of the sweep again.
        for name in set(os.environ) - before:
            del os.environ[name]
    return runs


def _create(ground: Ground, config: dict[str, Any]) -> str:
    ground.login()
    return wandb.sweep({"metric": _LOSS, **config}, entity=ground.entity, project=ground.project)


@flow
def grid_sweep(ground: Ground) -> None:
    sweep_id = _create(ground, {"method": "grid", "parameters": {"x": {"values": [1, 2, 3]}}})
    runs = _work(ground, sweep_id, lambda run: run.log({"loss": run.config["x"] * 2}), count=3)
    assert sorted(run.config["x"] for run in runs) == [1, 2, 3]
    sweep = ground.api().sweep(f"{ground.path}/{sweep_id}")
    assert sweep.state.lower() == "finished"
    assert sweep.best_run().config["x"] == 1
    assert len(sweep.runs) == 3


@flow
def random_sweep_that_is_stopped(ground: Ground) -> None:
    sweep_id = _create(ground, {"method": "random", "parameters": {"x": {"min": 0.5, "max": 1.5}}})
    path = f"{ground.path}/{sweep_id}"
    runs = _work(ground, sweep_id, lambda run: run.log({"loss": run.config["x"]}), count=2)
    assert len({run.config["x"] for run in runs}) == 2
    assert all(0.5 <= run.config["x"] <= 1.5 for run in runs)
    assert ground.api().sweep(path).state.lower() == "running"
    if ground.offers(Sweep, "agents"):
        assert [agent.state for agent in ground.api().sweep(path).agents()] == ["RUNNING"]
    stopped = CliRunner().invoke(cli, ["sweep", "--stop", path])
    assert stopped.exit_code == 0, stopped.output
    sweep = ground.api().sweep(path)
    assert (sweep.state.lower(), len(sweep.runs)) == ("finished", 2)
    ground.refused(lambda: _work(ground, sweep_id, lambda run: None, count=1), "is not running")


@flow
def bayes_sweep_that_ends_a_bad_run_early(ground: Ground) -> None:
    sweep_id = _create(
        ground,
        {
            "method": "bayes",
            "run_cap": 2,
            "early_terminate": {"type": "hyperband", "min_iter": 1},
            "parameters": {"x": {"min": 0.001, "max": 0.1}},
        },
    )
    logged: list[int] = []

    def log(run: wandb.Run) -> None:
        is_first = not logged
        logged.append(0)
        for _ in range(90 if is_first else 1200):
            run.log({"loss": 0.1 if is_first else 10.0})
            logged[-1] += 1
            time.sleep(0.0 if is_first else 0.05)

    _work(ground, sweep_id, log, count=2)
    runs = ground.api().sweep(f"{ground.path}/{sweep_id}").runs
    assert [run.state for run in runs] == ["finished", "killed"]
    assert all(0.001 <= run.config["x"] <= 0.1 for run in runs)
    assert logged[1] < 1200, "the second run was to be ended"
