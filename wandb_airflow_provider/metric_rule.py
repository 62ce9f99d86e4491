"""One metric rule: what is demanded of one metric. Pure: no network, no clock, no wandb."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from wandb_airflow_provider.exceptions import WandbConfigurationError

__all__ = ["MetricRule", "change_text", "is_finite", "number_text"]

_BOUNDS = ("minimum", "above", "maximum", "below", "min_change", "max_change")


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
            if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
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
            raise self._wrong(f"no value lies between {number_text(low)} and {number_text(high)}")
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
        parts = [
            f"{signs[name]} {number_text(v)}" for name in signs if (v := getattr(self, name)) is not None
        ]
        versus = f" against {self.against}" if self.against else ""
        for sign, bound in ((">=", self.min_change), ("<=", self.max_change)):
            if bound is not None:
                parts.append(f"change {sign} {change_text(bound, self.relative)}{versus}")
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


def _parse_bound(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError as error:
        raise WandbConfigurationError(
            f"Expected a number as the bound of a metric rule, got {value!r}."
        ) from error


def number_text(value: float) -> str:
    """Return a figure as people read it."""
    return f"{value:.6g}"


def change_text(value: float, relative: bool) -> str:
    """Return a change as people read it, signed, a relative one in percent."""
    return f"{value * 100:+.4g} %" if relative else f"{value:+.6g}"


def is_finite(value: float) -> bool:
    """Return whether a number is one to compare with."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond the range of a float
        return False
