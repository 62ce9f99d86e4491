"""One metric rule, and its judgement on given figures. Pure: no network, no clock, no wandb."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from wandb_airflow_provider.exceptions import WandbConfigurationError

__all__ = ["MetricRule", "Outcome", "Reason", "judge", "look_up"]

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
_BOUNDS = ("minimum", "above", "maximum", "below", "min_change", "max_change")
# W&B stores a NaN or an infinity in a summary as this text, because JSON has no such numbers.
_NOT_FINITE_TEXT = frozenset({"nan", "infinity", "-infinity", "inf", "-inf"})


@dataclass(frozen=True, kw_only=True, repr=False)
class MetricRule:
    """
    What one metric of the evaluated run must satisfy. Every bound that is given must hold.

    ``MetricRule(metric="eval/mrr", minimum=0.5)`` is a threshold;
    ``MetricRule(metric="eval/mrr", min_change=-0.01)`` allows a loss of at most 0.01 against the baseline;
    ``MetricRule(metric="latency_ms", max_change=0.1, relative=True)`` allows a growth of at most 10 %.

    :param metric: Key of the run's summary; ``name.max`` reaches into a nested value.
    :param minimum: The value must be at least this.
    :param above: The value must be more than this.
    :param maximum: The value must be at most this.
    :param below: The value must be less than this.
    :param min_change: Value minus baseline must be at least this; negative allows a loss.
    :param max_change: Value minus baseline must be at most this.
    :param relative: Changes are fractions of the baseline's magnitude: 0.1 is 10 %.
    :param against: Metric of the *evaluated run itself* that holds the baseline's figure, measured on the
        same data (``production/mrr``). Default: the metric of the same name, measured when the current
        holder of the alias was evaluated.
    :param when_no_baseline: Whether a change bound holds when there is no baseline at all, as before a first
        promotion. A baseline that is there but lacks the figure always fails.
    :raises WandbConfigurationError: no bound, a bound that is not a finite number, bounds that no value can
        satisfy, or an option without effect.
    """

    metric: str
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    min_change: float | None = None
    max_change: float | None = None
    relative: bool = False
    against: str | None = None
    when_no_baseline: Literal["fail", "pass"] = "fail"

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str) or not self.metric.strip():
            raise WandbConfigurationError(f"A metric rule needs the name of a metric, got {self.metric!r}.")
        if self.against is not None and (not isinstance(self.against, str) or not self.against.strip()):
            raise self._wrong(f"'against' must name a metric, got {self.against!r}")
        given = {name: value for name in _BOUNDS if (value := getattr(self, name)) is not None}
        if not given:
            raise self._wrong(f"it has no bound: give at least one of {', '.join(_BOUNDS)}")
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
                raise self._wrong(f"{name} must be a finite number, got {value!r}")
        self._check_satisfiable(given)
        if not isinstance(self.relative, bool):
            raise self._wrong(f"'relative' must be true or false, got {self.relative!r}")
        if self.when_no_baseline not in ("fail", "pass"):
            raise self._wrong(f"'when_no_baseline' must be 'fail' or 'pass', got {self.when_no_baseline!r}")
        idle = [name for name in ("relative", "against") if getattr(self, name)]
        idle += ["when_no_baseline"] if self.when_no_baseline == "pass" else []
        if idle and not self.needs_baseline:
            raise self._wrong(f"{idle[0]!r} has no effect without min_change or max_change")

    def _check_satisfiable(self, given: Mapping[str, float]) -> None:
        for inclusive, exclusive in (("minimum", "above"), ("maximum", "below")):
            if inclusive in given and exclusive in given:
                raise self._wrong(f"give {inclusive} or {exclusive}, not both")
        strict = "above" in given or "below" in given
        low = given.get("minimum", given.get("above", -math.inf))
        high = given.get("maximum", given.get("below", math.inf))
        if low > high or (strict and low == high):
            raise self._wrong(f"no value lies between {_number(low)} and {_number(high)}")
        if given.get("min_change", -math.inf) > given.get("max_change", math.inf):
            raise self._wrong("min_change is larger than max_change")

    def _wrong(self, what: str) -> WandbConfigurationError:
        return WandbConfigurationError(f"The rule on metric {self.metric!r} is wrong: {what}.")

    def __str__(self) -> str:
        return f"{self.metric} {self.threshold}"

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({options})"

    @property
    def needs_baseline(self) -> bool:
        """Whether the rule compares with a baseline."""
        return self.min_change is not None or self.max_change is not None

    @property
    def threshold(self) -> str:
        """The bounds, as a person reads them: ``>= 0.5 and change >= -1 %``."""
        signs = {"minimum": ">=", "above": ">", "maximum": "<=", "below": "<"}
        parts = [f"{signs[name]} {_number(v)}" for name in signs if (v := getattr(self, name)) is not None]
        versus = f" against {self.against}" if self.against else ""
        for sign, bound in ((">=", self.min_change), ("<=", self.max_change)):
            if bound is not None:
                parts.append(f"change {sign} {_change(bound, self.relative)}{versus}")
        return " and ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON value: the options that differ from their default."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) != f.default}

    @classmethod
    def from_dict(cls, value: Any) -> MetricRule:
        """
        Build a rule from its JSON value. A bound may be text holding a number, as a template renders it.

        :raises WandbConfigurationError: not a mapping, an unknown option, or a wrong rule.
        """
        if isinstance(value, MetricRule):
            return value
        if not isinstance(value, Mapping):
            raise WandbConfigurationError(
                f"Expected a metric rule as a mapping of its options, got {value!r}."
            )
        known = [f.name for f in fields(cls)]
        unknown = sorted(str(key) for key in value if key not in known)
        if unknown:
            raise WandbConfigurationError(
                f"The metric rule {dict(value)!r} has unknown options {unknown}; known are {known}."
            )
        if "metric" not in value:
            raise WandbConfigurationError(f"The metric rule {dict(value)!r} lacks 'metric'.")
        return cls(**{key: _parse_bound(item) if key in _BOUNDS else item for key, item in value.items()})


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
        sentence = f"{name} = {_number(value)}: " + "; ".join(text for _, text in broken)
        return outcome(broken[0][0], sentence, value, baseline)
    if first:
        return outcome("no_baseline_allowed", f"{name} = {_number(value)}; there is no baseline yet", value)
    return outcome("passed", f"{name} = {_number(value)} satisfies {rule.threshold}", value, baseline)


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
    return (float(found), "missing") if _is_finite(found) else (None, "not_finite")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond the range of a float
        return False


def _broken_bounds(rule: MetricRule, value: float, baseline: float | None) -> Iterator[tuple[Reason, str]]:
    if rule.minimum is not None and value < rule.minimum:
        yield "below_minimum", f"must be at least {_number(rule.minimum)}"
    if rule.above is not None and value <= rule.above:
        yield "below_minimum", f"must be more than {_number(rule.above)}"
    if rule.maximum is not None and value > rule.maximum:
        yield "above_maximum", f"must be at most {_number(rule.maximum)}"
    if rule.below is not None and value >= rule.below:
        yield "above_maximum", f"must be less than {_number(rule.below)}"
    if baseline is None or not rule.needs_baseline:
        return
    if rule.relative and baseline == 0:
        yield "baseline_zero", "the baseline is 0, so that a relative change is not defined"
        return
    scale = abs(baseline) if rule.relative else 1.0
    change = value - baseline
    # Room for the rounding of decimal figures only: 0.85 - 0.80 is a change of 0.05, not of 0.04999...
    slack = 4 * math.ulp(max(abs(value), abs(baseline)))
    found = f"changed by {_change(change / scale, rule.relative)} from {_number(baseline)}"
    # Written so that an overflow to infinity or NaN counts as broken.
    if rule.min_change is not None and not change >= rule.min_change * scale - slack:
        yield "change_below_minimum", f"{found}, at least {_change(rule.min_change, rule.relative)} is needed"
    if rule.max_change is not None and not change <= rule.max_change * scale + slack:
        yield "change_above_maximum", f"{found}, at most {_change(rule.max_change, rule.relative)} is allowed"


def _parse_bound(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError as error:
        raise WandbConfigurationError(
            f"Expected a number as the bound of a metric rule, got {value!r}."
        ) from error


def _describe(fault: _Fault, found: Any) -> str:
    if fault == "missing":
        return "is missing"
    return f"is not a finite number: {found!r}" if fault == "not_finite" else f"is not a number: {found!r}"


def _number(value: float) -> str:
    return f"{value:.6g}"


def _change(value: float, relative: bool) -> str:
    return f"{value * 100:+.4g} %" if relative else f"{value:+.6g}"
