"""
One function per option of the ``[wandb]`` section of Airflow's configuration, each read when it is asked for.

Imports nothing of Airflow, which reads the options' descriptions while it is itself being imported.
"""

from __future__ import annotations

import hashlib
from typing import Any

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID

__all__ = [
    "OPTIONS",
    "SECTION",
    "audit_project",
    "auto_instrument",
    "dag_run_panel",
    "deployment",
    "exclude",
    "include",
    "run_per_task",
    "wandb_conn_id",
    "webhook_conn_id",
    "webhook_max_bytes",
    "webhook_queue_size",
]

SECTION = "wandb"

OPTIONS: dict[str, dict[str, Any]] = {
    "auto_instrument": {
        "description": (
            "Give W&B runs that tasks open with their own ``wandb.init()`` their place in the hierarchy and the\n"
            "exit code of their task. Read when Airflow loads its plugins.\n"
        ),
        "version_added": "0.1.0",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
    "include": {
        "description": (
            "Which tasks ``auto_instrument`` covers: shell-style patterns, separated by commas or white space, each\n"
            "matched against ``dag_id`` and ``dag_id.task_id``.\n"
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "training_*, reports.build",
        "default": "*",
    },
    "exclude": {
        "description": "Tasks that ``auto_instrument`` leaves alone, written like ``include``, which it overrules.\n",
        "version_added": "0.1.0",
        "type": "string",
        "example": "*.wait_for_*",
        "default": "",
    },
    "run_per_task": {
        "description": (
            "With ``auto_instrument``, also open a run for each covered task, through ``wandb_conn_id``. It costs the\n"
            "task about as much as a ``wandb.init()`` and a ``finish()``.\n"
        ),
        "version_added": "0.1.0",
        "type": "boolean",
        "example": "True",
        "default": "False",
    },
    "wandb_conn_id": {
        "description": (
            "Airflow connection of the runs that ``run_per_task`` opens in a DAG without a ``wandb_pipeline``, whose\n"
            "own connection wins.\n"
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "wandb_production",
        "default": DEFAULT_CONN_ID,
    },
    "dag_run_panel": {
        "description": (
            "Show the tab *W&B* on the page of each DAG run: its tasks as a tree, with states, durations, key metrics\n"
            "and links to their W&B runs. Read when an API server starts.\n"
        ),
        "version_added": "0.1.0",
        "type": "boolean",
        "example": "False",
        "default": "True",
    },
    "audit_project": {
        "description": (
            "W&B project, or ``entity/project``, that keeps the audits of registry collections: who promoted, rolled\n"
            "back or demoted which version, why, and what was refused. All that move an alias must name one.\n"
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "ml-platform/airflow-audit",
        "default": "airflow-audit",
    },
    "deployment": {
        "description": (
            "Name of this Airflow in the audits, so that several which run the same DAGs do not take each other's\n"
            "work for their own. The same in all its components. Empty: made from ``[api] base_url``, where set.\n"
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "eu-production",
        "default": "",
    },
    "webhook_conn_id": {
        "description": (
            "Airflow connection whose password is the secret that W&B signs webhooks with. Naming one makes API\n"
            "servers receive W&B's webhooks at ``/wandb/webhook``. Read when an API server starts.\n"
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "wandb_webhook",
        "default": "",
    },
    "webhook_max_bytes": {
        "description": "Largest body of a webhook that is read, in bytes.\n",
        "version_added": "0.1.0",
        "type": "integer",
        "example": "65536",
        "default": "65536",
    },
    "webhook_queue_size": {
        "description": (
            "Most webhooks about different aliases that wait in an API server while W&B or the database is slow.\n"
            "Further ones are answered with 503.\n"
        ),
        "version_added": "0.1.0",
        "type": "integer",
        "example": "100",
        "default": "100",
    },
}
"""The options as Airflow's provider metadata describes them. Their defaults are given here alone."""


def auto_instrument() -> bool:
    """
    Return whether tasks are instrumented at all.

    :raises AirflowConfigException: the value is no boolean.
    """
    return _flag("auto_instrument")


def include() -> tuple[str, ...]:
    """Return the patterns of tasks that are instrumented."""
    return _patterns("include")


def exclude() -> tuple[str, ...]:
    """Return the patterns of tasks that are not instrumented, whatever else matches."""
    return _patterns("exclude")


def run_per_task() -> bool:
    """
    Return whether each instrumented task gets a run.

    :raises AirflowConfigException: the value is no boolean.
    """
    return _flag("run_per_task")


def wandb_conn_id() -> str:
    """Return the connection of runs that are opened for tasks."""
    return _text("wandb_conn_id")


def dag_run_panel() -> bool:
    """
    Return whether the page of a DAG run has the tab.

    :raises AirflowConfigException: the value is no boolean.
    """
    return _flag("dag_run_panel")


def audit_project() -> str:
    """Return the project of the audits, with its entity where one is named."""
    return _text("audit_project").strip()


def deployment() -> str:
    """Return what tells this Airflow from others in the audits; empty where nothing does."""
    named = _text("deployment").strip()
    address = "" if named else str(_conf().get("api", "base_url", fallback="") or "").rstrip("/")
    return hashlib.sha256(address.encode()).hexdigest()[:8] if address else named


def webhook_conn_id() -> str:
    """Return the connection with the secret of webhooks; empty when none are received."""
    return _text("webhook_conn_id").strip()


def webhook_max_bytes() -> int:
    """
    Return the largest body of a webhook.

    :raises AirflowConfigException: the value is no whole number.
    """
    return _number("webhook_max_bytes")


def webhook_queue_size() -> int:
    """
    Return how many webhooks may wait.

    :raises AirflowConfigException: the value is no whole number.
    """
    return _number("webhook_queue_size")


def _flag(name: str) -> bool:
    return bool(_conf().getboolean(SECTION, name, fallback=OPTIONS[name]["default"]))


def _number(name: str) -> int:
    return int(_conf().getint(SECTION, name, fallback=OPTIONS[name]["default"]))


def _patterns(name: str) -> tuple[str, ...]:
    return tuple(_text(name).replace(",", " ").split())


def _text(name: str) -> str:
    return str(_conf().get(SECTION, name, fallback=OPTIONS[name]["default"]))


def _conf() -> Any:
    from airflow.providers.common.compat.sdk import conf

    return conf
