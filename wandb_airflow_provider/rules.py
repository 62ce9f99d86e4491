"""Verdicts behind gates: metric rules over one run's figures. Pure: no network, no clock, no wandb."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.metric_rule import MetricRule
from wandb_airflow_provider.outcome import REASONS, Outcome, holds, judge

__all__ = ["MetricRule", "Outcome", "Verdict", "evaluate", "parse_rules"]

_FORMAT = 1
_KEYS = {"format", "passed", "summary", "digest", "candidate", "run", "baseline", "evaluated_at", "outcomes"}


class Verdict(NamedTuple):
    """
    The result of a gate: what was judged, on which figures, and for exactly which content.

    :param candidate: The version judged; its ``digest`` is W&B's at the time of the judgement.
    :param run: The run whose metrics were judged.
    :param baseline: The holder of the alias compared with; None when there was none.
    :param evaluated_at: Time of the judgement, with its time zone.
    """

    candidate: ArtifactRef
    run: RunRef
    baseline: ArtifactRef | None
    evaluated_at: datetime
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return bool(self.outcomes) and all(outcome.passed for outcome in self.outcomes)

    @property
    def digest(self) -> str:
        """The digest of the content judged."""
        return self.candidate.digest

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The rules that do not hold."""
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)

    @property
    def summary(self) -> str:
        """One sentence: passed, or every rule that does not hold."""
        if self.passed:
            return f"{self.candidate} passed all {len(self.outcomes)} rules."
        reasons = "; ".join(outcome.sentence for outcome in self.failed)
        return f"{self.candidate} failed {len(self.failed)} of {len(self.outcomes)} rules: {reasons}."

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that lands in XCom and in the promotion record."""
        return {
            "format": _FORMAT,
            "passed": self.passed,
            "summary": self.summary,
            "digest": self.digest,
            "candidate": self.candidate.to_json(),
            "run": self.run.to_json(),
            "baseline": self.baseline.to_json() if self.baseline else None,
            "evaluated_at": self.evaluated_at.isoformat(),
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
        }

    @classmethod
    def from_json(cls, value: Any) -> Verdict:
        """
        Rebuild a verdict, and check that it agrees with itself.

        :raises WandbConfigurationError: not a verdict, of another format, or one whose result does not
            follow from its own figures.
        """
        if not isinstance(value, Mapping):
            raise WandbConfigurationError(
                f"Expected the verdict that WandbMetricGateOperator pushes, got {_shorten(value)}."
            )
        if value.get("format") != _FORMAT or set(value) != _KEYS:
            raise WandbConfigurationError(
                f"Expected a verdict of format {_FORMAT} with the keys {sorted(_KEYS)}, got {_shorten(value)}."
            )
        outcomes = value["outcomes"]
        if not isinstance(outcomes, list) or not outcomes:
            raise WandbConfigurationError("The verdict has no outcomes: nothing was judged.")
        baseline = value["baseline"]
        verdict = cls(
            candidate=ArtifactRef.from_json(value["candidate"]),
            run=RunRef.from_json(value["run"]),
            baseline=None if baseline is None else ArtifactRef.from_json(baseline),
            evaluated_at=_parse_time(value["evaluated_at"]),
            outcomes=tuple(_parse_outcome(outcome) for outcome in outcomes),
        )
        if value["passed"] is not verdict.passed or value["digest"] != verdict.digest:
            raise WandbConfigurationError(
                f"The verdict on {verdict.candidate} contradicts itself: its result or its digest is not that of "
                "its outcomes and its candidate. Run the gate again."
            )
        return verdict

    def to_markdown(self) -> str:
        """Return a report of the judgement for people, as an approval or a report shows it."""
        run = f"[{self.run}]({self.run.url})" if self.run.url else f"`{self.run}`"
        lines = [
            f"**{'Passed' if self.passed else 'Failed'}**: {_escape(self.summary)}",
            "",
            f"- Candidate: `{self.candidate}` (digest `{self.digest}`)",
            f"- Evaluated run: {run}",
            f"- Baseline: `{self.baseline}`" if self.baseline else "- Baseline: none yet",
            f"- Evaluated at: {self.evaluated_at.isoformat(timespec='seconds')}",
            "",
            "| Metric | Value | Baseline | Rule | Result |",
            "|---|---:|---:|---|---|",
        ]
        for outcome in self.outcomes:
            cells = (
                outcome.rule.metric,
                _figure(outcome.value),
                _figure(outcome.baseline_value),
                outcome.rule.threshold,
                "passed" if outcome.passed else f"**failed**: {outcome.sentence}",
            )
            lines.append("| " + " | ".join(_escape(cell) for cell in cells) + " |")
        return "\n".join(lines)


def parse_rules(rules: Any) -> tuple[MetricRule, ...]:
    """
    Return the rules, given as :class:`MetricRule` or as their JSON values.

    :raises WandbConfigurationError: none, not a list, or a wrong rule. A gate without rules would pass
        everything.
    """
    if isinstance(rules, MetricRule):
        return (rules,)
    if isinstance(rules, str | Mapping) or not isinstance(rules, Iterable):
        raise WandbConfigurationError(f"Expected a list of metric rules, got {_shorten(rules)}.")
    parsed = tuple(MetricRule.from_dict(rule) for rule in rules)
    if not parsed:
        raise WandbConfigurationError(
            "A gate needs at least one metric rule: without one, everything would pass."
        )
    return parsed


def evaluate(
    rules: Iterable[MetricRule | Mapping[str, Any]],
    metrics: Mapping[str, Any],
    *,
    candidate: ArtifactRef,
    run: RunRef,
    evaluated_at: datetime,
    baseline: ArtifactRef | None = None,
    baseline_metrics: Mapping[str, Any] | None = None,
) -> Verdict:
    """
    Judge a candidate by the metrics of the run that evaluated it.

    Fails closed: a figure that is missing, NaN, infinite, a bool or text fails its rule.

    :param metrics: The evaluated run's summary, as W&B has stored it.
    :param candidate: The version judged, with the digest that W&B reports now.
    :param evaluated_at: The time of the judgement; must carry its time zone.
    :param baseline: The current holder of the alias; None when nothing holds it.
    :param baseline_metrics: Figures of the run that evaluated the holder; None when there are none.
    :raises WandbConfigurationError: no rules, a wrong rule, or a time without zone.
    """
    if evaluated_at.tzinfo is None:
        raise WandbConfigurationError(f"evaluated_at must carry a time zone, got {evaluated_at!r}.")
    exists = baseline is not None or baseline_metrics is not None
    outcomes = tuple(
        judge(rule, metrics, baseline_metrics=baseline_metrics, baseline_exists=exists)
        for rule in parse_rules(rules)
    )
    return Verdict(candidate, run, baseline, evaluated_at, outcomes)


def _parse_outcome(value: Any) -> Outcome:
    if not isinstance(value, Mapping) or not {"rule", "value", "baseline_value", "passed", "reason"} <= set(
        value
    ):
        raise WandbConfigurationError(f"Expected the outcome of a metric rule, got {_shorten(value)}.")
    figures = (value["value"], value["baseline_value"])
    sound = all(figure is None or type(figure) in (int, float) for figure in figures)
    if not sound or not isinstance(value["passed"], bool) or value["reason"] not in REASONS:
        raise WandbConfigurationError(f"The outcome {_shorten(value)} has a value of the wrong type.")
    outcome = Outcome(
        rule=MetricRule.from_dict(value["rule"]),
        value=figures[0],
        baseline_value=figures[1],
        passed=value["passed"],
        reason=value["reason"],
        sentence=str(value.get("sentence", "")),
    )
    if not holds(outcome):
        raise WandbConfigurationError(
            f"The outcome on metric {outcome.rule.metric!r} says passed, and its own figures say otherwise."
        )
    return outcome


def _parse_time(value: Any) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise WandbConfigurationError(f"The verdict's evaluated_at is not a time: {value!r}.") from error
    if time.tzinfo is None:
        raise WandbConfigurationError(f"The verdict's evaluated_at lacks its time zone: {value!r}.")
    return time


def _figure(value: float | None) -> str:
    return "—" if value is None else f"{value:.6g}"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
