"""Whether the difference between two models on the same examples is more than noise, by ``scipy.stats``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from wandb_airflow_provider.exceptions import WandbConfigurationError

__all__ = ["PairedTest", "paired_test", "require_scipy"]


class PairedTest(NamedTuple):
    """
    What a test found.

    :param change: Mean of the differences, candidate minus baseline.
    :param limit: Of the bootstrap: the end of the one-sided interval of the change.
    :param p_value: Of the permutation test: the probability of such a change, were there no more than the margin.
    """

    change: float
    limit: float | None = None
    p_value: float | None = None


def require_scipy(owner: str) -> None:
    """
    Refuse a statistical test where it cannot be done.

    :raises WandbConfigurationError: scipy is not installed.
    """
    if importlib.util.find_spec("scipy") is None:
        raise WandbConfigurationError(
            f"{owner}: the rules hold a statistical test, which needs scipy, and it is not installed on this worker. "
            "Install the extra: pip install 'wandb-airflow-provider[statistics]'."
        )


def paired_test(
    candidate: Sequence[float],
    baseline: Sequence[float],
    *,
    test: Literal["bootstrap", "permutation"],
    alternative: Literal["greater", "less"],
    margin: float,
    confidence: float,
    resamples: int,
    seed: int,
) -> PairedTest:
    """
    Compare two models by their values for the same examples, in the same order.

    ``bootstrap`` is the paired bootstrap of the mean difference with the bias-corrected and accelerated (BCa)
    interval [1]_, as used to compare retrieval systems [2]_; ``permutation`` the paired (sign-flip) randomisation
    test, whose null hypothesis is that the labels of each pair could be swapped once the margin is taken off
    [3]_. Both by :mod:`scipy.stats`. The same seed gives the same answer, so that a retry does.

    .. [1] B. Efron, R. J. Tibshirani: An Introduction to the Bootstrap, chapter 14. Chapman & Hall, 1993.
    .. [2] T. Sakai: Evaluating Evaluation Metrics based on the Bootstrap. SIGIR 2006.
    .. [3] M. D. Smucker, J. Allan, B. Carterette: A Comparison of Statistical Significance Tests for Information
       Retrieval Evaluation. CIKM 2007.

    :param alternative: ``greater`` asks whether the change is more than the margin, ``less`` whether it is less.
    """
    import numpy as np
    from scipy import stats

    one, other = np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float)
    differences = one - other
    change = float(differences.mean())
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"n_resamples": resamples, "vectorized": True, "alternative": alternative}
    # In pieces of some tens of megabytes, however many examples there are.
    options["batch"] = max(1, min(resamples, 4_000_000 // len(one)))
    if test == "permutation":
        found = stats.permutation_test(
            (one - margin, other),
            lambda x, y, axis: np.mean(x - y, axis=axis),
            permutation_type="samples",
            random_state=rng,
            **options,
        )
        return PairedTest(change, p_value=float(found.pvalue))
    if np.ptp(differences) == 0:
        # Nothing varies, so that no resample differs and the interval is a point; BCa would divide by zero.
        return PairedTest(change, limit=change)
    found = stats.bootstrap(
        (one, other),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        paired=True,
        confidence_level=confidence,
        method="BCa",
        random_state=rng,
        **options,
    )
    interval = found.confidence_interval
    return PairedTest(change, limit=float(interval.low if alternative == "greater" else interval.high))
