"""Airflow's assets that stand for an alias, and writing their events in the API server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.exceptions import WandbInvalidNameError, WandbUnavailableError
from wandb_airflow_provider.registry import PROJECT_PREFIX, RegistryAlias
from wandb_airflow_provider.watching.change import (
    AliasChange,
    Claim,
    Seen,
    claim_key,
    observe_change,
    seen_key,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.watching.notice import Notice

__all__ = ["Outcome", "WatchedAsset", "find_assets", "report"]

_ATTEMPTS = 3

Outcome = Literal["reported", "already_reported", "left_to_poller"]


class WatchedAsset(NamedTuple):
    """
    An asset that a DAG is scheduled by and that stands for an alias.

    :param id: Of Airflow's database.
    """

    id: int
    uri: str
    target: RegistryAlias
    wandb_conn_id: str


def find_assets(notice: Notice) -> list[WatchedAsset]:
    """
    Return the assets that stand for the alias, or for any of the collection's when the notice names none.

    Only those that schedule a DAG which is not paused, as Airflow watches for no other: a change that is made while all
    are paused is left to the poller, which reports it once one of them is on again.
    """
    from airflow.models.asset import AssetModel, DagScheduleAssetReference
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    is_on = DagScheduleAssetReference.dag.has(~DagModel.is_stale & ~DagModel.is_paused)
    query = select(AssetModel.id, AssetModel.uri).where(
        AssetModel.uri.like("wandb://%"), AssetModel.active.has(), AssetModel.scheduled_dags.any(is_on)
    )
    with create_session() as session:
        rows = session.execute(query.order_by(AssetModel.id)).all()
    found = []
    for asset_id, uri in rows:
        try:
            target = RegistryAlias.from_uri(uri)
        except WandbInvalidNameError:
            # An asset of the user's own, under our scheme.
            continue
        if _is_about(notice, target):
            conn_id = parse_qs(urlsplit(uri).query).get("conn", [DEFAULT_CONN_ID])[0]
            found.append(WatchedAsset(asset_id, uri, target, conn_id))
    return found


def _is_about(notice: Notice, target: RegistryAlias) -> bool:
    place = (f"{PROJECT_PREFIX}{target.registry}", target.collection)
    return place == (notice.project, notice.collection) and notice.alias in (None, target.alias)


def report(asset: WatchedAsset, read: Callable[[], ArtifactRef | None], *, actor: str | None) -> Outcome:
    """
    Write the asset's event if its alias is not where it was last reported to be.

    The event and the note that it is reported are one transaction, for which API servers wait for each other; the
    claim keeps a poller from reporting the same change at the same time.

    :param read: Reads the alias from W&B.
    :raises WandbUnavailableError: it changes faster than it can be read, or a poller is just reporting another change.
    """
    from airflow.utils.session import create_session

    for _ in range(_ATTEMPTS):
        with create_session() as session:
            stored, seen = _stored_seen(session, asset)
        if stored is not None and seen is None:
            return "left_to_poller"
        _, change = observe_change(asset.target, seen, read(), first="fire")
        if change is None:
            return "already_reported"
        with create_session() as session:
            _store(session, asset, claim_key(asset.target, "push"), _claim(change))
        with create_session() as session:
            _lock(session, asset)
            if _stored_seen(session, asset)[1] != seen:
                # Another reported meanwhile, so that what was read here may be older than that.
                continue
            poller = Claim.from_json(_stored(session, asset, claim_key(asset.target, "poll")))
            if poller is not None and poller.is_under_way(seen, time.time()):
                _forget(session, asset, claim_key(asset.target, "push"))
                if poller.holds(change, time.time()):
                    return "left_to_poller"
                # It reports an earlier change, which this one has to be told from.
                session.commit()
                raise WandbUnavailableError(
                    f"A poller is reporting another change of {asset.target} just now."
                )
            _emit(session, asset, change, actor)
            return "reported"
    raise WandbUnavailableError(f"The alias {asset.target} is being reported by others all the time.")


def _emit(session: Session, asset: WatchedAsset, change: AliasChange, actor: str | None) -> None:
    from airflow.assets.manager import asset_manager
    from airflow.models.asset import AssetModel
    from sqlalchemy import select

    model = session.scalar(select(AssetModel).where(AssetModel.id == asset.id))
    if model is None:
        raise WandbUnavailableError(f"The asset {asset.uri!r} has just been removed.")
    # The shape that Airflow gives to an event of a watcher.
    extra = {"from_trigger": True, "payload": change.to_json(actor=actor)}
    asset_manager.register_asset_change(asset=model, extra=extra, session=session)
    _store(session, asset, seen_key(asset.target), change.after.to_json())


def _claim(change: AliasChange) -> dict[str, object]:
    return Claim.of(change, time.time()).to_json()


def _lock(session: Session, asset: WatchedAsset) -> None:
    """Keep other API servers from reporting this asset until the transaction ends; changes nothing."""
    from airflow.models.asset import AssetModel
    from sqlalchemy import update

    session.execute(update(AssetModel).where(AssetModel.id == asset.id).values(id=AssetModel.id))


def _stored_seen(session: Session, asset: WatchedAsset) -> tuple[object, Seen | None]:
    stored = _stored(session, asset, seen_key(asset.target))
    return stored, Seen.from_json(stored)


def _stored(session: Session, asset: WatchedAsset, key: str) -> object:
    from airflow.state import AssetScope, get_state_backend

    text = get_state_backend().get(AssetScope(asset_id=asset.id), key, session=session)
    return json.loads(text) if text is not None else None


def _store(session: Session, asset: WatchedAsset, key: str, value: object) -> None:
    from airflow.state import AssetScope, get_state_backend

    get_state_backend().set(AssetScope(asset_id=asset.id), key, json.dumps(value), session=session)


def _forget(session: Session, asset: WatchedAsset, key: str) -> None:
    from airflow.state import AssetScope, get_state_backend

    get_state_backend().delete(AssetScope(asset_id=asset.id), key, session=session)
