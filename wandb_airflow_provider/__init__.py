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
    "AgeRule": "rules.age",
    "AllOf": "rules.combination",
    "AnyOf": "rules.combination",
    "ArtifactRef": "artifacts",
    "KubernetesSecret": "kubernetes_secret",
    "MetricCondition": "automation",
    "MetricRule": "rules.metric",
    "PairedRule": "rules.paired",
    "RedactionPolicy": "redaction",
    "RunNode": "hooks.run_tree",
    "RunRef": "identity",
    "TableRule": "rules.table",
    "Verdict": "rules.verdict",
    "WandbArtifactSensor": "sensors.artifact",
    "WandbChildRun": "child_process",
    "WandbCreateAutomationOperator": "operators.automation",
    "WandbDemoteOperator": "operators.demote",
    "WandbDownloadArtifactOperator": "operators.artifact",
    "WandbHook": "hooks.wandb",
    "WandbLogArtifactOperator": "operators.artifact",
    "WandbMetricGateOperator": "operators.gate",
    "WandbPromoteOperator": "operators.promote",
    "WandbPythonOperator": "operators.python",
    "WandbReconcileOperator": "operators.reconcile",
    "WandbRegistryAliasSensor": "sensors.registry",
    "WandbRegistryAliasTrigger": "triggers.registry",
    "WandbReportOperator": "operators.report",
    "WandbRollbackOperator": "operators.rollback",
    "WandbRunLink": "links.run",
    "WandbRunSensor": "sensors.run",
    "WandbSyncOperator": "operators.sync",
    "WandbXComBackend": "xcom.backend",
    "WandbXComCleanupOperator": "operators.xcom",
    "by_reference": "xcom.stored_value",
    "download_artifact": "hooks.artifacts",
    "load_rules": "rules.parsing",
    "log_artifact": "hooks.artifacts",
    "read_audit": "hooks.alias_history",
    "read_run_tree": "hooks.run_tree",
    "wandb_alias_asset": "assets",
    "wandb_environment": "environment",
    "wandb_environment_templates": "macros",
    "wandb_pipeline": "pipeline",
    "wandb_quality_gate": "quality_gate",
    "webhook_payload": "watching.notice",
}

__all__ = [
    "AgeRule",
    "AllOf",
    "AnyOf",
    "ArtifactRef",
    "KubernetesSecret",
    "MetricCondition",
    "MetricRule",
    "PairedRule",
    "RedactionPolicy",
    "RunNode",
    "RunRef",
    "TableRule",
    "Verdict",
    "WandbArtifactSensor",
    "WandbChildRun",
    "WandbCreateAutomationOperator",
    "WandbDemoteOperator",
    "WandbDownloadArtifactOperator",
    "WandbHook",
    "WandbLogArtifactOperator",
    "WandbMetricGateOperator",
    "WandbPromoteOperator",
    "WandbPythonOperator",
    "WandbReconcileOperator",
    "WandbRegistryAliasSensor",
    "WandbRegistryAliasTrigger",
    "WandbReportOperator",
    "WandbRollbackOperator",
    "WandbRunLink",
    "WandbRunSensor",
    "WandbSyncOperator",
    "WandbXComBackend",
    "WandbXComCleanupOperator",
    "__version__",
    "by_reference",
    "download_artifact",
    "load_rules",
    "log_artifact",
    "read_audit",
    "read_run_tree",
    "wandb_alias_asset",
    "wandb_environment",
    "wandb_environment_templates",
    "wandb_pipeline",
    "wandb_quality_gate",
    "webhook_payload",
]

if TYPE_CHECKING:
    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.assets import wandb_alias_asset
    from wandb_airflow_provider.automation import MetricCondition
    from wandb_airflow_provider.child_process import WandbChildRun
    from wandb_airflow_provider.environment import wandb_environment
    from wandb_airflow_provider.hooks.alias_history import read_audit
    from wandb_airflow_provider.hooks.artifacts import download_artifact, log_artifact
    from wandb_airflow_provider.hooks.run_tree import RunNode, read_run_tree
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.identity import RunRef
    from wandb_airflow_provider.kubernetes_secret import KubernetesSecret
    from wandb_airflow_provider.links.run import WandbRunLink
    from wandb_airflow_provider.macros import wandb_environment_templates
    from wandb_airflow_provider.operators.artifact import (
        WandbDownloadArtifactOperator,
        WandbLogArtifactOperator,
    )
    from wandb_airflow_provider.operators.automation import WandbCreateAutomationOperator
    from wandb_airflow_provider.operators.demote import WandbDemoteOperator
    from wandb_airflow_provider.operators.gate import WandbMetricGateOperator
    from wandb_airflow_provider.operators.promote import WandbPromoteOperator
    from wandb_airflow_provider.operators.python import WandbPythonOperator
    from wandb_airflow_provider.operators.reconcile import WandbReconcileOperator
    from wandb_airflow_provider.operators.report import WandbReportOperator
    from wandb_airflow_provider.operators.rollback import WandbRollbackOperator
    from wandb_airflow_provider.operators.sync import WandbSyncOperator
    from wandb_airflow_provider.operators.xcom import WandbXComCleanupOperator
    from wandb_airflow_provider.pipeline import wandb_pipeline
    from wandb_airflow_provider.quality_gate import wandb_quality_gate
    from wandb_airflow_provider.redaction import RedactionPolicy
    from wandb_airflow_provider.rules import (
        AgeRule,
        AllOf,
        AnyOf,
        MetricRule,
        PairedRule,
        TableRule,
        Verdict,
        load_rules,
    )
    from wandb_airflow_provider.sensors.artifact import WandbArtifactSensor
    from wandb_airflow_provider.sensors.registry import WandbRegistryAliasSensor
    from wandb_airflow_provider.sensors.run import WandbRunSensor
    from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger
    from wandb_airflow_provider.watching.notice import webhook_payload
    from wandb_airflow_provider.xcom.backend import WandbXComBackend
    from wandb_airflow_provider.xcom.stored_value import by_reference


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # `from ... import` asks twice.
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
