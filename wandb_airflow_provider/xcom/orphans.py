"""Stored values to which no XCom refers any more: found, looked at once more, and removed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider.exceptions import WandbNotFoundError
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.artifact_run import scopes_of
from wandb_airflow_provider.xcom.referrers import Airflow, Referrers, own_of, producer_of
from wandb_airflow_provider.xcom.removal import delete_version, remove_object, versions
from wandb_airflow_provider.xcom.stores.artifact import age_of

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.xcom.stores.objects import ObjectStore, StoredObject

__all__ = ["Orphan", "find_orphans", "remove_orphan"]

log = logging.getLogger(__name__)


class Orphan(NamedTuple):
    """
    A stored value to which no XCom refers.

    :param artifact: ``entity/project/name:version``; None for one that is in the store alone.
    :param objects: What the store has of it.
    """

    artifact: str | None
    objects: tuple[StoredObject, ...]
    size_bytes: int
    why: str

    @property
    def location(self) -> str | None:
        """Where it is in the object store, if it is there."""
        return self.objects[0].location if self.objects else None

    def to_json(self) -> dict[str, Any]:
        """Return what the operator reports."""
        return {
            "artifact": self.artifact,
            "location": self.location,
            "size_bytes": self.size_bytes,
            "why": self.why,
        }


def find_orphans(hook: WandbHook, airflow: Airflow, *, min_age: timedelta) -> Iterator[Orphan]:
    """
    Yield the stored values of the hook's project to which no XCom of this Airflow refers.

    A version is kept while the XCom of one of its DAG runs refers to it, or one that passes it on; while one of these
    DAG runs is at work; while someone gave it an alias of their own or linked it; and while it is younger than
    ``min_age``.

    :raises WandbUnavailableError: W&B or the object store cannot be read.
    """
    place = (hook.entity, hook.project)
    referrers = Referrers(airflow, settings.deployment())
    # The store first: what is stored while W&B is asked has a version by then, or is not seen at all.
    objects = _stored(hook)
    with hook.translate_errors(f"list the XComs of {'/'.join(place)}"):
        found = list(versions(hook, place))
    registered = {own for own in map(own_of, found) if own is not None}
    for artifact in found:
        orphan = _orphan_of(hook, artifact, referrers, objects, min_age)
        if orphan is not None:
            yield orphan
    now = datetime.now(tz=UTC)
    for own, copies in objects.items():
        for seen in copies:
            if own in registered or now - seen.changed_at < min_age or _is_noted(seen, referrers):
                continue
            yield Orphan(None, (seen,), 0, "no artifact and no XCom refers to it")


def remove_orphan(hook: WandbHook, airflow: Airflow, orphan: Orphan, *, min_age: timedelta) -> bool:
    """
    Remove a stored value, in W&B first, unless something refers to it since it was found.

    :returns: Whether it is gone.
    :raises WandbUnavailableError: W&B or the object store cannot be written.
    """
    place = (hook.entity, hook.project)
    if orphan.artifact is not None:
        try:
            with hook.translate_errors(f"read the stored XCom {orphan.artifact}"):
                artifact = hook.get_conn().artifact(orphan.artifact)
            referrers = Referrers(airflow, settings.deployment())
            if _orphan_of(hook, artifact, referrers, {}, min_age) is None:
                return False
            if not delete_version(hook, artifact):
                return False
        except WandbNotFoundError:
            log.debug("%s is gone already.", orphan.artifact)
    store = _store()
    gone = [store is not None and remove_object(hook, store, seen, place) for seen in orphan.objects]
    return orphan.artifact is not None or all(gone)


def _orphan_of(
    hook: WandbHook,
    artifact: wandb.Artifact,
    referrers: Referrers,
    objects: dict[str, list[StoredObject]],
    min_age: timedelta,
) -> Orphan | None:
    with hook.translate_errors(f"read the stored XCom {artifact.name}"):
        why = referrers.why_orphan(artifact) if age_of(artifact) >= min_age else None
        if why is None:
            return None
        said = artifact.metadata.get("size_bytes")
        size = said if isinstance(said, int) and said > 0 else artifact.size
        path = f"{artifact.entity}/{artifact.project}/{artifact.name.partition(':')[0]}:{artifact.version}"
        # An object that was written lately may be about to be referred to again; it is an orphan of its own later.
        old = [
            seen
            for seen in objects.get(str(own_of(artifact)), ())
            if datetime.now(tz=UTC) - seen.changed_at >= min_age
        ]
        return Orphan(path, tuple(old), size, why)


def _is_noted(seen: StoredObject, referrers: Referrers) -> bool:
    """Say whether an XCom that was noted beside a value refers to it, or may."""
    producers = [producer_of(facts) for facts in seen.producers]
    return any(producer is None or referrers.refers(producer, seen.own) for producer in producers)


def _stored(hook: WandbHook) -> dict[str, list[StoredObject]]:
    store = _store()
    found: dict[str, list[StoredObject]] = {}
    if store is not None:
        for seen in store.stored(sorted(scopes_of(hook))):
            found.setdefault(seen.own, []).append(seen)
    return found


def _store() -> ObjectStore | None:
    from wandb_airflow_provider.xcom.stores.objects import ObjectStore

    url = settings.storage()
    return ObjectStore(url) if url is not None else None
