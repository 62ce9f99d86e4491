"""What a gate reads of runs: no more than its rules have to see."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from inspect import signature
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.exceptions import WandbGateFailedError, WandbNotFoundError
from wandb_airflow_provider.hooks.run_record import RunRecord, began_by
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.rules.evidence import VERDICT_PREFIX, Demand, RunEvidence, TableData, look_up

if TYPE_CHECKING:
    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.registry import RegistryAlias
    from wandb_airflow_provider.rules.verdict import CandidateUse

__all__ = [
    "FINISHED",
    "JUDGED_BY_KEY",
    "PASSED_KEY",
    "candidate_use",
    "read_baselines",
    "read_holder",
    "read_last_good",
    "read_run",
    "require_finished",
]

FINISHED = "finished"
"""State of a run whose figures are complete."""

PASSED_KEY = f"{VERDICT_PREFIX}/passed"
"""Summary key of an evaluated run that says whether the last gate that judged it let it pass."""

JUDGED_BY_KEY = f"{VERDICT_PREFIX}/judged_by"
"""Summary key that only an evaluated run has; the gate's own run says too that its verdict is good."""

log = logging.getLogger(__name__)

_TABLE_TYPE = "table-file"


def read_run(hook: WandbHook, record: RunRecord, demands: Iterable[Demand]) -> RunEvidence:
    """
    Return what rules demand of a run whose summary has been read.

    Of each history every row is read, by one request for a thousand of them; of each table its one file.

    :raises WandbGateFailedError: the file of a table is not what the run's summary says, or holds a part of it. Not
        retried.
    """
    wanted = list(dict.fromkeys((demand.part, demand.key) for demand in demands))
    history = {key: _history(hook, record, key) for part, key in wanted if part == "history"}
    tables = {key: _table(hook, record, key) for part, key in wanted if part == "table"}
    return RunEvidence(
        summary=record.summary,
        history=history,
        tables={key: table for key, table in tables.items() if table is not None},
        ended_at=_time(record.heartbeat_at or record.created_at),
        path=record.ref.path,
    )


def read_last_good(hook: WandbHook, record: RunRecord, count: int) -> list[RunRecord]:
    """
    Return the last runs like this one, and before it, that a gate let pass; the newest first.

    Like it are those of its project and job type. Others of the same second count as before it. One request. There may
    be fewer.
    """
    filters: dict[str, Any] = {
        "state": FINISHED,
        f"summary_metrics.{PASSED_KEY}": True,
        f"summary_metrics.{JUDGED_BY_KEY}": {"$exists": True},
        "name": {"$ne": record.ref.wandb_run_id},
        "created_at": began_by(_time(record.created_at)),
    }
    if record.job_type:
        filters["jobType"] = record.job_type
    where = f"{record.ref.entity}/{record.ref.project}"
    with hook.translate_errors(f"list the W&B runs of {where} that passed their gate"):
        api = hook.get_conn()
        api.flush()  # type: ignore[no-untyped-call]
        runs = api.runs(where, filters=filters, order="-created_at", per_page=count, lazy=False)
        return [hook.record_of(run) for run in islice(runs, count)]


def read_baselines(
    hook: WandbHook, record: RunRecord, demands: Iterable[Demand]
) -> dict[str, tuple[RunEvidence, ...] | None]:
    """
    Return what rules demand of named runs and of the last good ones, by subject; None where no run was good yet.

    :param record: The evaluated run.
    :raises WandbNotFoundError: a named run does not exist. Not retried.
    :raises WandbGateFailedError: a named run has not finished, or is the evaluated one. Not retried.
    """
    found: dict[str, tuple[RunEvidence, ...] | None] = {}
    wanted = list(demands)
    for subject in dict.fromkeys(demand.subject for demand in wanted):
        kind, _, which = subject.partition(":")
        if kind == "run" and which:
            named = hook.get_run(RunRef.from_json(which))
            require_finished(named, "The run to compare with,")
            if named.ref.path == record.ref.path:
                raise WandbGateFailedError(
                    f"A rule compares the evaluated run {record.ref} with itself: 'baseline_run' must be another one."
                )
            records = [named]
        elif kind == "last_good":
            records = read_last_good(hook, record, int(which))
        else:
            continue
        own = [demand for demand in wanted if demand.subject == subject]
        found[subject] = tuple(read_run(hook, run, own) for run in records) or None
    return found


def read_holder(
    hook: WandbHook,
    holder: ArtifactRef,
    target: RegistryAlias,
    demands: Sequence[Demand],
    *,
    judged: tuple[ArtifactRef, RunRecord],
) -> RunEvidence | None:
    """
    Return what rules demand of the run that evaluated the holder: as recorded at promotion, else that which logged it.

    :param judged: The candidate and its evaluated run.
    :return: None when W&B knows no such run, or not any more.
    :raises WandbGateFailedError: it has not finished, or is that of the candidate too. Not retried.
    """
    from wandb_airflow_provider.promotion import PromotionRecord

    record = PromotionRecord.find(hook.artifact_metadata(holder.source or holder), target)
    if record is not None and record.verdict.digest != holder.digest:
        log.warning("The promotion record in the metadata of %s is of other content.", holder)
        record = None
    path = record.verdict.run.path if record else holder.source_run
    if path is None:
        log.warning("W&B knows no run behind %s; comparing with it is not possible.", holder)
        return None
    try:
        run = hook.get_run(RunRef.from_json(path))
    except WandbNotFoundError as error:
        log.warning("The run that evaluated %s is gone: %s", holder, error)
        return None
    require_finished(run, f"The run behind {holder}, with which a rule compares,")
    candidate, evaluated = judged
    if run.ref.path == evaluated.ref.path and candidate.digest != holder.digest:
        raise WandbGateFailedError(
            f"The run {run.ref} is behind both {candidate} and {holder}: its figures are not those of both, and a "
            "change against them is none. Evaluate each in a run of its own, or let the run measure both and compare "
            "by 'against'."
        )
    return read_run(hook, run, demands)


def require_finished(record: RunRecord, what: str) -> None:
    """
    Refuse figures of a run that has not ended well.

    :param what: What the run is, as the beginning of a sentence.
    :raises WandbGateFailedError: it runs, or failed. Not retried.
    """
    if record.state != FINISHED:
        raise WandbGateFailedError(
            f"{what} {record.ref}, is {record.state!r}, not {FINISHED!r}: its metrics may be incomplete."
        )


def candidate_use(hook: WandbHook, record: RunRecord, candidate: ArtifactRef) -> CandidateUse:
    """
    Return how the evaluated run had to do with the content that is judged.

    :raises WandbGateFailedError: not at all, so that its figures are another version's. Not retried.
    """
    if candidate.source_run == record.ref.path:
        return "logged"
    seen: list[str] = []
    with hook.translate_errors(f"read which artifacts the W&B run {record.ref} used and logged"):
        run = hook.get_conn().run(record.ref.path)
        for use, artifacts in (("used", run.used_artifacts()), ("logged", run.logged_artifacts())):
            for artifact in artifacts:
                if artifact.digest == candidate.digest:
                    return "used" if use == "used" else "logged"
                if artifact.type == candidate.type:
                    seen.append(f"{use} {artifact.name}")
    found = "; ".join(seen) if seen else f"it used and logged no artifact of type {candidate.type!r}"
    raise WandbGateFailedError(
        f"The evaluated run {record.ref} has neither used nor logged {candidate} (digest {candidate.digest!r}): "
        f"{found}. Its figures are not this version's. Let the run use_artifact() what it measures, as "
        "download_artifact() does, or set check_candidate_use=False."
    )


def _history(hook: WandbHook, record: RunRecord, key: str) -> list[tuple[float, Any]]:
    with hook.translate_errors(f"read the history of {key!r} of the W&B run {record.ref}"):
        run = hook.get_conn().run(record.ref.path)
        # A copy that an earlier task left on this worker may be older than the run; wandb before 0.28 keeps none.
        fresh = {"use_cache": False} if "use_cache" in signature(run.scan_history).parameters else {}
        rows: Iterator[Mapping[str, Any]] = run.scan_history(keys=["_step", key], **fresh)
        return [(row["_step"], row[key]) for row in rows]


def _table(hook: WandbHook, record: RunRecord, key: str) -> TableData | None:
    """Return None when there is no such table; the summary, which is evidence too, then tells why."""
    entry = look_up(record.summary, key)
    if (
        not isinstance(entry, Mapping)
        or entry.get("_type") != _TABLE_TYPE
        or not isinstance(entry.get("path"), str)
    ):
        return None
    name: str = entry["path"]
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        # It would be written to, and read from, anywhere on this machine.
        raise WandbGateFailedError(
            f"The summary of the W&B run {record.ref} says that the table {key!r} is in {name!r}, which is "
            "no file of a run."
        )
    with TemporaryDirectory(prefix="wandb-gate-") as folder:
        try:
            with hook.translate_errors(f"read the table {key!r} of the W&B run {record.ref}"):
                run = hook.get_conn().run(record.ref.path)
                run.file(name).download(root=folder, replace=True).close()
        except WandbNotFoundError as error:
            log.warning(
                "The table %r is in the summary of %s, and its file is gone: %s", key, record.ref, error
            )
            return None
        content = Path(folder, name).read_bytes()
    digest = entry.get("sha256")
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise WandbGateFailedError(
            f"The file {name!r} of the W&B run {record.ref} is not the one that was logged as the table {key!r}: its "
            "SHA-256 is not that in the run's summary."
        )
    try:
        found = json.loads(content)
        columns = tuple(str(column) for column in found["columns"])
        rows = [list(row) for row in found["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise WandbGateFailedError(
            f"The file {name!r} of the W&B run {record.ref} is not a table of W&B's: {error!r}."
        ) from error
    if len(set(columns)) < len(columns):
        raise WandbGateFailedError(
            f"The table {key!r} of the W&B run {record.ref} has several columns of one name: {list(columns)}."
        )
    logged = entry.get("nrows")
    if isinstance(logged, int) and logged != len(rows):
        raise WandbGateFailedError(
            f"The file of the table {key!r} of the W&B run {record.ref} has {len(rows)} of the {logged} rows that were "
            "logged: wandb leaves out those beyond wandb.Table.MAX_ROWS. Set that higher before the table is logged, "
            "or log fewer rows."
        )
    if any(len(row) != len(columns) for row in rows):
        raise WandbGateFailedError(
            f"The table {key!r} of the W&B run {record.ref} has rows that are not {len(columns)} cells long."
        )
    return TableData(columns, rows)


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
