"""Rows for a table of sample embeddings: a first look at the corpus, before any model is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from retrieval.features import TfidfFeatures
from retrieval.records import Passage

_MAX_FEATURES = 4000
_MAX_FITTED = 600
_TEXT_CHARACTERS = 240


def sample_embeddings(
    passages: Sequence[Passage], *, count: int = 100, dim: int = 8, seed: int = 13
) -> tuple[list[str], list[list[str | int | float]]]:
    """
    Return column names and rows for ``count`` passages, with ``dim`` coordinates each.

    The coordinates are a truncated singular value decomposition of TF-IDF vectors (latent semantic analysis,
    Deerwester et al. 1990) fitted on at most 600 training passages; the first two are good axes for a scatter plot.
    Passages are chosen by a hash of ``seed`` and their id, so that the same corpus gives the same table.

    :raises ValueError: ``passages`` holds none of the training split.
    """
    import numpy as np
    from sklearn.decomposition import TruncatedSVD

    mixed = sorted(
        passages, key=lambda passage: hashlib.sha256(f"{seed}\0{passage.passage_id}".encode()).digest()
    )
    texts = [passage.text for passage in mixed if passage.split == "train"][:_MAX_FITTED]
    if not texts:
        raise ValueError(f"None of the {len(passages)} passages is of the 'train' split; the axes need them.")
    features = TfidfFeatures.fit(texts, _MAX_FEATURES)
    axes = TruncatedSVD(n_components=dim, n_iter=3, random_state=seed).fit(features.transform(texts))
    chosen = mixed[:count]
    places = axes.transform(features.transform([passage.text for passage in chosen]))
    # A decomposition leaves the sign of each axis open: the largest loading decides it.
    loadings = axes.components_
    places = places * np.sign(loadings[np.arange(len(loadings)), np.abs(loadings).argmax(axis=1)])
    columns = ["passage_id", "module", "split", "words", "text", *(f"e{number}" for number in range(dim))]
    rows: list[list[str | int | float]] = [
        [
            passage.passage_id,
            passage.module,
            passage.split,
            passage.words,
            passage.text[:_TEXT_CHARACTERS],
            *(round(float(value), 6) for value in place),
        ]
        for passage, place in zip(chosen, places, strict=True)
    ]
    return columns, rows
