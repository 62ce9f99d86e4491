"""The statistical tests: how often they pass what they should not, and what happens without scipy."""

from __future__ import annotations

import importlib.util
import math
from typing import Any, Literal

import numpy as np
import pytest

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.rules.paired_tests import paired_test, require_scipy

CONFIDENCE = 0.95
EXAMPLES = 100


def false_passes(
    nulls: int, test: Literal["bootstrap", "permutation"], alternative: Literal["greater", "less"]
) -> float:
    """The share of candidates that pass although their true change is exactly the bound."""
    rng = np.random.default_rng(20260301)
    level = rng.uniform(0.2, 0.8, (nulls, EXAMPLES))
    noise = rng.normal(0, 0.1, (2, nulls, EXAMPLES))
    margin = -0.02
    passed = 0
    for index in range(nulls):
        found = paired_test(
            level[index] + noise[0, index] + margin,
            level[index] + noise[1, index],
            test=test,
            alternative=alternative,
            margin=margin,
            confidence=CONFIDENCE,
            resamples=399,
            seed=index,
        )
        if found.p_value is not None:
            passed += found.p_value <= 1 - CONFIDENCE
        else:
            assert found.limit is not None
            passed += found.limit > margin if alternative == "greater" else found.limit < margin
    return passed / nulls


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nulls", "test", "alternative"),
    [(2000, "bootstrap", "greater"), (500, "bootstrap", "less"), (500, "permutation", "greater")],
)
def test_the_share_of_false_passes_is_that_of_the_stated_confidence(
    nulls: int, test: Any, alternative: Any
) -> None:
    allowed = 1 - CONFIDENCE
    sampling_error = math.sqrt(allowed * (1 - allowed) / nulls)
    assert abs(false_passes(nulls, test, alternative) - allowed) < 2 * sampling_error


def test_the_same_seed_gives_the_same_answer_and_another_seed_another() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.1, 1, 50)
    options: Any = {
        "test": "bootstrap",
        "alternative": "greater",
        "margin": 0.0,
        "confidence": 0.9,
        "resamples": 999,
    }
    first, again, other = (paired_test(values, [0.0] * 50, seed=seed, **options) for seed in (1, 1, 2))
    assert first == again
    assert first.change == other.change == pytest.approx(values.mean())
    assert first.limit != other.limit


def test_without_scipy_a_statistical_test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WandbConfigurationError, match=r"Task 'gate'.*wandb-airflow-provider\[statistics\]"):
        require_scipy("Task 'gate'")
