"""Type and fields of a W&B connection. Imports nothing, because Airflow reads it while it is itself being imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["CONN_TYPE", "DEFAULT_CONN_ID", "EXTRA_FIELDS"]

CONN_TYPE = "wandb"
DEFAULT_CONN_ID = "wandb_default"

EXTRA_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "entity": {
        "label": "Entity",
        "type": "string",
        "description": "Team or user that owns the runs. Empty: the default entity of the key.",
    },
    "project": {
        "label": "Project",
        "type": "string",
        "description": "Project for runs whose task and pipeline name none.",
    },
    "organization": {
        "label": "Registry organization",
        "type": "string",
        "description": "Organization whose registry is used. Empty: the one of the entity.",
    },
    "identity_token_file": {
        "label": "Identity token file",
        "type": "string",
        "description": "Path on workers of a file with an identity token (JWT). Instead of an API key.",
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "type": "number",
        "description": "Longest wait for one answer of W&B. Default 30.",
    },
    "allow_project_creation": {
        "label": "Allow project creation",
        "type": "boolean",
        "default": True,
        "description": "When false, a run in a project that does not exist fails instead of creating it.",
    },
    "redaction": {
        "label": "Redaction policy (JSON)",
        "type": "string",
        "description": "What must not be sent to W&B. Empty: all but the secrets that Airflow knows.",
    },
}
"""Field name in the connection's extra to how the connection form shows it, and with what, unless empty."""
