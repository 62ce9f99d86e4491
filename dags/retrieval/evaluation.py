"""Measure how well an encoder finds the passages that answer a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from retrieval.features import TfidfFeatures
from retrieval.records import Example, Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RANK_COLUMNS = (
    "example_id",
    "query",
    "expected_passage",
    "rank",
    "reciprocal_rank",
    "top_passage",
    "top_text",
)
_QUERY_BATCH = 256


class Encoder(Protocol):
    """What can be evaluated: rows (dense or sparse) whose dot product is the similarity."""

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Return one row per query."""

    def encode_passages(self, texts: Sequence[str]) -> Any:
        """Return one row per passage."""


@dataclass(frozen=True)
class TfidfBaseline:
    """Cosine of raw TF-IDF vectors: no projection, nothing trained, the strongest lexical reference."""

    features: TfidfFeatures

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Return one sparse unit-length row per query."""
        return self.features.transform(texts)

    def encode_passages(self, texts: Sequence[str]) -> Any:
        """Return one sparse unit-length row per passage."""
        return self.features.transform(texts)


@dataclass(frozen=True, slots=True)
class QueryRank:
    """The outcome of one query: where its best answer came, and what came first instead."""

    example_id: str
    query: str
    expected_passage: str
    rank: int
    top_passage: str
    top_text: str

    @property
    def reciprocal_rank(self) -> float:
        """One over the rank."""
        return 1.0 / self.rank


@dataclass(frozen=True, slots=True)
class Evaluation:
    """
    Metrics over all queries, and the outcome of each.

    With ``rank(q)`` the place, from 1, of the best-ranked passage that answers ``q`` and ``Q`` the set of queries:

    - ``Hit Rate@K = |{q in Q: rank(q) <= K}| / |Q|`` (success at K)
    - ``MRR = (1 / |Q|) * sum over q of 1 / rank(q)`` (Voorhees, "The TREC-8 Question Answering Track Report", 1999)
    """

    hit_rates: dict[int, float]
    mrr: float
    ranks: tuple[QueryRank, ...]
    n_queries: int
    n_passages: int

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """Return ``{prefix}hit_rate_at_K``, ``{prefix}mrr`` and the two sizes by name."""
        rates = {f"{prefix}hit_rate_at_{k}": rate for k, rate in self.hit_rates.items()}
        sizes = {f"{prefix}n_queries": float(self.n_queries), f"{prefix}n_passages": float(self.n_passages)}
        return {**rates, f"{prefix}mrr": self.mrr, **sizes}

    def rows(self) -> list[list[str | int | float]]:
        """Return one row per query, in the order of ``RANK_COLUMNS``."""
        return [[getattr(rank, column) for column in RANK_COLUMNS] for rank in self.ranks]


def evaluate(
    encoder: Encoder, examples: Sequence[Example], passages: Sequence[Passage], ks: Sequence[int] = (1, 5, 10)
) -> Evaluation:
    """
    Rank all ``passages`` for each query and count how high the best right one comes.

    Ties count against the encoder: a wrong passage with the same score stands before the right one, so a constant
    encoder gets the worst rank, not the best. Memory is bounded: 256 queries are scored at a time.

    :raises ValueError: there are no queries, an answer is not among the passages, or a similarity is not finite.
    """
    return evaluate_rows(
        encoder.encode_queries([example.query for example in examples]),
        encoder.encode_passages([passage.text for passage in passages]),
        examples,
        passages,
        ks,
    )


def evaluate_rows(
    query_rows: Any,
    passage_rows: Any,
    examples: Sequence[Example],
    passages: Sequence[Passage],
    ks: Sequence[int] = (1, 5, 10),
) -> Evaluation:
    """Evaluate as :func:`evaluate` does, on rows that are encoded already, in the order of their owners."""
    import numpy as np

    if not examples:
        raise ValueError("There are no queries to evaluate.")
    place = {passage.passage_id: number for number, passage in enumerate(passages)}
    lost = [i for example in examples for i in example.passage_ids if i not in place]
    if lost:
        raise ValueError(
            f"{len(lost)} answers are not among the {len(passages)} passages, {lost[0]!r} first."
        )
    outcomes: list[QueryRank] = []
    for start in range(0, len(examples), _QUERY_BATCH):
        scores = _similarities(query_rows[start : start + _QUERY_BATCH], passage_rows)
        if not np.isfinite(scores).all():
            raise ValueError("The encoder gave a similarity that is not finite; its weights are not usable.")
        for example, row in zip(examples[start : start + _QUERY_BATCH], scores, strict=True):
            outcomes.append(_outcome(example, row, passages, place))
    ranks = np.array([outcome.rank for outcome in outcomes])
    return Evaluation(
        hit_rates={k: float((ranks <= k).mean()) for k in ks},
        mrr=float((1.0 / ranks).mean()),
        ranks=tuple(outcomes),
        n_queries=len(examples),
        n_passages=len(passages),
    )


def _similarities(queries: Any, passages: Any) -> NDArray[np.float32]:
    from scipy import sparse

    product = queries @ passages.T
    scores: NDArray[np.float32] = product.toarray() if sparse.issparse(product) else product
    return scores


def _outcome(
    example: Example, scores: NDArray[np.float32], passages: Sequence[Passage], place: Mapping[str, int]
) -> QueryRank:
    import numpy as np

    right = np.array([place[passage_id] for passage_id in example.passage_ids])
    best = right[int(np.argmax(scores[right]))]
    wrong = np.ones(len(scores), dtype=bool)
    wrong[right] = False
    ahead = wrong & (scores >= scores[best])
    top = int(np.argmax(np.where(ahead, scores, -np.inf))) if ahead.any() else int(best)
    return QueryRank(
        example_id=example.example_id,
        query=example.query,
        expected_passage=passages[int(best)].passage_id,
        rank=1 + int(ahead.sum()),
        top_passage=passages[top].passage_id,
        top_text=passages[top].text,
    )
