"""The tree of runs of a DAG run, read back from W&B in a few requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.exceptions import WandbNotFoundError
from wandb_airflow_provider.identity import CONFIG_KEY, TaskIdentity
from wandb_airflow_provider.record import Record

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.run_record import RunRecord
    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["RunNode", "build_tree", "read_run_tree"]

# A DAG that starts itself again and again must not be followed for ever.
_MOST_LEVELS = 5


class RunNode(Record):
    """
    One run with those below it.

    :param name: What a person reads.
    :param state: W&B's own: running, finished, failed, crashed, killed, preempted, preempting or pending.
    :param outcome: What the task wrote about its end: success, failed, skipped, killed, running; None if nothing.
    :param seconds: For how long the run was open, the pipeline run from the DAG run's start to its end.
    :param metrics: At most 12 numbers of its summary.
    :param triggered_by: What started the DAG run, on a pipeline run.
    """

    path: str
    name: str
    job_type: str | None
    state: str
    outcome: str | None
    url: str | None
    seconds: float | None
    reason: str | None
    metrics: Mapping[str, float]
    triggered_by: tuple[Mapping[str, Any], ...]
    children: tuple[RunNode, ...]

    def walk(self) -> Iterator[RunNode]:
        """Yield this run and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value."""
        return {
            **self._asdict(),
            "metrics": dict(self.metrics),
            "triggered_by": [dict(entry) for entry in self.triggered_by],
            "children": [child.to_json() for child in self.children],
        }


def read_run_tree(
    dag_id: str,
    dag_run_id: str,
    *,
    wandb_conn_id: str = DEFAULT_CONN_ID,
    entity: str | None = None,
    project: str | None = None,
    follow: bool = True,
) -> list[RunNode]:
    """
    Read the runs of a DAG run back from W&B, as the tree that they describe.

    One request for every 500 runs, and with ``follow`` two more for each generation of DAG runs that were started.

    :param entity: Default: the connection's, else the key's.
    :param project: Default: the connection's.
    :param follow: Also read the DAG runs that this one started, directly or not, up to 5 generations. They are
        looked for in the same project.
    :return: The pipeline run; without one, the runs that have no parent among them.
    :raises WandbNotFoundError: W&B has no run of this DAG run in that project.
    :raises WandbUnavailableError: W&B cannot be reached. Retried.
    """
    from wandb_airflow_provider.hooks.runs import release_when_idle
    from wandb_airflow_provider.hooks.wandb import WandbHook

    hook = WandbHook(wandb_conn_id, entity=entity, project=project)
    identity = TaskIdentity(dag_id, dag_run_id, "")
    try:
        records = hook.list_runs(hook.entity, hook.project, {"group": identity.group})
        if not records:
            raise WandbNotFoundError(
                f"W&B has no run of the DAG run {dag_id}/{dag_run_id} in {hook.entity}/{hook.project} through "
                f"{hook.connection}. Check both ids and the project, which the DAG may set itself."
            )
        if follow:
            records += _triggered(hook, identity)
    finally:
        release_when_idle()
    return build_tree(records)


def build_tree(records: Iterable[RunRecord]) -> list[RunNode]:
    """
    Arrange runs under the parents that their own config names.

    :return: Those whose parent is none of the given ones, pipeline runs first.
    """
    from wandb_airflow_provider.hierarchy import ROOT_JOB_TYPE

    known = {record.ref.path: record for record in records}
    below: dict[str | None, list[RunRecord]] = {}
    for record in known.values():
        below.setdefault(_parent(record, known), []).append(record)

    def arrange(parent: str | None) -> tuple[RunNode, ...]:
        return tuple(_node(record, arrange(record.ref.path)) for record in below.get(parent, []))

    return sorted(arrange(None), key=lambda node: node.job_type != ROOT_JOB_TYPE)


def _triggered(hook: WandbHook, identity: TaskIdentity) -> list[RunRecord]:
    found: dict[str, RunRecord] = {}
    level = [identity]
    seen = {identity}
    for _ in range(_MOST_LEVELS):
        tags = [hook.privacy.text(started.triggered_tag) for started in level]
        roots = hook.list_runs(hook.entity, hook.project, {"tags": {"$in": tags}})
        groups = sorted({root.group for root in roots if root.group})
        if not groups:
            break
        runs = hook.list_runs(hook.entity, hook.project, {"group": {"$in": groups}})
        found |= {run.ref.path: run for run in runs}
        level = [place for place in map(_place, roots) if place is not None and place not in seen]
        seen.update(level)
        if not level:
            break
    return list(found.values())


def _place(root: RunRecord) -> TaskIdentity | None:
    place = _provenance(root)
    ids = (place.get("dag_id"), place.get("dag_run_id"))
    return TaskIdentity(str(ids[0]), str(ids[1]), "") if all(ids) else None


def _parent(record: RunRecord, known: Mapping[str, RunRecord]) -> str | None:
    parent = _provenance(record).get("parent_run")
    seen = {record.ref.path}
    # A run that is its own ancestor, by a forged config, must not make the rest disappear.
    above = parent
    while isinstance(above, str) and above in known:
        if above in seen:
            return None
        seen.add(above)
        above = _provenance(known[above]).get("parent_run")
    return parent if isinstance(parent, str) and parent in known else None


def _provenance(record: RunRecord) -> Mapping[str, Any]:
    found = record.config.get(CONFIG_KEY)
    return found if isinstance(found, Mapping) else {}


def _node(record: RunRecord, children: Sequence[RunNode]) -> RunNode:
    from wandb_airflow_provider.hierarchy import ROOT_JOB_TYPE
    from wandb_airflow_provider.key_metrics import key_metrics

    summary, is_root = record.summary, record.job_type == ROOT_JOB_TYPE
    started = _provenance(record).get("triggered_by") if is_root else None
    return RunNode(
        path=record.ref.path,
        name=record.name,
        job_type=record.job_type,
        state=record.state,
        outcome=summary.get("airflow/state"),
        url=record.ref.url,
        seconds=_seconds(record, "airflow/wall_seconds" if is_root else "airflow/seconds"),
        reason=summary.get("airflow/reason"),
        metrics=key_metrics(summary),
        triggered_by=tuple(entry for entry in started or () if isinstance(entry, Mapping)),
        children=tuple(children),
    )


def _seconds(record: RunRecord, key: str) -> float | None:
    told = record.summary.get(key)
    if isinstance(told, int | float):
        return round(float(told), 3)
    if record.heartbeat_at is None:
        return None
    first, last = (
        datetime.fromisoformat(moment.replace("Z", "+00:00")).replace(tzinfo=None)
        for moment in (record.created_at, record.heartbeat_at)
    )
    return round((last - first).total_seconds(), 3)
