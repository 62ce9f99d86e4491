"""The bounds that a figure and its change must keep. Pure: no network, no clock, no wandb."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.record import Record

if TYPE_CHECKING:
    from wandb_airflow_provider.rules.outcome import Reason

__all__ = ["BOUNDS", "CHANGE_BOUNDS", "Bounds", "change_text", "is_finite", "number_text"]

BOUNDS = ("minimum", "above", "maximum", "below")
CHANGE_BOUNDS = ("min_change", "max_change")
_SIGNS = {"minimum": ">=", "above": ">", "maximum": "<=", "below": "<"}


class Bounds(Record):
    """
    What a figure, and its change against a baseline, must keep; all that are given.

    :param relative: Changes are fractions of the baseline's magnitude.
    :param unit: What the figure is measured in, for people.
    """

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    min_change: float | None = None
    max_change: float | None = None
    relative: bool = False
    unit: str | None = None

    @property
    def compare(self) -> bool:
        """Whether a change is bounded, so that a baseline is needed."""
        return self.min_change is not None or self.max_change is not None

    @property
    def from_below(self) -> bool:
        """Whether it is the small figures that can break a bound."""
        return any(bound is not None for bound in (self.minimum, self.above, self.min_change))

    def fault(self) -> str | None:
        """Return what is wrong with the bounds themselves, or None."""
        given: dict[str, Any] = {
            name: v for name in (*BOUNDS, *CHANGE_BOUNDS) if (v := getattr(self, name)) is not None
        }
        if not given:
            return f"it has no bound: give at least one of {', '.join((*BOUNDS, *CHANGE_BOUNDS))}"
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
                return f"{name} must be a finite number, got {value!r}"
        for inclusive, exclusive in (("minimum", "above"), ("maximum", "below")):
            if inclusive in given and exclusive in given:
                return f"give {inclusive} or {exclusive}, not both"
        strict = "above" in given or "below" in given
        low = given.get("minimum", given.get("above", -math.inf))
        high = given.get("maximum", given.get("below", math.inf))
        if low > high or (strict and low == high):
            return f"no value lies between {number_text(low)} and {number_text(high)}"
        if given.get("min_change", -math.inf) > given.get("max_change", math.inf):
            return "min_change is larger than max_change"
        relative: Any = self.relative
        if not isinstance(relative, bool):
            return f"'relative' must be true or false, got {self.relative!r}"
        if self.relative and not self.compare:
            return "'relative' has no effect without min_change or max_change"
        return None

    def text(self, versus: str = "") -> str:
        """Return the bounds as a person reads them: ``>= 0.5 and change >= -1 %``."""
        parts = [
            f"{sign} {number_text(bound, self.unit)}"
            for name, sign in _SIGNS.items()
            if (bound := getattr(self, name)) is not None
        ]
        for sign, bound in ((">=", self.min_change), ("<=", self.max_change)):
            if bound is not None:
                parts.append(f"change {sign} {self._change(bound)}{versus}")
        return " and ".join(parts)

    def broken(self, value: float, baseline: float | None) -> Iterator[tuple[Reason, str]]:
        """Yield each bound that does not hold, and why. Without a baseline, changes are not looked at."""
        unit = self.unit
        if self.minimum is not None and value < self.minimum:
            yield "below_minimum", f"must be at least {number_text(self.minimum, unit)}"
        if self.above is not None and value <= self.above:
            yield "below_minimum", f"must be more than {number_text(self.above, unit)}"
        if self.maximum is not None and value > self.maximum:
            yield "above_maximum", f"must be at most {number_text(self.maximum, unit)}"
        if self.below is not None and value >= self.below:
            yield "above_maximum", f"must be less than {number_text(self.below, unit)}"
        if baseline is not None and self.compare:
            yield from self._broken_changes(value, baseline)

    def _broken_changes(self, value: float, baseline: float) -> Iterator[tuple[Reason, str]]:
        if self.relative and baseline == 0:
            yield "baseline_zero", "the baseline is 0, so that a relative change is not defined"
            return
        scale = abs(baseline) if self.relative else 1.0
        change = value - baseline
        # Room for the rounding of decimal figures only: 0.85 - 0.80 is a change of 0.05, not of 0.04999...
        slack = 4 * math.ulp(max(abs(value), abs(baseline)))
        found = f"changed by {self._change(change / scale)} from {number_text(baseline, self.unit)}"
        # Written so that an overflow to infinity or NaN counts as broken.
        if self.min_change is not None and not change >= self.min_change * scale - slack:
            yield "change_below_minimum", f"{found}, at least {self._change(self.min_change)} is needed"
        if self.max_change is not None and not change <= self.max_change * scale + slack:
            yield "change_above_maximum", f"{found}, at most {self._change(self.max_change)} is allowed"

    def _change(self, value: float) -> str:
        return change_text(value, self.relative, self.unit)


def number_text(value: float, unit: str | None = None) -> str:
    """Return a figure as people read it."""
    return f"{value:.6g} {unit}" if unit else f"{value:.6g}"


def change_text(value: float, relative: bool = False, unit: str | None = None) -> str:
    """Return a change as people read it, signed, a relative one in percent."""
    if relative:
        return f"{value * 100:+.4g} %"
    return f"{value:+.6g} {unit}" if unit else f"{value:+.6g}"


def is_finite(value: Any) -> bool:
    """Return whether a number is one to compare with."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond the range of a float
        return False
