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
    "KubernetesSecret": "carriers",
    "MetricRule": "metric_rule",
    "RedactionPolicy": "redaction",
    "RunRef": "identity",
    "Verdict": "rules",
    "WandbChildRun": "child_process",
    "WandbDownloadArtifactOperator": "operators.artifact",
    "WandbHook": "hooks.wandb",
    "WandbLogArtifactOperator": "operators.artifact",
    "WandbMetricGateOperator": "operators.gate",
    "WandbPromoteOperator": "operators.promote",
    "WandbPythonOperator": "operators.python",
    "WandbReconcileOperator": "operators.reconcile",
    "WandbRegistryAliasSensor": "sensors.registry",
    "WandbRegistryAliasTrigger": "triggers.registry",
    "WandbRollbackOperator": "operators.promote",
    "WandbRunLink": "links.run",
    "WandbSyncOperator": "operators.sync",
    "download_artifact": "hooks.artifacts",
    "log_artifact": "hooks.artifacts",
    "wandb_alias_asset": "assets",
    "wandb_environment": "environment",
    "wandb_environment_templates": "macros",
    "wandb_pipeline": "pipeline",
}

__all__ = [
    "ArtifactRef",
    "KubernetesSecret",
    "MetricRule",
    "RedactionPolicy",
    "RunRef",
    "Verdict",
    "WandbChildRun",
    "WandbDownloadArtifactOperator",
    "WandbHook",
    "WandbLogArtifactOperator",
    "WandbMetricGateOperator",
    "WandbPromoteOperator",
    "WandbPythonOperator",
    "WandbReconcileOperator",
    "WandbRegistryAliasSensor",
    "WandbRegistryAliasTrigger",
    "WandbRollbackOperator",
    "WandbRunLink",
    "WandbSyncOperator",
    "__version__",
    "download_artifact",
    "log_artifact",
    "wandb_alias_asset",
    "wandb_environment",
    "wandb_environment_templates",
    "wandb_pipeline",
]

if TYPE_CHECKING:
    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.assets import wandb_alias_asset
    from wandb_airflow_provider.carriers import KubernetesSecret
    from wandb_airflow_provider.child_process import WandbChildRun
    from wandb_airflow_provider.environment import wandb_environment
    from wandb_airflow_provider.hooks.artifacts import download_artifact, log_artifact
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.identity import RunRef
    from wandb_airflow_provider.links.run import WandbRunLink
    from wandb_airflow_provider.macros import wandb_environment_templates
    from wandb_airflow_provider.metric_rule import MetricRule
    from wandb_airflow_provider.operators.artifact import (
        WandbDownloadArtifactOperator,
        WandbLogArtifactOperator,
    )
    from wandb_airflow_provider.operators.gate import WandbMetricGateOperator
    from wandb_airflow_provider.operators.promote import WandbPromoteOperator, WandbRollbackOperator
    from wandb_airflow_provider.operators.python import WandbPythonOperator
    from wandb_airflow_provider.operators.reconcile import WandbReconcileOperator
    from wandb_airflow_provider.operators.sync import WandbSyncOperator
    from wandb_airflow_provider.pipeline import wandb_pipeline
    from wandb_airflow_provider.redaction import RedactionPolicy
    from wandb_airflow_provider.rules import Verdict
    from wandb_airflow_provider.sensors.registry import WandbRegistryAliasSensor
    from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
