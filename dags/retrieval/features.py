"""TF-IDF features of text: whole words beside character n-grams, as one sparse row per text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

WORD_SHARE = 0.3
_ANALYZERS: dict[str, dict[str, Any]] = {
    "words": {"analyzer": "word"},
    "ngrams": {"analyzer": "char_wb", "ngram_range": (3, 5)},
}
_MIN_DOCUMENTS = {"words": 1, "ngrams": 2}


@dataclass(frozen=True)
class TfidfFeatures:
    """
    A fitted vocabulary with its inverse document frequencies.

    Term frequency is ``1 + ln(count)`` and inverse document frequency ``ln((1 + n) / (1 + df)) + 1``. Words and
    character n-grams (3 to 5, inside word boundaries) are each scaled to unit length, weighted ``WORD_SHARE`` to
    ``1 - WORD_SHARE``, joined and scaled to unit length again, so a dot product of two rows is their cosine.
    """

    terms: dict[str, tuple[str, ...]]
    idf: dict[str, NDArray[np.float64]]

    @classmethod
    def fit(cls, texts: Sequence[str], max_features: int | None = None) -> TfidfFeatures:
        """
        Learn vocabulary and frequencies from ``texts``.

        :param max_features: Keep only this many words, and this many n-grams: the most frequent. None keeps all.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        terms, idf = {}, {}
        for name, options in _ANALYZERS.items():
            vectorizer = TfidfVectorizer(
                sublinear_tf=True, min_df=_MIN_DOCUMENTS[name], max_features=max_features, **options
            ).fit(texts)
            terms[name] = tuple(str(term) for term in vectorizer.get_feature_names_out())
            idf[name] = vectorizer.idf_
        return cls(terms, idf)

    @cached_property
    def _vectorizers(self) -> dict[str, TfidfVectorizer]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        built = {}
        for name, options in _ANALYZERS.items():
            built[name] = TfidfVectorizer(sublinear_tf=True, vocabulary=self.terms[name], **options)
            built[name].idf_ = self.idf[name]
        return built

    @property
    def size(self) -> int:
        """Number of columns."""
        return sum(len(terms) for terms in self.terms.values())

    def transform(self, texts: Sequence[str]) -> csr_matrix:
        """Return one unit-length float32 row per text; a text without any known term gives a zero row."""
        import numpy as np
        from scipy import sparse
        from sklearn.preprocessing import normalize

        shares = {"words": WORD_SHARE, "ngrams": 1.0 - WORD_SHARE}
        blocks = []
        for name, vectorizer in self._vectorizers.items():
            blocks.append(vectorizer.transform(texts) * shares[name])
        return normalize(sparse.hstack(blocks).tocsr()).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write ``vocabulary.json`` and one ``idf_*.npy`` per block."""
        import numpy as np

        text = json.dumps({name: list(terms) for name, terms in self.terms.items()}, sort_keys=True)
        (folder / "vocabulary.json").write_text(text + "\n", encoding="utf-8", newline="\n")
        for name, values in self.idf.items():
            np.save(folder / f"idf_{name}.npy", values, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> TfidfFeatures:
        """
        Read what :meth:`save` wrote.

        :raises ValueError: vocabulary and frequencies do not belong together.
        """
        import numpy as np

        stored = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        terms = {name: tuple(stored[name]) for name in _ANALYZERS}
        idf = {name: np.load(folder / f"idf_{name}.npy", allow_pickle=False) for name in _ANALYZERS}
        for name, values in idf.items():
            if values.shape != (len(terms[name]),) or not np.isfinite(values).all():
                raise ValueError(
                    f"{str(folder / f'idf_{name}.npy')!r} has shape {values.shape}, or values that are not finite, "
                    f"for {len(terms[name])} terms. The model folder is damaged: download it again."
                )
        return cls(terms, idf)
