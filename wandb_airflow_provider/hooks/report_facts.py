"""What a report on a candidate shows, read from W&B in few requests; what must not be told is taken away at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbError,
    WandbNotFoundError,
    WandbUnavailableError,
)
from wandb_airflow_provider.hooks.evidence import read_run
from wandb_airflow_provider.hooks.run_record import began_by
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.promotion import RECORD_KEY, PromotionRecord
from wandb_airflow_provider.registry import PROJECT_PREFIX, RegistryAlias
from wandb_airflow_provider.reports.facts import Dataset, ReportFacts, RunFacts, loss_metrics
from wandb_airflow_provider.reports.queries import QuerySource, cell_text, changes, find_source, query_table
from wandb_airflow_provider.rules import Demand
from wandb_airflow_provider.rules.evidence import EVALUATED, HOLDER, measure

if TYPE_CHECKING:
    from wandb_airflow_provider.artifacts import ArtifactRef
    from wandb_airflow_provider.hooks.wandb import WandbHook
    from wandb_airflow_provider.reports.facts import QueryTable
    from wandb_airflow_provider.rules import RunEvidence, Verdict

__all__ = ["ReportWish", "read_facts"]

_DRAWN_RUNS = 4
_POINTS = 200
_MOST_DATASETS = 20


class ReportWish(NamedTuple):
    """
    What a report is to show besides the verdict.

    :param curves: Metrics of the training to draw; None for those that name a loss.
    :param table: Key of a table of per-example results, and ``table_key`` and ``table_column``: its columns of names
        and of figures. None for the one that a rule judged.
    :param baseline_run: ``entity/project/run_id`` to compare with instead of the holder's.
    :param days: How far back runs of the same kind are listed, and ``most_runs``: how many at most.
    """

    curves: tuple[str, ...] | None = None
    table: str | None = None
    table_key: str | None = None
    table_column: str | None = None
    baseline_run: str | None = None
    days: int = 31
    most_runs: int = 20


def read_facts(hook: WandbHook, verdict: Verdict, wish: ReportWish) -> ReportFacts:
    """
    Read what a report shows.

    :raises WandbNotFoundError: the evaluated run is gone. Not retried.
    :raises WandbUnavailableError: W&B could not be read. Retried.
    """
    return _Reader(hook, verdict, wish).read()


class _Reader:
    """Reads the facts of one report; a run of wandb's is kept, because each look at another part of it needs it."""

    def __init__(self, hook: WandbHook, verdict: Verdict, wish: ReportWish) -> None:
        self._hook, self._verdict, self._wish = hook, verdict, wish
        self._runs: dict[str, Any] = {}
        self._facts: dict[str, RunFacts] = {}
        self._missing: list[str] = []
        self._page: str | None = None

    def read(self) -> ReportFacts:
        verdict, wish = self._verdict, self._wish
        held = verdict.baseline
        baseline = wish.baseline_run or (self._evaluation_of(held) if held else None)
        before = wish.baseline_run or (held.source_run if held else None)
        training = verdict.candidate.source_run
        self._fetch({verdict.run.path, *filter(None, (baseline, before, training))})
        evaluated = self._named(verdict.run.path, "evaluated run")
        if evaluated is None:
            raise WandbNotFoundError(
                f"The evaluated run {verdict.run} is gone, or the key of {self._hook.connection} cannot read it. Run "
                "the gate again on a run that is there."
            )
        trained = self._named(training, "run that logged the candidate")
        judged = self._named(baseline, "run that evaluated the baseline")
        trained_before = self._named(before, "run that logged the baseline")
        recent = self._recent(evaluated)
        trainings = recent if trained is None or trained.path == evaluated.path else self._recent(trained)
        return ReportFacts(
            verdict=verdict,
            evaluated=evaluated,
            training=trained,
            baseline=judged,
            baseline_training=trained_before,
            recent=[run for run in recent if run.path != evaluated.path],
            trainings=trainings if trained else [],
            days=wish.days,
            histories=self._histories(trained, trained_before, trainings) if trained else {},
            datasets=self._datasets(trained),
            baseline_datasets=self._datasets(trained_before),
            queries=self._queries(evaluated, judged),
            target=_target(held),
            missing=tuple(self._missing),
            baseline_page=self._page,
        )

    def _evaluation_of(self, held: ArtifactRef) -> str | None:
        """Return the run that evaluated the holder when it was promoted, else the one that logged it."""
        records = self._hook.artifact_metadata(held.source or held).get(RECORD_KEY)
        found = []
        for key, value in records.items() if isinstance(records, Mapping) else ():
            registry, _, alias = str(key).rpartition(":")
            if registry == _target(held) and isinstance(value, Mapping):
                try:
                    target = RegistryAlias.from_json({**dict(value.get("target") or {}), "alias": alias})
                    record = PromotionRecord.find({RECORD_KEY: records}, target)
                except (KeyError, WandbConfigurationError) as error:
                    self._missing.append(f"The record of the baseline's promotion cannot be read: {error}")
                    continue
                if record is not None:
                    found.append((record.at, record.verdict.run.path, record.page))
        if not found:
            return held.source_run
        _, path, self._page = max(found, key=itemgetter(0))
        return path

    def _fetch(self, paths: Iterable[str]) -> None:
        """Read runs, in one request for each project that they are in."""
        projects: dict[str, list[str]] = {}
        for path in sorted(paths):
            ref = RunRef.from_json(path)
            projects.setdefault(f"{ref.entity}/{ref.project}", []).append(ref.wandb_run_id)
        for where, ids in projects.items():
            try:
                self._list(where, {"name": {"$in": ids}}, "+created_at", len(ids))
            except WandbNotFoundError as error:
                self._missing.append(str(error))

    def _list(self, where: str, filters: Mapping[str, Any], order: str, most: int) -> list[RunFacts]:
        with self._hook.translate_errors(f"list the W&B runs of {where}"):
            api = self._hook.get_conn()
            api.flush()  # type: ignore[no-untyped-call]
            runs = api.runs(where, filters=dict(filters), order=order, per_page=most, lazy=False)
            return [self._known(run) for run in islice(runs, most)]

    def _known(self, run: Any) -> RunFacts:
        record, privacy = self._hook.record_of(run), self._hook.privacy
        path = record.ref.path
        if path not in self._facts:
            self._runs[path] = run
            self._facts[path] = RunFacts(
                path=path,
                name=record.name,
                url=record.ref.url,
                state=record.state,
                created_at=record.created_at,
                job_type=record.job_type,
                config=privacy.mapping("config", record.config),
                summary=privacy.mapping("summary", record.summary),
                seconds=_seconds(record.summary),
            )
        return self._facts[path]

    def _named(self, path: str | None, what: str) -> RunFacts | None:
        if path is not None and path not in self._facts:
            self._missing.append(f"The {what}, {path}, is gone, or may not be read.")
        return self._facts.get(path) if path else None

    def _recent(self, like: RunFacts) -> list[RunFacts]:
        """Return the runs of the same kind that began in the time before the judgement, the newest first."""
        if not like.job_type or not self._wish.most_runs:
            return []
        judged = self._verdict.evaluated_at
        since = judged - timedelta(days=self._wish.days)
        filters = {
            "jobType": like.job_type,
            "$and": [
                {"created_at": {"$gte": since.isoformat(timespec="seconds")}},
                {"created_at": began_by(judged)},
            ],
        }
        where = like.path.rpartition("/")[0]
        return self._list(where, filters, "-created_at", self._wish.most_runs)

    def _histories(
        self, trained: RunFacts, before: RunFacts | None, trainings: Sequence[RunFacts]
    ) -> dict[str, dict[str, tuple[tuple[float, float], ...]]]:
        metrics = self._wish.curves
        if metrics is None:
            metrics = tuple(loss_metrics(trained.summary))
        kept = [metric for metric in metrics if self._hook.privacy.keeps(f"metrics.{metric}")]
        runs = {run.path: run for run in (trained, *([before] if before else []), *trainings)}
        drawn = list(islice(runs, _DRAWN_RUNS))
        return {metric: {path: self._history(path, metric) for path in drawn} for metric in kept}

    def _history(self, path: str, metric: str) -> tuple[tuple[float, float], ...]:
        with self._hook.translate_errors(f"read the history of {metric!r} of the W&B run {path}"):
            rows = self._runs[path].history(samples=_POINTS, keys=[metric], pandas=False)
        points = [(measure(row.get("_step")).value, measure(row.get(metric)).value) for row in rows]
        return tuple((step, value) for step, value in points if step is not None and value is not None)

    def _datasets(self, run: RunFacts | None) -> list[Dataset] | None:
        if run is None:
            return None
        with self._hook.translate_errors(f"read which artifacts the W&B run {run.path} used"):
            used = list(islice(self._runs[run.path].used_artifacts(), _MOST_DATASETS))
        return [
            Dataset(
                name=artifact.name.partition(":")[0],
                type=artifact.type,
                version=artifact.version,
                digest=artifact.digest,
                size_bytes=artifact.size,
                url=_address(run, artifact),
                metadata=self._hook.privacy.mapping("metadata", artifact.metadata),
            )
            for artifact in used
            if artifact.type != "job"
        ]

    def _queries(self, evaluated: RunFacts, judged: RunFacts | None) -> QueryTable | None:
        wish = self._wish
        source = find_source(self._verdict)
        if wish.table and wish.table_column:
            source = QuerySource(wish.table, wish.table_column, wish.table_key)
        if source is None:
            return None
        compared = judged if source.needs_baseline else None
        if source.needs_baseline and source.subject != HOLDER and not wish.baseline_run:
            path = source.subject.partition(":")[2]
            if path not in self._facts:
                self._fetch([path])
            compared = self._named(path, "run that a rule compares with")
        try:
            own = self._tables(evaluated, source.demands())
            theirs = self._tables(compared, [Demand(EVALUATED, "table", source.table)]) if compared else None
        except WandbUnavailableError:
            raise
        except WandbError as error:
            # A table that is not what was logged stops a gate; a report says so.
            self._missing.append(str(error))
            return None
        rows = changes(source, own, theirs)
        if rows is None:
            return None
        privacy = self._hook.privacy
        table, cells = query_table(source, rows, whole=privacy.reduces(source.table))
        shown = privacy.table(source.table, table.columns, cells)
        texts = tuple(tuple(cell_text(cell) for cell in row) for row in shown.rows)
        return table._replace(columns=tuple(shown.columns), rows=texts)

    def _tables(self, run: RunFacts, demands: Iterable[Demand]) -> RunEvidence:
        return read_run(self._hook, self._hook.record_of(self._runs[run.path]), demands)


def _target(held: ArtifactRef | None) -> str | None:
    """Return ``registry/collection`` of a version that is linked into a registry."""
    if held is None or not held.project.startswith(PROJECT_PREFIX):
        return None
    return f"{held.project.removeprefix(PROJECT_PREFIX)}/{held.name}"


def _address(run: RunFacts, artifact: Any) -> str | None:
    """Return the page of an artifact beside that of the run; asking the artifact would cost two requests for each."""
    base, found, _ = (run.url or "").partition(f"/{run.path.rpartition('/')[0]}/runs/")
    parts = (artifact.entity, artifact.project, "artifacts", artifact.type, *artifact.name.split(":"))
    return "/".join((base, *(quote(part, safe="") for part in parts))) if found else None


def _seconds(summary: Mapping[str, Any]) -> float | None:
    inner = summary.get("_wandb")
    found = measure(summary.get("_runtime")).value
    if found is None and isinstance(inner, Mapping):
        found = measure(inner.get("runtime")).value
    return found
