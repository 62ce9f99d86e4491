"""The sections of a report on a candidate, from what was read of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.reports.document import (
    Bullets,
    Cell,
    Curves,
    Document,
    Line,
    Link,
    Paragraph,
    Section,
    Table,
)
from wandb_airflow_provider.reports.facts import Dataset, ReportFacts, RunFacts, costs, flat
from wandb_airflow_provider.rules.bounds import change_text, number_text
from wandb_airflow_provider.rules.evidence import look_up, measure

if TYPE_CHECKING:
    from wandb_airflow_provider.rules import Outcome

__all__ = ["build_report"]

_MOST_SETTINGS = 40
_MOST_METADATA = 15
_MOST_METRICS = 6
_MOST_TEXT = 200
_ABSENT = "—"
_RESULTS = {"passed": "passed", "warning": "warning", "failed": "FAILED"}


def build_report(facts: ReportFacts, title: str) -> Document:
    """Return the report: verdict, metrics, recent runs, curves, examples, data, config, lineage and cost."""
    sections = (
        Section("Verdict", tuple(_verdict(facts))),
        Section(f"Runs of the last {facts.days} days", (_recent(facts),)),
        Section("Loss curves", tuple(_curves(facts))),
        Section("Examples", tuple(_examples(facts))),
        Section("Data", tuple(_data(facts))),
        Section("Config", (_config(facts),)),
        Section("Lineage", (_lineage(facts),)),
        Section("Cost", tuple(_cost(facts))),
    )
    return Document(title, sections)


def _verdict(facts: ReportFacts) -> Iterator[Any]:
    verdict = facts.verdict
    yield Paragraph(("Passed. " if verdict.passed else "Failed. ", verdict.summary), strong=True)
    judged: list[tuple[Cell, ...]] = [
        ("Candidate: ", Link(str(verdict.candidate), verdict.candidate.url), f", digest {verdict.digest}"),
        (
            "Evaluated by: ",
            _link(facts.evaluated),
            f", at {verdict.evaluated_at.isoformat(timespec='seconds')}",
        ),
        ("Baseline: ", *_baseline(facts)),
    ]
    judged += [(sentence,) for sentence in facts.missing]
    yield Bullets(tuple(judged))
    rows = [row for outcome in verdict.outcomes for row in _outcome(outcome, facts, "")]
    yield Table(("Metric", "Candidate", "Baseline", "Change", "Rule", "Result"), tuple(rows))


def _baseline(facts: ReportFacts) -> Iterator[Cell]:
    held = facts.verdict.baseline
    yield Link(str(held), held.url) if held else "none yet"
    if facts.baseline is not None:
        yield ", evaluated by "
        yield _link(facts.baseline)
    if facts.baseline_page is not None:
        yield ", "
        yield Link("why it holds the alias", facts.baseline_page)


def _outcome(outcome: Outcome, facts: ReportFacts, indent: str) -> Iterator[tuple[Cell, ...]]:
    unit = getattr(outcome.rule, "unit", None)
    before = outcome.baseline_value
    name = getattr(outcome.rule, "metric", None)
    if (
        before is None
        and name
        and facts.baseline is not None
        and not getattr(outcome.rule, "aggregate", None)
    ):
        before = measure(look_up(facts.baseline.summary, name)).value
    said = _RESULTS[outcome.result]
    yield (
        indent + outcome.rule.subject,
        _figure(outcome.value, unit),
        _figure(before, unit),
        _change(outcome.value, before, unit),
        outcome.rule.threshold,
        said if outcome.reason == "passed" else f"{said}: {outcome.sentence}",
    )
    for part in outcome.parts:
        yield from _outcome(part, facts, f"{indent}↳ ")


def _recent(facts: ReportFacts) -> Table:
    metrics = list(dict.fromkeys(_metric_names(facts.verdict.outcomes)))[:_MOST_METRICS]
    runs = {
        run.path: run
        for run in (facts.evaluated, *([facts.baseline] if facts.baseline else []), *facts.recent)
    }
    rows: list[tuple[Cell, ...]] = []
    for run in runs.values():
        role = {
            facts.evaluated.path: " (candidate)",
            facts.baseline.path if facts.baseline else "": " (baseline)",
        }.get(run.path, "")
        figures = (_figure(measure(look_up(run.summary, name)).value, None) for name in metrics)
        passed = run.summary.get("gate/passed")
        gate = (
            {True: "passed", False: "stopped"}.get(passed, _ABSENT) if isinstance(passed, bool) else _ABSENT
        )
        rows.append(
            (Link(run.name + role, run.url), run.created_at[:16].replace("T", " "), run.state, *figures, gate)
        )
    note = "" if facts.recent else f"No other run of this kind began in the last {facts.days} days."
    return Table(("Run", "Began", "State", *metrics, "Gate"), tuple(rows), note)


def _metric_names(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        name = getattr(outcome.rule, "metric", None)
        if isinstance(name, str) and not getattr(outcome.rule, "aggregate", None):
            yield name
        yield from _metric_names(outcome.parts)


def _curves(facts: ReportFacts) -> Iterator[Any]:
    training = facts.training
    if training is None:
        yield Paragraph(
            ("The run that logged the candidate is not known, so that there are no curves of it.",)
        )
        return
    if not facts.histories:
        yield Paragraph(("The training has no metric whose name holds “loss”. Name others with 'curves'.",))
        return
    before = facts.baseline_training
    lines = [(training, " (candidate)"), *([(before, " (baseline)")] if before else [])]
    shown = {run.path for run, _ in lines}
    lines += [(run, "") for run in facts.trainings if run.path not in shown]
    for metric, histories in facts.histories.items():
        yield Curves(
            metric, tuple(Line(run.name + role, run.path, histories.get(run.path, ())) for run, role in lines)
        )


def _examples(facts: ReportFacts) -> Iterator[Any]:
    queries = facts.queries
    if queries is None:
        yield Paragraph(
            (
                "No rule judges a table of the run, and none is named with 'table', or it is not there: no examples.",
            )
        )
        return
    yield Paragraph((f"{queries.title}. {queries.summary}",))
    yield Table(queries.columns, queries.rows)


def _data(facts: ReportFacts) -> Iterator[Any]:
    if facts.datasets is None:
        yield Paragraph(("What the candidate was trained on is not known.",))
        return
    now = {dataset.name: dataset for dataset in facts.datasets}
    before = {dataset.name: dataset for dataset in facts.baseline_datasets or ()}
    if not now and not before:
        yield Paragraph(("The training has not recorded that it used an artifact.",))
        return
    rows: list[tuple[Cell, ...]] = []
    changed: list[tuple[Cell, ...]] = []
    for name in dict.fromkeys((*now, *before)):
        new, old = now.get(name), before.get(name)
        said = _data_change(new, old, known=facts.baseline_datasets is not None)
        kind = (new or old).type  # type: ignore[union-attr]
        rows.append((name, kind, _version(new), _version(old), _size(new), _size(old), said))
        if new and old and new.digest != old.digest:
            changed += [(f"{name}: {key}", *values) for key, values in _different(new.metadata, old.metadata)]
    yield Table(
        ("Artifact", "Type", "Candidate", "Baseline", "Bytes", "Baseline bytes", "Change"), tuple(rows)
    )
    if changed:
        yield Table(
            ("Metadata", "Candidate", "Baseline"),
            tuple(changed[:_MOST_METADATA]),
            _more(len(changed), _MOST_METADATA),
        )


def _data_change(new: Dataset | None, old: Dataset | None, *, known: bool) -> str:
    if not known:
        return _ABSENT
    if new is None or old is None:
        return "no longer used" if new is None else "new"
    return "the same content" if new.digest == old.digest else "changed"


def _version(dataset: Dataset | None) -> Cell:
    return Link(f"{dataset.version} ({dataset.digest[:12]})", dataset.url) if dataset else _ABSENT


def _size(dataset: Dataset | None) -> str:
    return f"{dataset.size_bytes:,}" if dataset else _ABSENT


def _config(facts: ReportFacts) -> Table:
    new, old = facts.training or facts.evaluated, facts.baseline_training or facts.baseline
    columns = ("Setting", "Candidate", "Baseline")
    commits = [run.config.get("airflow") if run else None for run in (new, old)]
    commit = tuple(
        str(found["git_commit"]) if isinstance(found, Mapping) and found.get("git_commit") else _ABSENT
        for found in commits
    )
    head = [("git commit", *commit)] if commit[0] != commit[1] or old is None else []
    if old is None:
        settings = [(key, _text(value), _ABSENT) for key, value in flat(new.config)]
        note = "There is no baseline to compare with."
    else:
        settings = [
            (key, *values) for key, values in _different(dict(flat(new.config)), dict(flat(old.config)))
        ]
        note = "" if settings or head else "The settings do not differ."
    more = _more(len(settings), _MOST_SETTINGS)
    return Table(columns, (*head, *settings[:_MOST_SETTINGS]), " ".join(filter(None, (note, more))))


def _different(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    for key in dict.fromkeys((*new, *old)):
        values = tuple(_text(side[key]) if key in side else _ABSENT for side in (new, old))
        if values[0] != values[1]:
            yield key, (values[0], values[1])


def _lineage(facts: ReportFacts) -> Bullets:
    candidate = facts.verdict.candidate
    items: list[tuple[Cell, ...]] = [
        (f"{dataset.type}: ", Link(f"{dataset.name}:{dataset.version}", dataset.url))
        for dataset in facts.datasets or ()
    ]
    source = candidate.source_run or "a run that W&B does not know"
    items.append(("→ logged by: ", _link(facts.training) if facts.training else source))
    items.append(
        (f"→ {candidate.type}: ", Link(str(candidate), candidate.url), f", digest {candidate.digest}")
    )
    items.append(("→ evaluated by: ", _link(facts.evaluated)))
    if facts.target:
        held = facts.verdict.baseline
        items.append(
            (f"→ registry: {facts.target}, held by ", Link(str(held), held.url) if held else "nothing")
        )
    return Bullets(tuple(items))


def _cost(facts: ReportFacts) -> Iterator[Any]:
    pairs = [
        ("Training", facts.training, facts.baseline_training),
        ("Evaluation", facts.evaluated, facts.baseline),
    ]
    if facts.training is not None and facts.training.path == facts.evaluated.path:
        pairs = pairs[:1]
    rows, said = [], False
    for label, new, old in pairs:
        if new is None:
            continue
        rows.append((f"{label}: seconds", *_compared(new.seconds, old.seconds if old else None)))
        now, before = costs(new), costs(old) if old else {}
        for key in dict.fromkeys((*now, *before)):
            said = True
            rows.append((f"{label}: {key}", *_compared(now.get(key), before.get(key))))
    note = (
        ""
        if said
        else (
            "No run has logged a cost. Figures of a summary such as cost/usd, tokens or gpu_hours are shown here."
        )
    )
    yield Table(("Cost", "Candidate", "Baseline", "Change"), tuple(rows), note)


def _compared(value: float | None, before: float | None) -> tuple[str, str, str]:
    return _figure(value, None), _figure(before, None), _change(value, before, None)


def _change(value: float | None, before: float | None, unit: str | None) -> str:
    if value is None or before is None:
        return _ABSENT
    change = change_text(value - before, unit=unit)
    return f"{change} ({change_text((value - before) / abs(before), relative=True)})" if before else change


def _figure(value: float | None, unit: str | None) -> str:
    return _ABSENT if value is None else number_text(value, unit)


def _link(run: RunFacts) -> Link:
    return Link(run.name, run.url)


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def _more(count: int, most: int) -> str:
    return f"And {count - most} more." if count > most else ""
