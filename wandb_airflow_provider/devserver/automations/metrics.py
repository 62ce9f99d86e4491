"""
Conditions on the values of a metric, over windows of the latest ones. Pure.

A window counts only once it is full. The change compares two windows that follow each other; the z-score compares a
value with the mean and standard deviation of the values before it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

_AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "MAX": max,
    "MIN": min,
    "AVERAGE": statistics.fmean,
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "$gt": lambda value, threshold: value > threshold,
    "$gte": lambda value, threshold: value >= threshold,
    "$lt": lambda value, threshold: value < threshold,
    "$lte": lambda value, threshold: value <= threshold,
    "$eq": lambda value, threshold: value == threshold,
    "$ne": lambda value, threshold: value != threshold,
}
_DIRECTIONS: dict[str, Callable[[float, float], bool]] = {
    "INCREASE": lambda change, amount: change >= amount,
    "DECREASE": lambda change, amount: -change >= amount,
    "ANY": lambda change, amount: abs(change) >= amount,
}


@dataclass(frozen=True)
class MetricCondition:
    """
    A condition on one metric of a run.

    :param needed: How many of the latest values it looks at.
    :param holds: Tells whether it holds for exactly so many values, oldest first.
    """

    name: str
    needed: int
    holds: Callable[[Sequence[float]], bool]


def parse(spec: Mapping[str, Any]) -> MetricCondition:
    """
    Return the condition that the ``run_metric_filter`` of an event describes.

    :raises GraphQLError: 400 if it is not one of a threshold, a change or a z-score, each complete.
    """
    readers = {"threshold_filter": _threshold, "change_filter": _change, "zscore_filter": _zscore}
    for key, read in readers.items():
        part = spec.get(key)
        if isinstance(part, Mapping):
            try:
                return read(part)
            except (KeyError, TypeError, ValueError) as error:
                raise GraphQLError(
                    f"invalid {key} of a run metric event: {error!r} in {dict(part)!r}."
                ) from error
    raise GraphQLError(f"a run metric event needs one of {', '.join(readers)}; it has {sorted(spec)}.")


def fires(condition: MetricCondition, recent: list[float], value: float) -> bool:
    """Add a value to the latest ones, in place, and tell whether the condition holds then."""
    recent.append(value)
    del recent[: -condition.needed]
    return len(recent) == condition.needed and condition.holds(recent)


def _threshold(part: Mapping[str, Any]) -> MetricCondition:
    window, aggregate = _window(part, "agg_op", "window_size")
    compare, threshold = _COMPARISONS[part["cmp_op"]], float(part["threshold"])
    return MetricCondition(part["name"], window, lambda values: compare(aggregate(values), threshold))


def _change(part: Mapping[str, Any]) -> MetricCondition:
    current, aggregate = _window(part, "agg_op", "current_window_size")
    prior, _ = _window(part, "agg_op", "prior_window_size")
    relative = {"RELATIVE": True, "ABSOLUTE": False}[part["change_type"]]
    reached, amount = _DIRECTIONS[part["change_dir"]], float(part["change_amount"])

    def holds(values: Sequence[float]) -> bool:
        before, now = aggregate(values[:prior]), aggregate(values[prior:])
        if not relative:
            return reached(now - before, amount)
        return before != 0 and reached((now - before) / abs(before), amount)

    return MetricCondition(part["name"], prior + current, holds)


def _zscore(part: Mapping[str, Any]) -> MetricCondition:
    window, threshold = int(part["window_size"]), float(part["threshold"])
    reached = _DIRECTIONS[part["change_dir"]]

    def holds(values: Sequence[float]) -> bool:
        spread = statistics.pstdev(values[:-1])
        return spread > 0 and reached((values[-1] - statistics.fmean(values[:-1])) / spread, threshold)

    return MetricCondition(part["name"], max(window, 2) + 1, holds)


def _window(
    part: Mapping[str, Any], operator: str, size: str
) -> tuple[int, Callable[[Sequence[float]], float]]:
    # Without an aggregate the size says nothing: the latest value counts.
    if part.get(operator) is None:
        return 1, lambda values: values[-1]
    window = int(part.get(size) or 1)
    if window < 1:
        raise ValueError(f"{size} must be at least 1")
    return window, _AGGREGATES[part[operator]]
