"""
Read-only pages for people: projects, runs, the tree of a DAG run, artifacts and their lineage, registries.

The addresses are those that the SDK gives for runs and artifacts. Nothing is loaded from elsewhere. The pages ask
for no login: the server is meant for loopback, and whoever reaches it on another address can read all of it.
"""

from __future__ import annotations

from wandb_airflow_provider.devserver.pages.not_found import is_for_people, not_found
from wandb_airflow_provider.devserver.pages.routes import routes

__all__ = ["is_for_people", "not_found", "routes"]
