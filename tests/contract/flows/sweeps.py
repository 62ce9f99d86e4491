"""Sweeps: every point of a grid is tried once, and the best run is found."""

from __future__ import annotations

import wandb
from flows import Ground, flow


@flow
def grid_sweep(ground: Ground) -> None:
    wandb.login(key=ground.api_key, host=ground.url, relogin=True)
    sweep_id = wandb.sweep(
        {
            "method": "grid",
            "metric": {"name": "loss", "goal": "minimize"},
            "parameters": {"x": {"values": [1, 2, 3]}},
        },
        entity=ground.entity,
        project=ground.project,
    )
    seen: list[int] = []

    def train() -> None:
        with wandb.init(dir=str(ground.folder)) as run:
            seen.append(run.config["x"])
            run.log({"loss": run.config["x"] * 2})

    wandb.agent(sweep_id, train, entity=ground.entity, project=ground.project, count=3)
    # What wandb has read of the agent's environment would make the next run one of the sweep again.
    wandb.teardown()
    assert sorted(seen) == [1, 2, 3]
    sweep = ground.api().sweep(f"{ground.path}/{sweep_id}")
    assert sweep.state.lower() == "finished"
    assert sweep.best_run().config["x"] == 1
    assert len(sweep.runs) == 3
