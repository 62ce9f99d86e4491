"""Rows of a high-volume log, kept at a rate, and what can still be said of all of them. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Estimate", "RowSampler", "Totals", "horvitz_thompson", "sample_indices"]


class Totals:
    """Exact figures of all values of one key, the ones that were not kept included."""

    __slots__ = ("_finite", "_lost", "count", "kept", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self.count = 0
        self.kept = 0
        self.total = 0.0
        self.minimum = math.inf
        self.maximum = -math.inf
        self._finite = 0
        self._lost = 0.0

    def add(self, value: float) -> None:
        """Count a value; one that is not finite counts, and enters no sum."""
        self.count += 1
        if not math.isfinite(value):
            return
        self._finite += 1
        # Kahan's compensation: millions of small values would drift otherwise.
        corrected = value - self._lost
        total = self.total + corrected
        self._lost = (total - self.total) - corrected
        self.total = total
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)

    def to_json(self) -> dict[str, float | int]:
        """Return count, how many were kept, and where a value was finite its sum, mean, least and greatest."""
        figures: dict[str, float | int] = {"count": self.count, "kept": self.kept}
        if self._finite:
            figures |= {
                "sum": self.total,
                "mean": self.total / self._finite,
                "min": self.minimum,
                "max": self.maximum,
            }
        return figures


class RowSampler:
    """
    Decide row by row what is kept: each independently with probability ``rate`` (Bernoulli sampling).

    A kept row stands for ``1 / rate`` rows, its ``weight``. The same seed makes the same decisions.

    :param rate: In (0, 1].
    """

    def __init__(self, rate: float, seed: str) -> None:
        self.rate = rate
        self.weight = 1.0 / rate
        self._random = random.Random(seed)  # noqa: S311 # a sample, not a secret

    def keeps(self) -> bool:
        """Say whether the next row is kept."""
        return self._random.random() < self.rate


class Estimate(NamedTuple):
    """An estimated total with its standard error."""

    total: float
    standard_error: float


def horvitz_thompson(rows: Iterable[tuple[float, float]]) -> Estimate:
    """
    Estimate the total of all rows from the kept ones, as pairs of value and weight.

    The Horvitz-Thompson estimator: each kept value counts with the inverse of the probability with which it was
    kept, here its weight, which makes the estimate unbiased whatever the values are (D. G. Horvitz and D. J. Thompson,
    "A Generalization of Sampling Without Replacement From a Finite Universe", Journal of the American Statistical
    Association 47 (260), 1952, pages 663-685). Its variance for independent decisions is estimated without bias by the
    sum of ``(1 - p) * (value / p) ** 2`` with ``p = 1 / weight``. With the value 1 for each row it estimates how many
    there were.
    """
    total = variance = 0.0
    for value, weight in rows:
        total += value * weight
        variance += (1.0 - 1.0 / weight) * (value * weight) ** 2
    return Estimate(total, math.sqrt(variance))


def sample_indices(length: int, limit: int, seed: str) -> list[int]:
    """Return ``limit`` of ``range(length)`` in order, each equally likely; the same seed returns the same."""
    if length <= limit:
        return list(range(length))
    return sorted(random.Random(seed).sample(range(length), limit))  # noqa: S311 # a sample, not a secret
