"""Stored values that a task passes on: each is kept for the XCom that refers to it now, too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbError, WandbUnavailableError
from wandb_airflow_provider.object_storage import address_of
from wandb_airflow_provider.xcom import settings
from wandb_airflow_provider.xcom.reference import Producer, StoredReference

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["PASSED_ON", "facts_of", "keep_for"]

log = logging.getLogger(__name__)

PASSED_ON = "passed_on"
"""Key of the metadata for the XComs of other tasks that refer to a version, by their aliases."""


def facts_of(producer: Producer) -> dict[str, Any]:
    """Return whose XCom it is, as artifacts and stores note it."""
    return {
        "dag_id": producer.dag_id,
        "task_id": producer.task_id,
        "key": producer.key,
        "map_index": producer.map_index,
        "part": list(producer.part),
        "dag_run_id": producer.dag_run_id,
        "deployment": producer.deployment,
    }


def keep_for(hook: WandbHook, ref: StoredReference, producer: Producer) -> None:
    """
    Keep a stored value while the XCom of ``producer`` refers to it.

    A value of a project that may only be read is passed on all the same; who clears up there does not know of it.

    :raises WandbUnavailableError: W&B or the store cannot be reached, and the policy is to fail. Retried.
    """
    try:
        if ref.artifact is not None:
            _keep_version(hook, ref.artifact, producer)
        else:
            _keep_object(ref, producer)
    except WandbError as error:
        if isinstance(error, WandbUnavailableError) and settings.on_unavailable() == "fail":
            raise
        log.warning("The stored XCom %s is passed on, and may be removed before that: %s", ref, error)


def _keep_version(hook: WandbHook, path: str, producer: Producer) -> None:
    from wandb_airflow_provider.hooks.runs import borrowed_sdk
    from wandb_airflow_provider.xcom.stores.artifact import prolong

    alias = producer.referrer_alias
    with borrowed_sdk(), hook.translate_errors(f"pass on the stored XCom {path}"):
        artifact = hook.get_conn().artifact(path)
        if alias in artifact.aliases:
            return
        known = artifact.metadata.get(PASSED_ON)
        facts = hook.privacy.mapping("metadata", facts_of(producer))
        artifact.metadata = {
            **artifact.metadata,
            PASSED_ON: {**(known if isinstance(known, dict) else {}), alias: facts},
        }
        prolong(artifact)
        artifact.aliases.append(alias)
        artifact.save()


def _keep_object(ref: StoredReference, producer: Producer) -> None:
    from wandb_airflow_provider.xcom.stores.objects import ObjectStore

    url = settings.storage()
    if url is not None and address_of(url) == ref.store:
        ObjectStore(url).note_producer(ref.location, facts_of(producer), producer.referrer_alias)
