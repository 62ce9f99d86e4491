"""Why a registry alias is where it is, read from W&B."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.hooks.wandb import WandbHook

if TYPE_CHECKING:
    from wandb_airflow_provider.audit_trail import AliasHistory

__all__ = ["read_audit"]


def read_audit(
    registry: str,
    collection: str,
    alias: str = "production",
    *,
    wandb_conn_id: str = DEFAULT_CONN_ID,
    entity: str | None = None,
) -> AliasHistory:
    """
    Return why a registry alias is where it is: its holder, the decision behind, and all entries of its audit.

    :param registry: Name of the registry, without the prefix of its project.
    :param collection: Its collection.
    :param entity: Whose audit to read. Default: the connection's, else the key's.
    :raises WandbInvalidNameError: a name that W&B would refuse.
    :raises WandbUnavailableError: W&B could not be read. A retry can help.
    """
    from wandb_airflow_provider.hooks.audit_log import AuditLog
    from wandb_airflow_provider.hooks.runs import borrowed_sdk
    from wandb_airflow_provider.registry import RegistryAlias

    target = RegistryAlias(registry, collection, alias)
    hook = WandbHook(wandb_conn_id, entity=entity)
    with borrowed_sdk():
        holder = hook.get_alias(target.registry, target.collection, target.alias)
        return AuditLog(hook, target.registry, target.collection).trail().history(target, holder)
