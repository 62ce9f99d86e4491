"""The name of a Kubernetes secret. Pure."""

from __future__ import annotations

from wandb_airflow_provider.record import Record

__all__ = ["KubernetesSecret"]


class KubernetesSecret(Record):
    """
    The Kubernetes secret that holds the W&B API key, in the namespace of the pod.

    :param name: Name of the secret.
    :param key: Key within it.
    """

    name: str
    key: str = "api-key"
