"""What Airflow discovers of this package without importing anything else of it."""

from __future__ import annotations

from typing import Any

__all__ = ["get_provider_info"]


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, in the form of Airflow's ``provider_info.schema.json``."""
    from wandb_airflow_provider.connection_form import CONN_TYPE, EXTRA_FIELDS
    from wandb_airflow_provider.settings import OPTIONS, SECTION
    from wandb_airflow_provider.xcom.settings import OPTIONS as XCOM_OPTIONS
    from wandb_airflow_provider.xcom.settings import SECTION as XCOM_SECTION

    return {
        "package-name": "wandb-airflow-provider",
        "name": "Weights & Biases",
        "description": "Every DAG run becomes an auditable W&B experiment ledger.",
        "connection-types": [
            {
                "connection-type": CONN_TYPE,
                "hook-name": "Weights & Biases",
                "hook-class-name": "wandb_airflow_provider.hooks.wandb.WandbHook",
                "conn-fields": {
                    name: {
                        "label": spec["label"],
                        "description": spec["description"],
                        "schema": {"type": [spec["type"], "null"], "default": spec.get("default")},
                    }
                    for name, spec in EXTRA_FIELDS.items()
                },
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port", "login"],
                    "relabeling": {"host": "API URL", "password": "API key"},
                    "placeholders": {"host": "empty: the default of the W&B SDK", "password": "W&B API key"},
                },
            }
        ],
        "asset-uris": [
            {"schemes": ["wandb"], "handler": "wandb_airflow_provider.assets.sanitize_uri"},
        ],
        "task-decorators": [
            {"name": "wandb", "class-name": "wandb_airflow_provider.decorators.wandb.wandb_task"},
        ],
        "config": {
            SECTION: {
                "description": "Instrumentation of tasks that open W&B runs with their own code.",
                "options": OPTIONS,
            },
            XCOM_SECTION: {
                "description": "The XCom backend, which passes large values as W&B artifacts.",
                "options": XCOM_OPTIONS,
            },
        },
        "extra-links": ["wandb_airflow_provider.links.run.WandbRunLink"],
    }
