"""Write the report of one training: what changed, by how much, and why it was passed or stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrieval import report_html, report_markdown

_PREFERRED_ORDER = ("hit_rate_at_1", "hit_rate_at_5", "hit_rate_at_10", "mrr")


@dataclass(frozen=True, slots=True)
class Report:
    """The same report twice: Markdown for an approval form, a self-contained HTML page for a browser."""

    markdown: str
    html: str


@dataclass(frozen=True, slots=True)
class Table:
    """A heading with rows of cells, all text; ``note`` stands below, or instead when there are no rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """What both renderings show, as plain text that each still has to escape."""

    title: str
    headline: str
    passed: bool | None
    tables: tuple[Table, ...]
    loss: tuple[tuple[float, float], ...]
    links: tuple[tuple[str, str], ...]


def render_report(
    *,
    title: str,
    candidate: Mapping[str, float],
    references: Mapping[str, Mapping[str, float] | None],
    verdict: Mapping[str, Any] | None = None,
    loss: Sequence[tuple[float, float]] = (),
    regressions: Sequence[Mapping[str, Any]] = (),
    dataset: Mapping[str, Any] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    git_commit: str | None = None,
    links: Mapping[str, str] | None = None,
) -> Report:
    """
    Render the report; every value is treated as text and escaped.

    :param candidate: Metric name to value, of the trained model.
    :param references: What it is compared with, by name (``"Untrained"``, ``"Production v3"``), each a mapping like
        ``candidate``; None where there is nothing yet, which the report says. Names stay in this order.
    :param verdict: ``{"passed": bool, "outcomes": [{"metric", "passed", "value", "threshold", "reason"}, ...]}``;
        other and missing keys are tolerated. None: not judged yet.
    :param loss: (step, loss) pairs of the training.
    :param regressions: Rows of ``evaluation.top_regressions``, or any mappings with the same keys in each.
    :param dataset: Statistics of the corpus; nested mappings become dotted names.
    :param links: Text to address; an address that is not http or https is shown as text, not linked.
    """
    tables = [_metrics_table(candidate, references)]
    if verdict is not None:
        tables.append(_rules_table(verdict))
    tables.append(_regressions_table(regressions))
    tables.extend(
        Table(name, ("Name", "Value"), tuple((key, _text(value)) for key, value in _flat(values)))
        for name, values in (("Data", dataset), ("Hyperparameters", hyperparameters))
        if values
    )
    if git_commit:
        tables.append(Table("Code", ("Name", "Value"), (("Git commit", git_commit),)))
    passed = verdict.get("passed") if verdict is not None else None
    document = Document(
        title=title,
        headline=_headline(passed),
        passed=passed if isinstance(passed, bool) else None,
        tables=tuple(tables),
        loss=tuple((float(step), float(value)) for step, value in loss),
        links=tuple((links or {}).items()),
    )
    return Report(report_markdown.render(document), report_html.render(document))


def _headline(passed: object) -> str:
    if passed is True:
        return "The gate passed: the candidate may be promoted."
    if passed is False:
        return "The gate stopped the candidate: it will not be promoted."
    return "The candidate has not been judged yet."


def _metrics_table(
    candidate: Mapping[str, float], references: Mapping[str, Mapping[str, float] | None]
) -> Table:
    names = [name for name in _PREFERRED_ORDER if name in candidate]
    names += [name for name in candidate if name not in names]
    present = {name: values for name, values in references.items() if values is not None}
    absent = [name for name, values in references.items() if values is None]
    columns = ("Metric", "Candidate", *(cell for name in present for cell in (name, f"Change to {name}")))
    rows = []
    for metric in names:
        cells = [metric, _text(candidate[metric])]
        for values in present.values():
            old = values.get(metric)
            cells += ["missing", ""] if old is None else [_text(old), _change(candidate[metric], old)]
        rows.append(tuple(cells))
    note = f"Nothing to compare with yet: {', '.join(absent)}." if absent else ""
    return Table("Metrics on held-out queries", columns, tuple(rows), note)


def _rules_table(verdict: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            {True: "pass", False: "fail"}.get(outcome.get("passed"), "unknown"),
            _text(outcome.get("metric", "")),
            _text(outcome.get("value", "")),
            _text(outcome.get("threshold", "")),
            _text(outcome.get("reason", "")),
        )
        for outcome in verdict.get("outcomes") or ()
    )
    note = "" if rows else "No rule was recorded with this verdict."
    return Table("Gate", ("Result", "Metric", "Value", "Threshold", "Reason"), rows, note)


def _regressions_table(regressions: Sequence[Mapping[str, Any]]) -> Table:
    columns = tuple(regressions[0]) if regressions else ()
    rows = tuple(tuple(_text(row.get(column, "")) for column in columns) for row in regressions)
    return Table("Queries that became worse", columns, rows, "" if rows else "None.")


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs.extend(_flat(value, f"{prefix}{key}."))
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def _change(new: float, old: float) -> str:
    relative = f" ({(new - old) / abs(old):+.1%})" if old else ""
    return f"{new - old:+.4f}{relative}"


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) >= 1 else f"{value:.4g}"
    return str(value)
