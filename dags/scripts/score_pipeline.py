"""Fit a line and check it. A Kubeflow pipeline; by hand it runs the same, and records no run but that of `fit`."""

# KFP reads the annotations of components as types, which `from __future__ import annotations` would make text.
# ruff: noqa: I002
import sys

from kfp import dsl, local

from wandb_airflow_provider.integrations.kubeflow import wandb_flow


# [START pipeline]
@dsl.component(base_image="python:3.11", install_kfp_package=False)
def fit(steps: int) -> float:
    import wandb

    run = wandb.init(config={"rate": 0.1})
    slope = 0.0
    for _ in range(steps):
        slope -= run.config["rate"] * 2 * sum((slope * x - 2 * x) * x for x in (0.0, 0.5, 1.0)) / 3
        run.log({"distance": abs(slope - 2.0)})
    return slope


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def check(slope: float) -> str:
    if abs(slope - 2.0) > 0.5:
        raise ValueError(f"slope {slope:.2f} is not near 2")
    return f"slope {slope:.2f}"


@wandb_flow
@dsl.pipeline(name="score")
def score(steps: int) -> str:
    return check(slope=fit(steps=steps).output).output


if __name__ == "__main__":
    local.init(runner=local.SubprocessRunner(use_venv=False))
    score(steps=int(sys.argv[1]))
# [END pipeline]
