"""Which XComs refer to a stored value, as Airflow's database and the value's own metadata tell."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from wandb_airflow_provider.exceptions import WandbXComRefusedError
from wandb_airflow_provider.xcom.passing_on import PASSED_ON
from wandb_airflow_provider.xcom.reference import (
    LATEST,
    Producer,
    StoredReference,
    dag_run_of,
    is_reference,
)
from wandb_airflow_provider.xcom.stores.artifact import DAG_RUNS

if TYPE_CHECKING:
    import wandb

__all__ = ["Airflow", "Referrers", "own_of", "producer_of", "references_in"]

log = logging.getLogger(__name__)

# What this package writes is not nested as deeply, Airflow's own wrapping included.
_MAX_DEPTH = 100
_TEXTS = ("dag_id", "task_id", "key")


class Airflow(NamedTuple):
    """
    What Airflow says of XComs and DAG runs.

    :param read_xcom: Returns the raw XCom of a producer as it is in Airflow's database, or None.
    :param is_at_work: Says whether a DAG run, by its DAG's id and its own, is there and has not ended.
    """

    read_xcom: Callable[[Producer], Any]
    is_at_work: Callable[[str, str], bool]


class Referrers:
    """
    The XComs of one Airflow; each is read once.

    :param deployment: The name under which this Airflow stores values.
    """

    def __init__(self, airflow: Airflow, deployment: str) -> None:
        self.deployment = deployment
        self._airflow = airflow
        self._at_work: dict[tuple[str, str], bool] = {}
        self._held: dict[Producer, list[StoredReference]] = {}

    def why_orphan(self, artifact: wandb.Artifact) -> str | None:
        """
        Return why nothing refers to a version, or None for one to which something refers, or may.

        Kept is all of which it is not certain: what another Airflow or someone else gave an alias, DAG runs and XComs
        that cannot be told, and what is not of this backend.
        """
        facts = artifact.metadata
        producer = producer_of(facts)
        name, own = artifact.name.partition(":")[0], own_of(artifact)
        if producer is None or own is None or producer.artifact_name != name:
            return None
        if producer.deployment != self.deployment:
            return None
        asked = _referrers(artifact, producer)
        if asked is None or any(self.refers(referrer, own) for referrer in asked):
            return None
        if artifact.linked_artifacts:
            return None
        return f"no XCom of {sorted({referrer.dag_run_id for referrer in asked})} refers to it"

    def refers(self, producer: Producer, own: str) -> bool:
        """
        Say whether an XCom refers to a value, or may do so yet, as long as its DAG run is at work.

        :param own: Collection and digest of the value.
        """
        if producer.deployment != self.deployment:
            return True
        try:
            if self._is_at_work(producer.dag_id, producer.dag_run_id):
                return True
            held = self._references(producer._replace(part=()))
        except Exception as error:
            # Airflow's answers and each inner backend have error classes of their own; what is not known is kept.
            log.warning("%s is kept: the XCom of %s cannot be read: %r", own, producer, error)
            return True
        # A list or dict that is too large for Airflow's database is itself stored, with the references in it.
        return any(_own(ref) == own or ref.codec == "json" for ref in held)

    def _is_at_work(self, dag_id: str, dag_run_id: str) -> bool:
        run = (dag_id, dag_run_id)
        if run not in self._at_work:
            self._at_work[run] = self._airflow.is_at_work(dag_id, dag_run_id)
        return self._at_work[run]

    def _references(self, xcom: Producer) -> list[StoredReference]:
        if xcom not in self._held:
            self._held[xcom] = list(references_in(self._airflow.read_xcom(xcom)))
        return self._held[xcom]


def references_in(raw: Any, depth: int = 0) -> Iterator[StoredReference]:
    """Yield the references in an XCom; what is no proper one is left out."""
    if depth > _MAX_DEPTH:
        return
    if is_reference(raw):
        try:
            yield StoredReference.from_json(raw)
        except WandbXComRefusedError as error:
            log.debug("Not a reference of this backend: %s", error)
    elif isinstance(raw, dict):
        for item in raw.values():
            yield from references_in(item, depth + 1)
    elif isinstance(raw, list | tuple):
        for item in raw:
            yield from references_in(item, depth + 1)


def producer_of(facts: object) -> Producer | None:
    """Return the XCom that metadata or a note names; None if anything of it is not as this package writes it."""
    if not isinstance(facts, Mapping) or not all(isinstance(facts.get(name), str) for name in _TEXTS):
        return None
    index, part = facts.get("map_index"), facts.get("part")
    run, deployment = facts.get("dag_run_id"), facts.get("deployment", "")
    if not isinstance(index, int) or isinstance(index, bool) or not isinstance(part, list):
        return None
    if not all(isinstance(item, str) for item in part) or not isinstance(run, str):
        return None
    if not isinstance(deployment, str):
        return None
    ids = (facts["dag_id"], run, facts["task_id"], facts["key"])
    return Producer(*ids, index, tuple(part), deployment)


def own_of(artifact: wandb.Artifact) -> str | None:
    """Return collection and digest of a version, by which the store has it; None if it is not of this backend."""
    digest = artifact.metadata.get("digest")
    if not isinstance(digest, str) or not digest.startswith("sha256:"):
        return None
    return f"{artifact.name.partition(':')[0]}/{digest.removeprefix('sha256:')}"


def _own(ref: StoredReference) -> str:
    return f"{ref.name}/{ref.digest.removeprefix('sha256:')}"


def _referrers(artifact: wandb.Artifact, producer: Producer) -> list[Producer] | None:
    """Return the XComs that a version names by aliases, and the one it was stored for; None if any cannot be told."""
    told = artifact.metadata.get(DAG_RUNS)
    passed = artifact.metadata.get(PASSED_ON)
    runs = [producer.dag_run_id, *(told.values() if isinstance(told, dict) else ())]
    of_runs = [producer._replace(dag_run_id=run) for run in runs if isinstance(run, str)]
    others = [producer_of(facts) for facts in (passed.values() if isinstance(passed, dict) else ())]
    known = {xcom.alias: xcom for xcom in of_runs} | {
        other.referrer_alias: other for other in others if other is not None
    }
    found = [producer]
    for alias in artifact.aliases:
        run = dag_run_of(alias, producer.deployment)
        if run is not None:
            found.append(producer._replace(dag_run_id=run))
        elif alias in known:
            found.append(known[alias])
        elif alias != LATEST:
            return None
    return found
