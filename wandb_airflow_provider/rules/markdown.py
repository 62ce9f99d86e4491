"""A verdict as people read it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.rules.bounds import number_text

if TYPE_CHECKING:
    from wandb_airflow_provider.rules.outcome import Outcome
    from wandb_airflow_provider.rules.verdict import Verdict

__all__ = ["verdict_markdown"]

_MAX_SLICES = 50
_USES = {
    "used": "it used the candidate",
    "logged": "it logged the candidate",
    "unchecked": "whether it used the candidate was not checked",
}


def verdict_markdown(verdict: Verdict) -> str:
    """Return a report of the judgement: result, what was judged, a row for each rule, and the slices."""
    run = f"[{verdict.run}]({verdict.run.url})" if verdict.run.url else f"`{verdict.run}`"
    lines = [
        f"**{'Passed' if verdict.passed else 'Failed'}**: {_escape(verdict.summary)}",
        "",
        f"- Candidate: `{verdict.candidate}` (digest `{verdict.digest}`)",
        f"- Evaluated run: {run}; {_USES[verdict.candidate_use]}",
        f"- Baseline: `{verdict.baseline}`" if verdict.baseline else "- Baseline: none yet",
        f"- Evaluated at: {verdict.evaluated_at.isoformat(timespec='seconds')}",
        "",
        "| Metric | Value | Baseline | Rule | Result |",
        "|---|---:|---:|---|---|",
    ]
    for outcome in verdict.outcomes:
        lines.extend(_outcome_rows(outcome, ""))
    for outcome in verdict.outcomes:
        if getattr(outcome.rule, "by", ()) and (slices := outcome.details.get("slices")):
            lines.extend(_slices(outcome, slices))
    return "\n".join(lines)


def _outcome_rows(outcome: Outcome, indent: str) -> Iterator[str]:
    said = {"passed": "passed", "warning": "**warning**", "failed": "**failed**"}[outcome.result]
    unit = getattr(outcome.rule, "unit", None)
    cells = (
        indent + outcome.rule.subject,
        _figure(outcome.value, unit),
        _figure(outcome.baseline_value, unit),
        outcome.rule.threshold,
        said if outcome.reason == "passed" else f"{said}: {outcome.sentence}",
    )
    yield _row(cells)
    for part in outcome.parts:
        yield from _outcome_rows(part, f"{indent}↳ ")


def _slices(outcome: Outcome, slices: list[Mapping[str, Any]]) -> Iterator[str]:
    unit = getattr(outcome.rule, "unit", None)
    yield from ("", f"{_escape(outcome.rule.subject)}:", "")
    yield from ("| Slice | Value | Baseline | Rows | Result |", "|---|---:|---:|---:|---|")
    # What broke the rule comes first, should the list be cut.
    ranks = {"passed": 1, "no_baseline_allowed": 1, "not_judged": 2}
    ordered = sorted(slices, key=lambda part: ranks.get(part["reason"], 0))
    for part in ordered[:_MAX_SLICES]:
        said = part["reason"].replace("_", " ")
        cells = (
            str(part["name"]),
            _figure(part["value"], unit),
            _figure(part["baseline_value"], unit),
            _figure(part["samples"], None),
            said if part["reason"] in ranks else f"**{said}**",
        )
        yield _row(cells)
    if len(ordered) > _MAX_SLICES:
        yield from ("", f"and {len(ordered) - _MAX_SLICES} more slices.")


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _figure(value: float | None, unit: str | None) -> str:
    return "—" if value is None else number_text(value, unit)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
