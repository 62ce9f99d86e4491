"""Hit rate and mean reciprocal rank against tables worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


class _Fixed:
    """An encoder of one-hot passages, so that a query's row is its list of scores."""

    def __init__(self, scores: list[list[float]]) -> None:
        self._scores = np.array(scores, dtype=np.float32)

    def encode_queries(self, texts: list[str]) -> Any:
        return self._scores[: len(texts)]

    def encode_passages(self, texts: list[str]) -> Any:
        return np.eye(len(texts), dtype=np.float32)


def _evaluate(scores: list[list[float]], answers: list[tuple[int, ...]], ks: tuple[int, ...] = (1, 2)) -> Any:
    from retrieval.corpus import Example, Passage
    from retrieval.evaluation import evaluate

    passages = [Passage(f"p{i}", f"text {i}", "m", "q", 0, 2, "golden") for i in range(len(scores[0]))]
    examples = [
        Example(f"e{i}", f"query {i}", tuple(f"p{a}" for a in right), "m", "q", "class", "golden")
        for i, right in enumerate(answers)
    ]
    return evaluate(_Fixed(scores), examples, passages, ks)


@pytest.mark.parametrize(
    ("scores", "answers", "ranks", "hit_1", "hit_2", "mrr"),
    [
        ([[0.9, 0.5, 0.1]], [(0,)], [1], 1.0, 1.0, 1.0),
        ([[0.9, 0.5, 0.1]], [(1,)], [2], 0.0, 1.0, 0.5),
        ([[0.9, 0.5, 0.1]], [(2,)], [3], 0.0, 0.0, 1 / 3),
        # Several right passages: the best of them counts, and the others are not ahead of it.
        ([[0.9, 0.8, 0.7]], [(1, 2)], [2], 0.0, 1.0, 0.5),
        ([[0.9, 0.8, 0.1]], [(0, 1)], [1], 1.0, 1.0, 1.0),
        # Ties stand before the right passage.
        ([[0.5, 0.5, 0.5]], [(1,)], [3], 0.0, 0.0, 1 / 3),
        ([[0.5, 0.5, 0.5]], [(0, 2)], [2], 0.0, 1.0, 0.5),
        ([[0.9, 0.5, 0.1], [0.2, 0.1, 0.3]], [(0,), (0,)], [1, 2], 0.5, 1.0, 0.75),
    ],
)
def test_metrics_match_the_hand_worked_table(
    scores: list[list[float]],
    answers: list[tuple[int, ...]],
    ranks: list[int],
    hit_1: float,
    hit_2: float,
    mrr: float,
) -> None:
    result = _evaluate(scores, answers)

    assert [outcome.rank for outcome in result.ranks] == ranks
    assert result.hit_rates == {1: hit_1, 2: hit_2}
    assert result.mrr == pytest.approx(mrr)
    assert result.metrics("golden/") == {
        "golden/hit_rate_at_1": hit_1,
        "golden/hit_rate_at_2": hit_2,
        "golden/mrr": pytest.approx(mrr),
        "golden/n_queries": len(answers),
        "golden/n_passages": 3,
    }


def test_rows_name_the_right_passage_and_the_one_found_first() -> None:
    from retrieval.evaluation import RANK_COLUMNS

    row = dict(zip(RANK_COLUMNS, _evaluate([[0.9, 0.5, 0.1]], [(1, 2)]).rows()[0], strict=True))

    assert row == {
        "example_id": "e0",
        "query": "query 0",
        "expected_passage": "p1",
        "rank": 2,
        "reciprocal_rank": 0.5,
        "top_passage": "p0",
        "top_text": "text 0",
    }


@pytest.mark.parametrize(
    ("scores", "answers", "message"),
    [
        ([[0.1, 0.2]], [], "no queries"),
        ([[0.1, 0.2]], [(7,)], "1 answers are not among the 2 passages, 'p7' first"),
        ([[float("nan"), 0.2]], [(0,)], "not finite"),
    ],
)
def test_an_evaluation_that_means_nothing_is_refused(
    scores: list[list[float]], answers: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _evaluate(scores, answers)
