"""Verdicts behind gates: rules judged on what was read of runs. Pure: no network, no clock, no wandb."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.rules.evidence import HOLDER, Evidence, RunEvidence
from wandb_airflow_provider.rules.outcome import ALLOWED, REASONS, Outcome
from wandb_airflow_provider.rules.parsing import parse_rule, parse_rules, shorten
from wandb_airflow_provider.rules.rule import Rule

__all__ = ["CandidateUse", "Verdict", "evaluate"]

CandidateUse: TypeAlias = Literal["used", "logged", "unchecked"]
"""How the evaluated run had to do with the candidate: it used it, logged it, or nobody looked."""

_FORMAT = 2
_KEYS = {
    *(
        "format",
        "passed",
        "summary",
        "digest",
        "candidate",
        "candidate_use",
        "run",
        "baseline",
        "evaluated_at",
    ),
    "outcomes",
}
_OUTCOME_KEYS = {"rule", "value", "baseline_value", "passed", "reason", "samples", "details", "parts"}
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Verdict(NamedTuple):
    """
    The result of a gate: what was judged, on which figures, and for exactly which content.

    :param candidate: The version judged; its ``digest`` is W&B's at the time of the judgement.
    :param run: The run whose metrics were judged.
    :param baseline: The holder of the alias compared with; None when there was none.
    :param evaluated_at: Time of the judgement, with its time zone.
    :param candidate_use: Whether that run ``used`` or ``logged`` content of the candidate's digest, or that was left
        ``unchecked``.
    """

    candidate: ArtifactRef
    run: RunRef
    baseline: ArtifactRef | None
    evaluated_at: datetime
    outcomes: tuple[Outcome, ...]
    candidate_use: CandidateUse = "unchecked"

    @property
    def passed(self) -> bool:
        """Whether no rule stops the candidate, and at least one that could has seen a figure of it."""
        seen = any(outcome.saw and outcome.rule.severity == "block" for outcome in self.outcomes)
        return seen and not self.failed

    @property
    def digest(self) -> str:
        """The digest of the content judged."""
        return self.candidate.digest

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The outcomes that stop the candidate."""
        return tuple(outcome for outcome in self.outcomes if outcome.stops)

    @property
    def warnings(self) -> tuple[Outcome, ...]:
        """The outcomes that do not hold and stop nothing."""
        return tuple(outcome for outcome in self.outcomes if outcome.result == "warning")

    @property
    def summary(self) -> str:
        """One sentence: passed, or every rule that does not hold."""
        warned = "; ".join(outcome.sentence for outcome in self.warnings)
        tail = f" Warnings: {warned}." if warned else ""
        held = len(self.outcomes) - len(self.warnings)
        if self.passed:
            rules = (
                f"all {held} rules" if not warned else f"{held} of {len(self.outcomes)} rules, none stops it"
            )
            return f"{self.candidate} passed {rules}.{tail}"
        if not self.failed:
            return f"{self.candidate} failed: no figure of it was seen by a rule that could stop it.{tail}"
        reasons = "; ".join(outcome.sentence for outcome in self.failed)
        return f"{self.candidate} failed {len(self.failed)} of {len(self.outcomes)} rules: {reasons}.{tail}"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that lands in XCom and in the promotion record."""
        return {
            "format": _FORMAT,
            "passed": self.passed,
            "summary": self.summary,
            "digest": self.digest,
            "candidate": self.candidate.to_json(),
            "candidate_use": self.candidate_use,
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
                f"Expected the verdict that WandbMetricGateOperator pushes, got {shorten(value)}."
            )
        if value.get("format") != _FORMAT or set(value) != _KEYS:
            raise WandbConfigurationError(
                f"Expected a verdict of format {_FORMAT} with the keys {sorted(_KEYS)}, got {shorten(value)}."
            )
        outcomes = value["outcomes"]
        if not isinstance(outcomes, list) or not outcomes:
            raise WandbConfigurationError("The verdict has no outcomes: nothing was judged.")
        if value["candidate_use"] not in get_args(CandidateUse):
            raise WandbConfigurationError(
                f"The verdict's candidate_use is {value['candidate_use']!r}; known are {get_args(CandidateUse)}."
            )
        baseline = value["baseline"]
        verdict = cls(
            candidate=ArtifactRef.from_json(value["candidate"]),
            run=RunRef.from_json(value["run"]),
            baseline=None if baseline is None else ArtifactRef.from_json(baseline),
            evaluated_at=_parse_time(value["evaluated_at"]),
            outcomes=tuple(_parse_outcome(outcome) for outcome in outcomes),
            candidate_use=value["candidate_use"],
        )
        if value["passed"] is not verdict.passed or value["digest"] != verdict.digest:
            raise WandbConfigurationError(
                f"The verdict on {verdict.candidate} contradicts itself: its result or its digest is not that of "
                "its outcomes and its candidate. Run the gate again."
            )
        return verdict

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each rule and for each slice of it, of equal keys: the table that lands in W&B."""
        return [row for outcome in self.outcomes for row in _rows(outcome)]

    def to_markdown(self) -> str:
        """Return a report of the judgement for people, as an approval or a report shows it."""
        from wandb_airflow_provider.rules.markdown import verdict_markdown

        return verdict_markdown(self)


def evaluate(
    rules: Iterable[Rule | Mapping[str, Any]],
    metrics: Mapping[str, Any] | RunEvidence,
    *,
    candidate: ArtifactRef,
    run: RunRef,
    evaluated_at: datetime,
    baseline: ArtifactRef | None = None,
    baseline_metrics: Mapping[str, Any] | RunEvidence | None = None,
    baselines: Mapping[str, tuple[RunEvidence, ...] | None] = _NOTHING,
    candidate_use: CandidateUse = "unchecked",
) -> Verdict:
    """
    Judge a candidate by what was read of the run that evaluated it.

    Fails closed: a figure that is missing, NaN, infinite, a bool or text fails its rule.

    :param metrics: The evaluated run's summary, as W&B has stored it; or also its histories and tables.
    :param candidate: The version judged, with the digest that W&B reports now.
    :param evaluated_at: The time of the judgement; must carry its time zone.
    :param baseline: The current holder of the alias; None when nothing holds it.
    :param baseline_metrics: The same of the run that evaluated the holder; None when there is none.
    :param baselines: What was read of other baselines, by subject; see
        :class:`~wandb_airflow_provider.rules.evidence.Evidence`.
    :raises WandbConfigurationError: no rules, a wrong rule, or a time without zone.
    """
    if evaluated_at.tzinfo is None:
        raise WandbConfigurationError(f"evaluated_at must carry a time zone, got {evaluated_at!r}.")
    held: tuple[RunEvidence, ...] | None = None
    if baseline_metrics is not None:
        held = (_as_evidence(baseline_metrics),)
    elif baseline is not None:
        held = ()
    evidence = Evidence(_as_evidence(metrics), evaluated_at, {HOLDER: held, **baselines})
    outcomes = tuple(rule.judge(evidence) for rule in parse_rules(rules))
    return Verdict(candidate, run, baseline, evaluated_at, outcomes, candidate_use)


def _as_evidence(value: Mapping[str, Any] | RunEvidence) -> RunEvidence:
    return value if isinstance(value, RunEvidence) else RunEvidence(value)


def _rows(outcome: Outcome, prefix: str = "") -> Iterator[dict[str, Any]]:
    yield {
        "metric": prefix + outcome.rule.subject,
        "threshold": outcome.rule.threshold,
        "value": outcome.value,
        "baseline_value": outcome.baseline_value,
        "samples": outcome.samples,
        "passed": outcome.passed,
        "result": outcome.result,
        "reason": outcome.reason,
        "sentence": outcome.sentence,
    }
    slices = outcome.details.get("slices") if getattr(outcome.rule, "by", ()) else None
    for part in slices or ():
        yield {
            "metric": f"{prefix}{outcome.rule.subject} = {part['name']}",
            "threshold": outcome.rule.threshold,
            "value": part["value"],
            "baseline_value": part["baseline_value"],
            "samples": part["samples"],
            "passed": part["reason"] in ALLOWED or part["reason"] == "not_judged",
            "result": "not judged" if part["reason"] == "not_judged" else outcome.result,
            "reason": part["reason"],
            "sentence": "",
        }
    for part in outcome.parts:
        yield from _rows(part, f"{prefix}{outcome.rule.kind}: ")


def _parse_outcome(value: Any) -> Outcome:
    if not isinstance(value, Mapping) or not set(value) >= _OUTCOME_KEYS:
        raise WandbConfigurationError(f"Expected the outcome of a rule, got {shorten(value)}.")
    figures = (value["value"], value["baseline_value"])
    sound = (
        all(figure is None or type(figure) in (int, float) for figure in figures)
        and (value["samples"] is None or type(value["samples"]) is int)
        and isinstance(value["details"], Mapping)
        and isinstance(value["parts"], list)
        and isinstance(value["passed"], bool)
        and value["reason"] in REASONS
    )
    if not sound:
        raise WandbConfigurationError(f"The outcome {shorten(value)} has a value of the wrong type.")
    outcome = Outcome(
        rule=parse_rule(value["rule"]),
        value=figures[0],
        baseline_value=figures[1],
        passed=value["passed"],
        reason=value["reason"],
        sentence=str(value.get("sentence", "")),
        samples=value["samples"],
        details=dict(value["details"]),
        parts=tuple(_parse_outcome(part) for part in value["parts"]),
    )
    try:
        agrees = outcome.passed == (outcome.reason in ALLOWED) and (
            _stops(outcome) or outcome.rule.agrees(outcome)
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise WandbConfigurationError(
            f"The outcome {shorten(value)} has details of the wrong type."
        ) from error
    if not agrees:
        raise WandbConfigurationError(
            f"The outcome on {outcome.rule.subject!r} says {outcome.result}, and its own figures say otherwise."
        )
    return outcome


def _stops(outcome: Outcome) -> bool:
    """Whether the outcome claims nothing that its figures would have to bear out."""
    return not outcome.passed and (outcome.stops or outcome.rule.severity == "warn")


def _parse_time(value: Any) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise WandbConfigurationError(f"The verdict's evaluated_at is not a time: {value!r}.") from error
    if time.tzinfo is None:
        raise WandbConfigurationError(f"The verdict's evaluated_at lacks its time zone: {value!r}.")
    return time
