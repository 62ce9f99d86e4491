"""Removing a stored value: from W&B, then from the store, and only while nothing has begun to refer to it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbError, WandbNotFoundError, WandbPermanentError
from wandb_airflow_provider.object_storage import address_of
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.artifact_run import check_place, xcom_hook
from wandb_airflow_provider.xcom.reference import ARTIFACT_TYPE, LATEST, Producer, StoredReference
from wandb_airflow_provider.xcom.referrers import own_of, producer_of, references_in

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.xcom.stores.objects import ObjectStore, StoredObject

__all__ = ["delete_version", "purge", "remove_object", "versions"]

log = logging.getLogger(__name__)


def purge(raw: Any, producer: Producer) -> None:
    """
    Remove what an XCom refers to that a task is about to push again, unless another XCom refers to it too.

    An XCom may be forged: only what its own task would have stored is touched. A failure is logged, and never keeps the
    task from running; the maintenance operator removes what is left.
    """
    hook = xcom_hook(producer.dag_id)
    producer = producer._replace(deployment=settings.deployment())
    for ref in references_in(raw):
        try:
            _purge_one(hook, ref, producer)
        except WandbError as error:
            log.warning("The stored XCom %s was not removed: %s", ref, error)


def _purge_one(hook: WandbHook, ref: StoredReference, producer: Producer) -> None:
    from wandb_airflow_provider.hooks.runs import borrowed_sdk

    if ref.place is None or ref.artifact is None:
        return
    check_place(hook, ref.place, f"to remove {ref}")
    store = _open_store(ref.store) if ref.store is not None else None
    with borrowed_sdk():
        try:
            with hook.translate_errors(f"remove the stored XCom {ref}"):
                artifact = hook.get_conn().artifact(ref.artifact)
                if artifact.type != ARTIFACT_TYPE or not _is_of(artifact, producer):
                    log.warning(
                        "The stored XCom %s is not one of task %r and is kept.", ref, producer.task_id
                    )
                    return
                left = [alias for alias in artifact.aliases if alias not in (producer.alias, LATEST)]
                if left or artifact.linked_artifacts:
                    if producer.alias in artifact.aliases:
                        artifact.aliases.remove(producer.alias)
                        artifact.save()
                    return
                own = own_of(artifact)
        except WandbNotFoundError:
            return
        seen = store.found(ref.location) if store is not None else None
        if not delete_version(hook, artifact):
            return
        if store is not None and seen is not None and seen.own == own:
            remove_object(hook, store, seen, ref.place)
    log.info("Removed the stored XCom %s of the attempt before.", ref)


def delete_version(hook: WandbHook, artifact: wandb.Artifact) -> bool:
    """
    Delete a version whose aliases do not count any more, unless it is given another one meanwhile.

    :returns: False if it was, and is kept.
    :raises WandbUnavailableError: W&B cannot be reached.
    """
    path = f"{artifact.entity}/{artifact.project}/{artifact.name}"
    newest = LATEST in artifact.aliases
    with hook.translate_errors(f"remove the aliases of the stored XCom {path}"):
        artifact.aliases = [LATEST] if newest else []
        artifact.save()
    # A server may not let go of this alias.
    with suppress(WandbPermanentError), hook.translate_errors(f"remove the alias of the stored XCom {path}"):
        if newest:
            # Saving has brought those that it was given meanwhile, which stay.
            artifact.aliases = [alias for alias in artifact.aliases if alias != LATEST]
            artifact.save()
    try:
        # W&B refuses to delete what has aliases: so no task can have taken it up since.
        with hook.translate_errors(f"remove the stored XCom {path}"):
            artifact.delete(delete_aliases=False)
    except WandbNotFoundError:
        return True
    except WandbError:
        with hook.translate_errors(f"read the stored XCom {path}"):
            now = hook.get_conn().artifact(path)
        if set(now.aliases) - {LATEST}:
            log.info("The stored XCom %s is in use again, and is kept.", path)
            if newest and LATEST not in now.aliases:
                with hook.translate_errors(f"give back the alias of the stored XCom {path}"):
                    now.aliases.append(LATEST)
                    now.save()
            return False
        if LATEST not in now.aliases:
            raise
        with hook.translate_errors(f"remove the stored XCom {path}"):
            now.delete(delete_aliases=True)
    return True


def remove_object(hook: WandbHook, store: ObjectStore, seen: StoredObject, place: tuple[str, str]) -> bool:
    """
    Remove a value from the store, unless a version refers to it, or it was written or noted since it was seen.

    :param place: Entity and project of its artifact.
    """
    if _is_registered(hook, seen.own, place):
        return False
    return store.remove(seen)


def _is_registered(hook: WandbHook, own: str, place: tuple[str, str]) -> bool:
    """Say whether a project has a version of a value, by collection and digest."""
    name = own.partition("/")[0]
    with hook.translate_errors(f"list the versions of {name!r}"):
        return any(own_of(artifact) == own for artifact in versions(hook, place, name))


def versions(hook: WandbHook, place: tuple[str, str], name: str | None = None) -> Iterator[wandb.Artifact]:
    """Yield the versions of all XComs of a project, or of one collection."""
    api = hook.get_conn()
    path = "/".join(place)
    if not any(kind.name == ARTIFACT_TYPE for kind in api.artifact_types(project=path)):
        return
    for collection in api.artifact_type(ARTIFACT_TYPE, project=path).collections():
        if name is not None and collection.name != name:
            continue
        # A linked version is listed in the collection that it was linked into, too.
        yield from (
            artifact
            for artifact in api.artifacts(ARTIFACT_TYPE, f"{path}/{collection.name}")
            if not artifact.is_link
        )


def _open_store(address: str) -> ObjectStore | None:
    """Return the configured store of an address."""
    from wandb_airflow_provider.xcom.stores.objects import ObjectStore

    return next((ObjectStore(url) for url in settings.readable_storage() if address_of(url) == address), None)


def _is_of(artifact: wandb.Artifact, producer: Producer) -> bool:
    found = producer_of(artifact.metadata)
    if found is None or found.artifact_name != artifact.name.partition(":")[0]:
        return False
    return found._replace(dag_run_id="", part=()) == producer._replace(dag_run_id="", part=())
