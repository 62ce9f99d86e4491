"""Removing artifacts of XComs: of one task that is cleared, and of all that nothing refers to any more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider.exceptions import WandbError, WandbNotFoundError, WandbXComRefusedError
from wandb_airflow_provider.object_storage import address_of
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.artifact_run import check_place, xcom_hook
from wandb_airflow_provider.xcom.reference import (
    ARTIFACT_TYPE,
    Producer,
    StoredReference,
    dag_run_of,
    is_reference,
)

if TYPE_CHECKING:
    import wandb

    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.xcom.stores.objects import ObjectStore

__all__ = ["Orphan", "find_orphans", "purge", "references_in", "remove_orphan"]

log = logging.getLogger(__name__)

_LATEST = "latest"
_FACTS = ("dag_id", "task_id", "key", "map_index", "part")

ReadXCom = Callable[[Producer], Any]
"""Returns the raw XCom of a producer as it is in Airflow's database, or None."""


class Orphan(NamedTuple):
    """
    A stored value to which no XCom refers.

    :param artifact: ``entity/project/name:version``; None for one that is in the store alone.
    :param location: Where it is in the object store, if it is there.
    """

    artifact: str | None
    location: str | None
    size_bytes: int
    why: str


def references_in(raw: Any) -> Iterator[StoredReference]:
    """Yield the references in an XCom; what is no proper one is left out."""
    if is_reference(raw):
        try:
            yield StoredReference.from_json(raw)
        except WandbXComRefusedError as error:
            log.debug("Not a reference of this backend: %s", error)
    elif isinstance(raw, dict):
        for item in raw.values():
            yield from references_in(item)
    elif isinstance(raw, list | tuple):
        for item in raw:
            yield from references_in(item)


def purge(raw: Any, producer: Producer) -> None:
    """
    Remove what an XCom refers to that a task is about to push again, unless another DAG run refers to it too.

    An XCom may be forged: only what its own task would have stored is touched. A failure is logged, and never keeps the
    task from running; the maintenance operator removes what is left.
    """
    hook = xcom_hook(producer.dag_id)
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
    with borrowed_sdk():
        try:
            with hook.translate_errors(f"remove the stored XCom {ref}"):
                artifact = hook.get_conn().artifact(ref.artifact)
                facts = _producer_of(artifact.metadata)
                own = facts is not None and facts._replace(part=()) == producer._replace(
                    dag_run_id="", part=()
                )
                if artifact.type != ARTIFACT_TYPE or not own:
                    log.warning(
                        "The stored XCom %s is not one of task %r and is kept.", ref, producer.task_id
                    )
                    return
                left = [alias for alias in artifact.aliases if alias not in (producer.alias, _LATEST)]
                if left or artifact.linked_artifacts:
                    if producer.alias in artifact.aliases:
                        artifact.aliases.remove(producer.alias)
                        artifact.save()
                    return
                artifact.delete(delete_aliases=True)
        except WandbNotFoundError:
            return
        for store in _stores(ref.store):
            store.remove(ref.location)
    log.info("Removed the stored XCom %s of the attempt before.", ref)


def find_orphans(hook: WandbHook, read_xcom: ReadXCom, *, min_age: timedelta) -> Iterator[Orphan]:
    """
    Yield the stored values of a project to which no XCom refers.

    A version is kept while the XCom of one of its DAG runs refers to it, while someone gave it an alias of their own or
    linked it, and while it is younger than ``min_age``: its XCom may be about to be written.

    :raises WandbUnavailableError: W&B or the object store cannot be read.
    """
    now = datetime.now(tz=UTC)
    registered: set[str] = set()
    with hook.translate_errors(f"list the XComs of {hook.entity}/{hook.project}"):
        for artifact in _versions(hook):
            digest = str(artifact.metadata.get("digest", "")).removeprefix("sha256:")
            name = artifact.name.partition(":")[0]
            location = f"{name}/{digest}"
            registered.add(location)
            created = datetime.fromisoformat(str(artifact.created_at).replace("Z", "+00:00"))
            created = created if created.tzinfo else created.replace(tzinfo=UTC)
            if now - created < min_age:
                continue
            why = _why_orphan(artifact, read_xcom)
            if why is not None and not artifact.linked_artifacts:
                stored = any(entry.ref is not None for entry in artifact.manifest.entries.values())
                path = f"{artifact.entity}/{artifact.project}/{name}:{artifact.version}"
                size = int(artifact.metadata.get("size_bytes") or artifact.size)
                yield Orphan(path, location if stored else None, size, why)
    for store in _stores(None):
        for found in store.stored():
            if found.location in registered or now - found.changed_at < min_age:
                continue
            owners = [_producer_of(facts, str(facts.get("dag_run_id", ""))) for facts in found.producers]
            if not any(owner is not None and _refers(read_xcom, owner, found.location) for owner in owners):
                yield Orphan(None, found.location, 0, "no artifact and no XCom refers to it")


def remove_orphan(hook: WandbHook, orphan: Orphan) -> None:
    """
    Remove a stored value, in W&B first.

    :raises WandbUnavailableError: W&B or the object store cannot be written.
    """
    if orphan.artifact is not None:
        with hook.translate_errors(f"remove the stored XCom {orphan.artifact}"):
            hook.get_conn().artifact(orphan.artifact).delete(delete_aliases=True)
    if orphan.location is not None:
        for store in _stores(None):
            store.remove(orphan.location)


def _versions(hook: WandbHook) -> Iterator[wandb.Artifact]:
    api = hook.get_conn()
    path = f"{hook.entity}/{hook.project}"
    if not any(kind.name == ARTIFACT_TYPE for kind in api.artifact_types(project=path)):
        return
    for collection in api.artifact_type(ARTIFACT_TYPE, project=path).collections():
        # A linked version is listed in the collection that it was linked into, too.
        yield from (
            artifact
            for artifact in api.artifacts(ARTIFACT_TYPE, f"{path}/{collection.name}")
            if not artifact.is_link
        )


def _why_orphan(artifact: wandb.Artifact, read_xcom: ReadXCom) -> str | None:
    producer = _producer_of(artifact.metadata)
    if producer is None:
        # Not written by this backend.
        return None
    dag_runs = []
    for alias in artifact.aliases:
        dag_run_id = dag_run_of(alias)
        if dag_run_id is not None:
            dag_runs.append(dag_run_id)
        elif alias != _LATEST:
            return None
    digest = str(artifact.metadata.get("digest", "")).removeprefix("sha256:")
    location = f"{artifact.name.partition(':')[0]}/{digest}"
    for dag_run_id in dag_runs:
        if _refers(read_xcom, producer._replace(dag_run_id=dag_run_id), location):
            return None
    if not dag_runs:
        return "a later attempt of its DAG run stored another value"
    return f"no XCom of {dag_runs} refers to it"


def _refers(read_xcom: ReadXCom, producer: Producer, location: str) -> bool:
    return any(ref.location == location for ref in references_in(read_xcom(producer)))


def _producer_of(facts: Mapping[str, Any], dag_run_id: str = "") -> Producer | None:
    if not all(name in facts for name in _FACTS):
        return None
    return Producer(
        str(facts["dag_id"]),
        dag_run_id,
        str(facts["task_id"]),
        str(facts["key"]),
        int(facts["map_index"]),
        tuple(str(part) for part in facts["part"]),
    )


def _stores(address: str | None) -> Iterator[ObjectStore]:
    """Yield the stores that are configured, or the one of an address."""
    from wandb_airflow_provider.xcom.stores.objects import ObjectStore

    for url in settings.readable_storage() if address is not None else filter(None, [settings.storage()]):
        if address in (None, address_of(url)):
            yield ObjectStore(url)
