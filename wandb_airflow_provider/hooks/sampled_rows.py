"""The rows of one run's history, sampled where the policy says so, with exact totals of all of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from wandb_airflow_provider.identity import slug
from wandb_airflow_provider.sampling import RowSampler, Totals

if TYPE_CHECKING:
    from wandb_airflow_provider.hooks.sent_values import SentValues

__all__ = ["SampledRows"]

WEIGHT_KEY = "sample_weight"
"""First part of the metric that says for how many rows a kept one stands."""
TOTALS_KEY = "sampling"
"""First part of the summary keys that hold the totals of a sampled metric."""


class SampledRows:
    """
    Decide what is sent of each row that is logged.

    The metrics that fall under one pattern of the policy are kept or left out together. A kept row carries
    ``sample_weight/<pattern>``, for :func:`~wandb_airflow_provider.sampling.horvitz_thompson`; count, sum, mean, least
    and greatest value of all rows are kept exactly.

    :param seed: The same seed leaves out the same rows.
    """

    def __init__(self, values: SentValues, seed: str) -> None:
        self.values = values
        policy = values.gate.policy
        self._rates = values.gate.sampled_keys
        self._samplers = {
            pattern: RowSampler(rate, f"{seed}\0{pattern}")
            for pattern, rate in (policy.sample if policy else ())
        }
        self._totals: dict[str, Totals] = {}
        self._lock = threading.Lock()
        self._row_is_open = False

    def row(self, data: Any, step: int | None, commit: bool | None) -> dict[str, Any] | None:
        """
        Return what is to be logged of a row, or None for nothing, in which case no step is taken.

        :param commit: As in ``wandb.Run.log``.
        """
        if not isinstance(data, Mapping):
            # wandb's own error says what it expects.
            return data  # type: ignore[no-any-return]
        with self._lock:
            kept = self._sampled(data) if self._samplers else data
            row = self.values.mapping("metrics", kept)
            commits = step is None if commit is None else commit
            if not row and data and not (commits and self._row_is_open):
                return None
            self._row_is_open = not commits
            return row

    def take_totals(self) -> dict[str, Any]:
        """Return the totals as summary keys, once."""
        with self._lock:
            totals, self._totals = self._totals, {}
        found: dict[str, Any] = {}
        for key, total in totals.items():
            found |= {f"{TOTALS_KEY}/{key}/{name}": figure for name, figure in total.to_json().items()}
        return found

    def _sampled(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        decided: dict[str, bool] = {}
        kept: dict[Any, Any] = {}
        for key, value in data.items():
            pattern = self._rates(str(key))
            if pattern is None:
                kept[key] = value
                continue
            if pattern not in decided:
                decided[pattern] = self._samplers[pattern].keeps()
            if self.values.gate.keeps(f"metrics.{key}"):
                self._count(str(key), value, decided[pattern])
            if decided[pattern]:
                kept[key] = value
                kept[f"{WEIGHT_KEY}/{slug(pattern) or 'all'}"] = self._samplers[pattern].weight
        if decided and not any(decided.values()) and all(str(key).endswith("step") for key in kept):
            # Only the axis is left, and an empty row on it would cost what the sample saves.
            return {}
        return kept

    def _count(self, key: str, value: Any, kept: bool) -> None:
        total = self._totals.setdefault(self.values.key(key), Totals())
        number = isinstance(value, Real) and not self.values.gate.hashes(f"metrics.{key}")
        total.add(float(value) if number else math.nan)
        total.kept += kept
