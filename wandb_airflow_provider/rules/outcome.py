"""How one rule was judged. Pure: no network, no clock, no wandb."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from wandb_airflow_provider.record import Record

if TYPE_CHECKING:
    from wandb_airflow_provider.rules.evidence import Fault
    from wandb_airflow_provider.rules.rule import Rule

__all__ = ["ALLOWED", "BASELINE_REASONS", "MISSING", "REASONS", "VALUE_REASONS", "Outcome", "Reason"]

Reason: TypeAlias = Literal[
    "passed",
    "no_baseline_allowed",
    "missing_allowed",
    "below_minimum",
    "above_maximum",
    "change_below_minimum",
    "change_above_maximum",
    "change_not_shown",
    "metric_missing",
    "metric_not_finite",
    "metric_wrong_type",
    "too_few",
    "no_baseline",
    "baseline_metric_missing",
    "baseline_not_finite",
    "baseline_wrong_type",
    "baseline_too_few",
    "baseline_zero",
    "slice_missing",
    "too_many_slices",
    "pairs_incomplete",
    "pairs_ambiguous",
    "stale",
    "in_the_future",
    "none_holds",
    "not_all_hold",
]
REASONS: frozenset[str] = frozenset(get_args(Reason))
ALLOWED: frozenset[str] = frozenset({"passed", "no_baseline_allowed", "missing_allowed"})
"""The reasons with which a rule holds."""
MISSING: frozenset[str] = frozenset({"metric_missing", "too_few"})
"""The reasons that ``on_missing`` is about. What is there and no number fails whatever it says."""
VALUE_REASONS: Mapping[Fault, Reason] = {
    "missing": "metric_missing",
    "not_finite": "metric_not_finite",
    "wrong_type": "metric_wrong_type",
    "too_few": "too_few",
}
BASELINE_REASONS: Mapping[Fault, Reason] = {
    "missing": "baseline_metric_missing",
    "not_finite": "baseline_not_finite",
    "wrong_type": "baseline_wrong_type",
    "too_few": "baseline_too_few",
}
_NONE: Mapping[str, Any] = MappingProxyType({})


class Outcome(Record):
    """
    How one rule was judged.

    :param value: The figure of the evaluated run; None when it is missing or not a finite number. Of slices, the
        worst.
    :param baseline_value: The figure compared with, when the rule compares and there is one.
    :param passed: Whether the rule holds.
    :param reason: Machine-readable cause; the first one when several bounds do not hold.
    :param sentence: The same for people, with the figures.
    :param samples: On how many values the figure rests, where that is known.
    :param details: Further figures of the rule's kind: slices, interval, probability.
    :param parts: The outcomes of the rules that a combination holds.
    """

    rule: Rule
    value: float | None
    baseline_value: float | None
    passed: bool
    reason: Reason
    sentence: str
    samples: int | None = None
    details: Mapping[str, Any] = _NONE
    parts: tuple[Outcome, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether the verdict cannot pass because of this."""
        return not self.passed and self.rule.severity == "block" and not self.rule.tolerates(self.reason)

    @property
    def saw(self) -> bool:
        """Whether it rests on a figure of the evaluated run; a combination by a rule in it that holds and saw one."""
        return self.value is not None or any(part.passed and part.saw for part in self.parts)

    @property
    def result(self) -> Literal["passed", "warning", "failed"]:
        """What the outcome means for the verdict."""
        if self.passed:
            return "passed"
        return "failed" if self.stops else "warning"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value, with subject and threshold as text for readers that do not know rules."""
        return {
            "rule": self.rule.to_dict(),
            "metric": self.rule.subject,
            "threshold": self.rule.threshold,
            "value": self.value,
            "baseline_value": self.baseline_value,
            "passed": self.passed,
            "result": self.result,
            "reason": self.reason,
            "sentence": self.sentence,
            "samples": self.samples,
            "details": dict(self.details),
            "parts": [part.to_json() for part in self.parts],
        }
