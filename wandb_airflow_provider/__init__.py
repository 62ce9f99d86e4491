"""
Weights & Biases for Apache Airflow.

Airflow imports what a DAG file names each time it parses the file. So public names load on first use, and modules
that only a running task needs are imported by the functions that need them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "ArtifactRef": "artifacts",
    "MetricRule": "metric_rule",
    "RunRef": "identity",
    "Verdict": "rules",
    "WandbDownloadArtifactOperator": "operators.artifact",
    "WandbHook": "hooks.wandb",
    "WandbLogArtifactOperator": "operators.artifact",
    "WandbMetricGateOperator": "operators.gate",
    "WandbPromoteOperator": "operators.promote",
    "WandbPythonOperator": "operators.python",
    "WandbRegistryAliasSensor": "sensors.registry",
    "WandbRegistryAliasTrigger": "triggers.registry",
    "WandbRollbackOperator": "operators.promote",
    "WandbRunLink": "links.run",
    "download_artifact": "hooks.artifacts",
    "log_artifact": "hooks.artifacts",
    "wandb_alias_asset": "assets",
    "wandb_pipeline": "pipeline",
}

__all__ = [
    "ArtifactRef",
    "MetricRule",
    "RunRef",
    "Verdict",
    "WandbDownloadArtifactOperator",
    "WandbHook",
    "WandbLogArtifactOperator",
    "WandbMetricGateOperator",
    "WandbPromoteOperator",
    "WandbPythonOperator",
    "WandbRegistryAliasSensor",
    "WandbRegistryAliasTrigger",
    "WandbRollbackOperator",
    "WandbRunLink",
    "__version__",
    "download_artifact",
    "log_artifact",
    "wandb_alias_asset",
    "wandb_pipeline",
]

if TYPE_CHECKING:
    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.assets import wandb_alias_asset
    from wandb_airflow_provider.hooks.artifacts import download_artifact, log_artifact
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.identity import RunRef
    from wandb_airflow_provider.links.run import WandbRunLink
    from wandb_airflow_provider.metric_rule import MetricRule
    from wandb_airflow_provider.operators.artifact import (
        WandbDownloadArtifactOperator,
        WandbLogArtifactOperator,
    )
    from wandb_airflow_provider.operators.gate import WandbMetricGateOperator
    from wandb_airflow_provider.operators.promote import WandbPromoteOperator, WandbRollbackOperator
    from wandb_airflow_provider.operators.python import WandbPythonOperator
    from wandb_airflow_provider.pipeline import wandb_pipeline
    from wandb_airflow_provider.rules import Verdict
    from wandb_airflow_provider.sensors.registry import WandbRegistryAliasSensor
    from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
