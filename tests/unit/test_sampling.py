"""Sampled rows: what they say of all rows, on average and about their own error."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wandb_airflow_provider.sampling import RowSampler, Totals, horvitz_thompson, sample_indices


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=60),
    rate=st.floats(0.05, 1.0),
    seed=st.integers(0, 1_000_000),
)
def test_the_estimated_total_is_right_on_average(values: list[float], rate: float, seed: int) -> None:
    trials = 600
    estimates = []
    for trial in range(trials):
        sampler = RowSampler(rate, f"{seed}/{trial}")
        estimates.append(horvitz_thompson((value, sampler.weight) for value in values if sampler.keeps()))
    true_variance = sum((1 / rate - 1) * value * value for value in values)
    error = math.sqrt(true_variance / trials)
    mean = statistics.fmean(estimate.total for estimate in estimates)
    # Six standard errors: a right estimator misses it once in some hundred millions.
    assert abs(mean - sum(values)) <= 6 * error + 1e-6


def test_the_standard_error_covers_the_true_total_as_often_as_it_says() -> None:
    numbers = random.Random(3)
    values = [numbers.gauss(10, 3) for _ in range(2_000)]
    covered = 0
    for trial in range(300):
        sampler = RowSampler(0.1, f"cover/{trial}")
        found = horvitz_thompson((value, sampler.weight) for value in values if sampler.keeps())
        covered += abs(found.total - sum(values)) <= 1.96 * found.standard_error
    assert 0.90 <= covered / 300 <= 0.99


def test_totals_are_exact_where_a_plain_sum_drifts() -> None:
    totals = Totals()
    for value in [0.1] * 100_000 + [math.nan, math.inf]:
        totals.add(value)
    figures = totals.to_json()
    assert figures["count"] == 100_002
    assert figures["sum"] == pytest.approx(10_000, abs=1e-9)
    assert figures["mean"] == pytest.approx(0.1, abs=1e-12)
    assert (figures["min"], figures["max"]) == (0.1, 0.1)


def test_every_row_is_equally_likely_in_a_sample_of_rows() -> None:
    counts = [0] * 20
    for trial in range(4_000):
        for index in sample_indices(20, 5, f"{trial}"):
            counts[index] += 1
    assert all(abs(count - 1_000) < 6 * math.sqrt(4_000 * 0.25 * 0.75) for count in counts)
    assert sample_indices(3, 5, "x") == [0, 1, 2]
