"""A registry alias as an Airflow asset, whose changes start DAGs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.sdk import Asset

__all__ = ["sanitize_uri", "wandb_alias_asset"]


def wandb_alias_asset(
    registry: str,
    collection: str,
    alias: str,
    *,
    wandb_conn_id: str = DEFAULT_CONN_ID,
    poll_interval: float = 60.0,
    first: Literal["baseline", "fire"] = "baseline",
) -> Asset:
    """
    Return the asset of a registry alias, watched by the triggerer.

    A DAG with ``schedule=[wandb_alias_asset("model", "search", "production")]`` runs each time the alias is
    added, moved or removed; the event's ``extra["payload"]`` says which, with version, digest, the previous
    ones, the source run and an idempotency key. Name and URI are
    ``wandb://registry/<registry>/<collection>?alias=<alias>``, with ``&conn=<id>`` for a connection other than
    ``wandb_default``: an asset of the same name elsewhere is the same asset.

    :param registry: Name of the registry, without the prefix of its project.
    :param poll_interval: Seconds between two reads.
    :param first: Whether an alias that is held when it is first observed is taken as given (``baseline``) or
        starts the DAG (``fire``).
    :raises WandbInvalidNameError: a name that W&B would refuse.
    :raises WandbConfigurationError: ``poll_interval`` or ``first`` is wrong.
    """
    from airflow.sdk import Asset, AssetWatcher

    from wandb_airflow_provider.registry import RegistryAlias
    from wandb_airflow_provider.triggers.registry import WandbRegistryAliasTrigger

    target = RegistryAlias(registry, collection, alias)
    uri = target.uri(**({} if wandb_conn_id == DEFAULT_CONN_ID else {"conn": wandb_conn_id}))
    trigger = WandbRegistryAliasTrigger(
        registry=target.registry,
        collection=target.collection,
        alias=target.alias,
        wandb_conn_id=wandb_conn_id,
        poll_interval=poll_interval,
        first=first,
    )
    trigger.check()
    return Asset(
        name=uri, uri=uri, extra=dict(target.to_json()), watchers=[AssetWatcher(name=uri, trigger=trigger)]
    )


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Return the normal form of the URI of an asset with the scheme ``wandb``, for Airflow.

    :raises WandbInvalidNameError: not the URI of a registry alias.
    """
    from urllib.parse import urlsplit

    from wandb_airflow_provider.registry import RegistryAlias

    return urlsplit(RegistryAlias.normal_uri(uri.geturl()))
