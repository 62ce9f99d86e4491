"""Train the embedding model with a contrastive loss; gradients are written out and checked by the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from retrieval.evaluation import evaluate_rows
from retrieval.model import EmbeddingModel, Hyperparameters, unit_rows, untrained_model
from retrieval.records import Example, Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Keeps Adam's denominator, and the lengths of rows, away from zero.
_TINY = 1e-8
_SMALLEST_EIGENVALUE_QUANTILE = 0.02


@dataclass(frozen=True)
class LossGradient:
    """Value of the loss at one point, and its derivatives there."""

    loss: float
    gains: NDArray[np.floating]
    weights: NDArray[np.floating]


def train(
    examples: Sequence[Example],
    passages: Sequence[Passage],
    hyperparameters: Hyperparameters,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    *,
    validation: Sequence[Example] = (),
    corpus_sha256: str = "",
) -> EmbeddingModel:
    """
    Fit the features on the training passages, then train the projection on (query, passage) pairs.

    The projection is ``V @ diag(exp(basis @ gains)) @ (I + weights)``. ``V`` are the principal axes of the training
    texts; ``gains`` scales them by a piecewise linear function of the logarithm of their variance, which learns how
    much the common directions should count; ``weights`` is free. Both start at zero: the untrained model, rotated.
    The loss is InfoNCE with in-batch negatives in both directions (van den Oord et al. 2018).

    After each epoch the MRR of ``validation`` is measured among all passages outside the golden set, and the best
    epoch wins, the untrained state included; without ``validation`` the last epoch does.

    :param passages: Passages of all splits; only those of the training split are learned from.
    :param on_step: Called as ``on_step(step, {"loss", "epoch", "gradient_norm"[, "validation_mrr"]})``, steps from 1.
    :raises ValueError: there are no training passages, or an example's passage is missing.
    :raises FloatingPointError: the loss is no longer finite; lower the learning rates.
    """
    import numpy as np

    untrained = untrained_model(passages, hyperparameters, corpus_sha256=corpus_sha256)
    if hyperparameters.epochs == 0:
        return untrained
    pairs = _Pairs.encode(untrained, examples, passages)
    axes, basis = _principal_axes(np.vstack([pairs.queries, pairs.passages]), hyperparameters.gain_knots)
    pairs = replace(pairs, queries=pairs.queries @ axes, passages=pairs.passages @ axes)
    trainer = _Trainer(pairs, basis, hyperparameters)
    score = _validation_score(untrained, validation, passages, axes)
    best, best_mrr = untrained, score(np.eye(hyperparameters.dim, dtype=np.float32))
    for epoch in range(1, hyperparameters.epochs + 1):
        first = trainer.step + 1
        records = trainer.epoch(epoch)
        projection = trainer.map()
        mrr = score(projection)
        if validation:
            records[-1]["validation_mrr"] = mrr
        if mrr >= best_mrr:
            best, best_mrr = replace(untrained, projection=(axes @ projection).astype(np.float32)), mrr
        if on_step is not None:
            for step, record in enumerate(records, start=first):
                on_step(step, record)
    return best


def _validation_score(
    untrained: EmbeddingModel,
    validation: Sequence[Example],
    passages: Sequence[Passage],
    axes: NDArray[np.float32],
) -> Callable[[NDArray[np.float32]], float]:
    """Return a function from a projection to its validation MRR; texts are encoded once. No validation scores 0."""
    if not validation:
        return lambda projection: 0.0
    pool = [passage for passage in passages if passage.split != "golden"]
    queries = untrained.encode_queries([example.query for example in validation]) @ axes
    answers = untrained.encode_passages([passage.text for passage in pool]) @ axes
    return lambda projection: (
        evaluate_rows(unit_rows(queries @ projection), unit_rows(answers @ projection), validation, pool).mrr
    )


def info_nce(
    queries: NDArray[np.floating],
    passages: NDArray[np.floating],
    gains: NDArray[np.floating],
    weights: NDArray[np.floating],
    basis: NDArray[np.floating],
    temperature: float,
    same: NDArray[np.bool_],
) -> LossGradient:
    """
    Return the symmetric InfoNCE loss of a batch of pairs, and its gradient.

    Row ``i`` of ``queries`` belongs to row ``i`` of ``passages``. With ``u`` and ``v`` the unit rows after the map,
    ``s = u @ v.T / temperature`` and ``p`` a softmax, ``loss = -mean(log p_rows(s)_ii + log p_columns(s)_ii) / 2``.

    :param same: True where a query's own other chunk stands in the batch: not a negative, so it is masked.
    """
    import numpy as np

    count = len(queries)
    scale = np.exp(basis @ gains)
    scaled = [queries * scale, passages * scale]
    mapped = [rows + rows @ weights for rows in scaled]
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) + _TINY for rows in mapped]
    left, right = (rows / length for rows, length in zip(mapped, lengths, strict=True))
    logits = np.where(same, -np.inf, left @ right.T / temperature)
    by_query, by_passage = _log_softmax(logits), _log_softmax(logits.T).T
    diagonal = np.arange(count)
    loss = -float(by_query[diagonal, diagonal].mean() + by_passage[diagonal, diagonal].mean()) / 2
    slope = np.exp(by_query) + np.exp(by_passage)
    slope[diagonal, diagonal] -= 2
    slope /= 2 * count * temperature
    back = [
        (towards - rows * (towards * rows).sum(axis=1, keepdims=True)) / length
        for towards, rows, length in zip((slope @ right, slope.T @ left), (left, right), lengths, strict=True)
    ]
    gradient = sum(rows.T @ towards for rows, towards in zip(scaled, back, strict=True))
    per_axis = sum(
        ((towards + towards @ weights.T) * rows).sum(axis=0)
        for rows, towards in zip(scaled, back, strict=True)
    )
    return LossGradient(loss, basis.T @ per_axis, gradient)


def _log_softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    import numpy as np

    shifted = logits - logits.max(axis=1, keepdims=True)
    result: NDArray[np.floating] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


@dataclass(frozen=True)
class _Pairs:
    """Encoded training pairs: one per chunk, ``owner`` telling which example each belongs to."""

    queries: NDArray[np.float32]
    passages: NDArray[np.float32]
    owner: NDArray[np.int64]

    @classmethod
    def encode(
        cls, untrained: EmbeddingModel, examples: Sequence[Example], passages: Sequence[Passage]
    ) -> _Pairs:
        import numpy as np

        text = {passage.passage_id: passage.text for passage in passages}
        lost = [i for example in examples for i in example.passage_ids if i not in text]
        if lost or not examples:
            raise ValueError(
                f"{len(lost)} passages of the {len(examples)} training examples are missing, {lost[:1]} first; "
                "pass the passages of the same corpus."
            )
        owner = np.array([n for n, example in enumerate(examples) for _ in example.passage_ids])
        chunks = [text[passage_id] for example in examples for passage_id in example.passage_ids]
        queries = untrained.encode_queries([example.query for example in examples])
        return cls(queries[owner], untrained.encode_passages(chunks), owner)


def _principal_axes(rows: NDArray[np.float32], knots: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the axes (columns) by rising variance, and hat functions of log variance at evenly spaced knots."""
    import numpy as np

    variances, axes = np.linalg.eigh(rows.T @ rows / len(rows))
    logs = np.log(np.maximum(variances, _TINY))
    at = np.linspace(np.quantile(logs, _SMALLEST_EIGENVALUE_QUANTILE), logs[-1], knots)
    hats = [np.interp(logs, at, row) for row in np.eye(knots)]
    basis = np.stack(hats, axis=1) if knots else np.zeros((len(logs), 0))
    return axes.astype(np.float32), basis.astype(np.float32)


class _Trainer:
    """Holds the two trained arrays with the state of their optimisers."""

    def __init__(self, pairs: _Pairs, basis: NDArray[np.float32], hyperparameters: Hyperparameters) -> None:
        import numpy as np

        self.step = 0
        self._pairs = pairs
        self._basis = basis
        self._hyperparameters = hyperparameters
        self._random = np.random.default_rng(hyperparameters.seed)
        dim, knots = basis.shape
        self._gains = np.zeros(knots, dtype=np.float32)
        self._mean, self._square = np.zeros(knots), np.zeros(knots)
        self._weights = np.zeros((dim, dim), dtype=np.float32)
        self._velocity = np.zeros((dim, dim), dtype=np.float32)

    def epoch(self, number: int) -> list[dict[str, float]]:
        """Go once through the pairs in random order; return one record per step."""
        import numpy as np

        order = self._random.permutation(len(self._pairs.owner))
        batches = np.array_split(order, max(len(order) // self._hyperparameters.batch_size, 1))
        return [self._take_step(batch, number) for batch in batches]

    def map(self) -> NDArray[np.float32]:
        """Return ``diag(exp(basis @ gains)) @ (I + weights)``."""
        import numpy as np

        scale = np.exp(self._basis @ self._gains)[:, None]
        result: NDArray[np.float32] = scale * (np.eye(len(scale), dtype=np.float32) + self._weights)
        return result

    def _take_step(self, batch: NDArray[np.int64], epoch: int) -> dict[str, float]:
        import numpy as np

        chosen, owner = self._hyperparameters, self._pairs.owner[batch]
        same = (owner[:, None] == owner[None, :]) & ~np.eye(len(batch), dtype=bool)
        found = info_nce(
            self._pairs.queries[batch],
            self._pairs.passages[batch],
            self._gains,
            self._weights,
            self._basis,
            chosen.temperature,
            same,
        )
        norm = float(np.sqrt(np.square(found.weights).sum() + np.square(found.gains).sum()))
        if not np.isfinite(found.loss) or not np.isfinite(norm):
            raise FloatingPointError(
                f"The loss is {found.loss} at step {self.step + 1} of epoch {epoch}; lower learning_rate "
                f"({chosen.learning_rate}) or gain_learning_rate ({chosen.gain_learning_rate})."
            )
        self.step += 1
        self._mean += 0.1 * (found.gains - self._mean)
        self._square += 0.01 * (np.square(found.gains) - self._square)
        mean, square = self._mean / (1 - 0.9**self.step), self._square / (1 - 0.99**self.step)
        self._gains -= (chosen.gain_learning_rate * mean / (np.sqrt(square) + _TINY)).astype(np.float32)
        self._velocity *= chosen.momentum
        self._velocity += found.weights
        self._velocity += chosen.weight_decay * self._weights
        self._weights -= chosen.learning_rate * self._velocity
        return {"loss": found.loss, "epoch": float(epoch), "gradient_norm": norm}
