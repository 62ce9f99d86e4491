"""The ``@task.wandb`` decorator."""

from __future__ import annotations
