"""The only importers of ``wandb``, always inside functions, and only through its public API."""

from __future__ import annotations

from wandb_airflow_provider.sdk.api import base_url, client, translate_errors, translate_run_errors
from wandb_airflow_provider.sdk.process import has_helper, kill_helpers, release, revive, start
from wandb_airflow_provider.sdk.runs import (
    RunSpec,
    api_url,
    current_run,
    finish_interrupted,
    finish_run,
    init_run,
    is_open,
    unknown_machine_variables,
)
from wandb_airflow_provider.sdk.values import automations, html, new_artifact, table, table_of

__all__ = [
    "RunSpec",
    "api_url",
    "automations",
    "base_url",
    "client",
    "current_run",
    "finish_interrupted",
    "finish_run",
    "has_helper",
    "html",
    "init_run",
    "is_open",
    "kill_helpers",
    "new_artifact",
    "release",
    "revive",
    "start",
    "table",
    "table_of",
    "translate_errors",
    "translate_run_errors",
    "unknown_machine_variables",
]
