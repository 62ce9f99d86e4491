"""How one metric rule is judged on given figures. Pure: no network, no clock, no wandb."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from wandb_airflow_provider.metric_rule import MetricRule, change_text, is_finite, number_text

__all__ = ["REASONS", "Outcome", "Reason", "holds", "judge", "look_up"]

Reason: TypeAlias = Literal[
    "passed",
    "no_baseline_allowed",
    "below_minimum",
    "above_maximum",
    "change_below_minimum",
    "change_above_maximum",
    "metric_missing",
    "metric_not_finite",
    "metric_wrong_type",
    "no_baseline",
    "baseline_metric_missing",
    "baseline_not_finite",
    "baseline_wrong_type",
    "baseline_zero",
]
REASONS: frozenset[str] = frozenset(get_args(Reason))

_Fault: TypeAlias = Literal["missing", "not_finite", "wrong_type"]
_METRIC_REASONS: dict[_Fault, Reason] = {
    "missing": "metric_missing",
    "not_finite": "metric_not_finite",
    "wrong_type": "metric_wrong_type",
}
_BASELINE_REASONS: dict[_Fault, Reason] = {
    "missing": "baseline_metric_missing",
    "not_finite": "baseline_not_finite",
    "wrong_type": "baseline_wrong_type",
}
_ABSENT = object()
# W&B stores a NaN or an infinity in a summary as this text, because JSON has no such numbers.
_NOT_FINITE_TEXT = frozenset({"nan", "infinity", "-infinity", "inf", "-inf"})


class Outcome(NamedTuple):
    """
    How one rule was judged.

    :param value: The figure of the evaluated run; None when it is missing or not a finite number.
    :param baseline_value: The figure compared with, when the rule compares and there is one.
    :param reason: Machine-readable cause; the first one when several bounds do not hold.
    :param sentence: The same for people, with the figures.
    """

    rule: MetricRule
    value: float | None
    baseline_value: float | None
    passed: bool
    reason: Reason
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value, with the threshold as text for readers that do not know rules."""
        return {
            "rule": self.rule.to_dict(),
            "metric": self.rule.metric,
            "threshold": self.rule.threshold,
            "value": self.value,
            "baseline_value": self.baseline_value,
            "passed": self.passed,
            "reason": self.reason,
            "sentence": self.sentence,
        }


def judge(
    rule: MetricRule,
    metrics: Mapping[str, Any],
    *,
    baseline_metrics: Mapping[str, Any] | None,
    baseline_exists: bool,
) -> Outcome:
    """
    Judge one rule on the evaluated run's metrics. Whatever is missing or not a finite number fails.

    :param baseline_metrics: Figures of the baseline; None when they could not be found.
    :param baseline_exists: Whether there is something to compare with. ``when_no_baseline`` counts only
        when there is not: a holder without figures is a fault, not a first promotion.
    """
    name = rule.metric

    def outcome(
        reason: Reason, sentence: str, value: float | None = None, baseline: float | None = None
    ) -> Outcome:
        return Outcome(rule, value, baseline, reason in ("passed", "no_baseline_allowed"), reason, sentence)

    found = look_up(metrics, name)
    value, fault = _measure(found)
    if value is None:
        return outcome(_METRIC_REASONS[fault], f"the evaluated run's {name} {_describe(fault, found)}")

    baseline: float | None = None
    first = False
    if rule.needs_baseline:
        source = rule.against or name
        held = look_up(metrics if rule.against else baseline_metrics or {}, source)
        baseline, fault = _measure(held)
        if baseline is None and fault == "missing" and not baseline_exists:
            if rule.when_no_baseline == "fail":
                sentence = (
                    f"{name} has no baseline to compare with; when_no_baseline='pass' allows a first one"
                )
                return outcome("no_baseline", sentence, value)
            first = True
        elif baseline is None:
            sentence = f"{name} cannot be compared: the baseline's {source} {_describe(fault, held)}"
            return outcome(_BASELINE_REASONS[fault], sentence, value)

    broken = list(_broken_bounds(rule, value, baseline))
    if broken:
        sentence = f"{name} = {number_text(value)}: " + "; ".join(text for _, text in broken)
        return outcome(broken[0][0], sentence, value, baseline)
    if first:
        return outcome(
            "no_baseline_allowed", f"{name} = {number_text(value)}; there is no baseline yet", value
        )
    return outcome("passed", f"{name} = {number_text(value)} satisfies {rule.threshold}", value, baseline)


def holds(outcome: Outcome) -> bool:
    """Return whether a passed outcome agrees with its own figures; a failed one always does."""
    if not outcome.passed:
        return True
    if outcome.value is None or (
        outcome.rule.needs_baseline
        and outcome.baseline_value is None
        and outcome.rule.when_no_baseline != "pass"
    ):
        return False
    return not any(_broken_bounds(outcome.rule, outcome.value, outcome.baseline_value))


def look_up(metrics: Mapping[str, Any], name: str) -> Any:
    """
    Return the figure under this name, or a marker that :func:`judge` takes for missing.

    A key that equals the name wins; otherwise a dot may lead into a nested value, because W&B keeps a metric
    defined with ``summary="max"`` as ``{"max": ...}``.
    """
    if name in metrics:
        return metrics[name]
    for at, character in enumerate(name):
        if character == "." and isinstance(inner := metrics.get(name[:at]), Mapping):
            found = look_up(inner, name[at + 1 :])
            if found is not _ABSENT:
                return found
    return _ABSENT


def _measure(found: Any) -> tuple[float | None, _Fault]:
    """Return a finite number, or None and what is wrong; the fault means nothing beside a number."""
    if found is _ABSENT or found is None:
        return None, "missing"
    if isinstance(found, str) and found.strip().lower() in _NOT_FINITE_TEXT:
        return None, "not_finite"
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None, "wrong_type"
    return (float(found), "missing") if is_finite(found) else (None, "not_finite")


def _broken_bounds(rule: MetricRule, value: float, baseline: float | None) -> Iterator[tuple[Reason, str]]:
    if rule.minimum is not None and value < rule.minimum:
        yield "below_minimum", f"must be at least {number_text(rule.minimum)}"
    if rule.above is not None and value <= rule.above:
        yield "below_minimum", f"must be more than {number_text(rule.above)}"
    if rule.maximum is not None and value > rule.maximum:
        yield "above_maximum", f"must be at most {number_text(rule.maximum)}"
    if rule.below is not None and value >= rule.below:
        yield "above_maximum", f"must be less than {number_text(rule.below)}"
    if baseline is None or not rule.needs_baseline:
        return
    if rule.relative and baseline == 0:
        yield "baseline_zero", "the baseline is 0, so that a relative change is not defined"
        return
    scale = abs(baseline) if rule.relative else 1.0
    change = value - baseline
    # Room for the rounding of decimal figures only: 0.85 - 0.80 is a change of 0.05, not of 0.04999...
    slack = 4 * math.ulp(max(abs(value), abs(baseline)))
    found = f"changed by {change_text(change / scale, rule.relative)} from {number_text(baseline)}"
    # Written so that an overflow to infinity or NaN counts as broken.
    if rule.min_change is not None and not change >= rule.min_change * scale - slack:
        yield (
            "change_below_minimum",
            f"{found}, at least {change_text(rule.min_change, rule.relative)} is needed",
        )
    if rule.max_change is not None and not change <= rule.max_change * scale + slack:
        yield (
            "change_above_maximum",
            f"{found}, at most {change_text(rule.max_change, rule.relative)} is allowed",
        )


def _describe(fault: _Fault, found: Any) -> str:
    if fault == "missing":
        return "is missing"
    return f"is not a finite number: {found!r}" if fault == "not_finite" else f"is not a number: {found!r}"
