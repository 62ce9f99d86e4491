"""Fit a line. A script that knows W&B and nothing of Airflow: it runs the same by hand."""

from __future__ import annotations

import sys

import wandb

run = wandb.init(config={"learning_rate": 0.1, "steps": int(sys.argv[1])})
points = [(x / 10, 2 * x / 10 + 1) for x in range(20)]
slope = intercept = 0.0
for _ in range(run.config.steps):
    errors = [(slope * x + intercept - y, x) for x, y in points]
    slope -= run.config.learning_rate * 2 * sum(error * x for error, x in errors) / len(points)
    intercept -= run.config.learning_rate * 2 * sum(error for error, _ in errors) / len(points)
    run.log({"loss": sum(error**2 for error, _ in errors) / len(points)})
run.summary["slope"] = slope
