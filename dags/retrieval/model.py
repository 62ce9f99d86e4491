"""The embedding model: TF-IDF features, a fixed random projection, and a trained linear map after it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.features import TfidfFeatures
from retrieval.records import Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

FORMAT_VERSION = 1
_ENTRIES_PER_TERM = 8
_ENCODE_BATCH = 512
# Multipliers of the SplitMix64 finaliser: the same bits on every platform and NumPy version.
_GOLDEN_GAMMA, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """
    Everything that decides a training, beside the data.

    :param dim: Length of an embedding.
    :param epochs: Passes over the training pairs. 0 leaves the model untrained.
    :param batch_size: Pairs in a step; each pair has the others' passages and queries as negatives.
    :param temperature: Divides the cosines before the softmax; small values press on the hardest negatives.
    :param learning_rate: Step of the linear map (gradient descent with momentum).
    :param momentum: Share of the last step kept in the next one.
    :param gain_learning_rate: Step of the spectral gains (Adam).
    :param gain_knots: Number of free spectral gains; 0 trains the map alone.
    :param weight_decay: Pull of the linear map towards the identity.
    :param max_features: Most frequent words, and n-grams, kept in the vocabulary; None keeps all.
    :param seed: Draws the random projection and the order of the pairs.
    """

    dim: int = 1536
    epochs: int = 5
    batch_size: int = 256
    temperature: float = 0.02
    learning_rate: float = 0.02
    momentum: float = 0.9
    gain_learning_rate: float = 0.02
    gain_knots: int = 12
    weight_decay: float = 1e-4
    max_features: int | None = None
    seed: int = 13

    def __post_init__(self) -> None:
        """Refuse values that no training could use."""
        positive = {
            "dim": self.dim,
            "temperature": self.temperature,
            "learning_rate": self.learning_rate,
            "gain_learning_rate": self.gain_learning_rate,
        }
        for name, value in positive.items():
            if not value > 0:
                raise ValueError(f"Hyperparameter {name!r} must be above 0, found {value!r}.")
        if self.epochs < 0 or self.gain_knots < 0 or self.weight_decay < 0 or not 0 <= self.momentum < 1:
            raise ValueError(f"Hyperparameters out of range: {self!r}.")
        if self.batch_size < 2:
            raise ValueError(
                f"Hyperparameter 'batch_size' must be at least 2, found {self.batch_size!r}: a pair needs negatives."
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Hyperparameters:
        """
        Build from names and values, such as the parameters of a run; names left out keep their defaults.

        :raises ValueError: a name is unknown, or a value is out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"Unknown hyperparameters {unknown}; known are {sorted(known)}.")
        return cls(**values)


@dataclass(frozen=True)
class EmbeddingModel:
    """
    A shared encoder of queries and passages: ``unit(unit(tfidf(text) @ sketch) @ projection)``.

    ``sketch`` is a fixed sparse matrix of signs, computed from the vocabulary size, ``dim`` and ``seed``, and so
    not stored; it keeps cosines up to noise of about ``1 / sqrt(dim)`` (Achlioptas 2003; Kane and Nelson 2014).
    ``projection`` (``dim`` x ``dim``) is what training changes; the identity is the untrained model.
    """

    features: TfidfFeatures
    projection: NDArray[np.float32]
    hyperparameters: Hyperparameters
    corpus_sha256: str = ""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length rows, shape ``(len(texts), dim)``; a text without any known term gives a zero row."""
        return self._encode(texts)

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length rows, shape ``(len(texts), dim)``; a text without any known term gives a zero row."""
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        signs = sketch(self.features.size, self.hyperparameters.dim, self.hyperparameters.seed)
        rows = np.zeros((len(texts), self.hyperparameters.dim), dtype=np.float32)
        for start in range(0, len(texts), _ENCODE_BATCH):
            batch = self.features.transform(texts[start : start + _ENCODE_BATCH])
            rows[start : start + _ENCODE_BATCH] = unit_rows(
                unit_rows((batch @ signs).toarray()) @ self.projection
            )
        return rows

    def describe(self) -> dict[str, Any]:
        """Return what ``model.json`` holds."""
        return {
            "format_version": FORMAT_VERSION,
            "hyperparameters": self.hyperparameters.as_dict(),
            "vocabulary_size": self.features.size,
            "dim": self.hyperparameters.dim,
            "corpus_sha256": self.corpus_sha256,
            "weights_sha256": self._weights_sha256(),
        }

    def _weights_sha256(self) -> str:
        import numpy as np

        digest = hashlib.sha256(np.ascontiguousarray(self.projection).tobytes())
        for name in sorted(self.features.terms):
            digest.update(json.dumps(self.features.terms[name]).encode())
            digest.update(np.ascontiguousarray(self.features.idf[name]).tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """
        Write the model as JSON and ``.npy`` files; the same model gives the same bytes.

        Files: ``model.json``, ``vocabulary.json``, ``idf_words.npy``, ``idf_ngrams.npy``, ``projection.npy``.
        """
        import numpy as np

        folder.mkdir(parents=True, exist_ok=True)
        self.features.save(folder)
        np.save(folder / "projection.npy", self.projection, allow_pickle=False)
        text = json.dumps(self.describe(), indent=2, sort_keys=True) + "\n"
        (folder / "model.json").write_text(text, encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, folder: Path) -> EmbeddingModel:
        """
        Read a model that :meth:`save` wrote; nothing in the files is executed.

        :raises ValueError: the format is another one, or the files do not belong together.
        """
        import numpy as np

        described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if described.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"{str(folder / 'model.json')!r} has format version {described.get('format_version')!r}; "
                f"this code reads {FORMAT_VERSION}. Train the model again."
            )
        model = cls(
            features=TfidfFeatures.load(folder),
            projection=np.load(folder / "projection.npy", allow_pickle=False),
            hyperparameters=Hyperparameters.from_mapping(described["hyperparameters"]),
            corpus_sha256=described["corpus_sha256"],
        )
        found = model.describe()
        if found != described:
            different = sorted(key for key in found | described if found.get(key) != described.get(key))
            raise ValueError(
                f"The files in {str(folder)!r} do not match its model.json in {different}. "
                "The model folder is damaged: download it again."
            )
        return model


def untrained_model(
    passages: Sequence[Passage], hyperparameters: Hyperparameters, *, corpus_sha256: str = ""
) -> EmbeddingModel:
    """
    Return the model before any training step: features fitted on the training passages, projection the identity.

    :raises ValueError: ``passages`` holds none of the training split.
    """
    import numpy as np

    texts = [passage.text for passage in passages if passage.split == "train"]
    if not texts:
        raise ValueError(f"None of the {len(passages)} passages is of the 'train' split; features need them.")
    features = TfidfFeatures.fit(texts, hyperparameters.max_features)
    identity = np.eye(hyperparameters.dim, dtype=np.float32)
    return EmbeddingModel(features, identity, hyperparameters, corpus_sha256)


def sketch(rows: int, dim: int, seed: int) -> csr_matrix:
    """Return the fixed random projection, shape ``(rows, dim)``: eight entries of plus or minus ``1/sqrt(8)`` a row."""
    import numpy as np
    from scipy import sparse

    with np.errstate(over="ignore"):
        bits = np.arange(rows * _ENTRIES_PER_TERM, dtype=np.uint64) + np.uint64(seed << 32 & 2**64 - 1)
        bits = (bits + np.uint64(1)) * np.uint64(_GOLDEN_GAMMA)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(_MIX_1)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(_MIX_2)
        bits = bits ^ (bits >> np.uint64(31))
    columns = ((bits >> np.uint64(1)) % np.uint64(dim)).astype(np.int64)
    signs = np.where(bits & np.uint64(1), 1.0, -1.0).astype(np.float32) / np.sqrt(
        np.float32(_ENTRIES_PER_TERM)
    )
    starts = np.arange(0, rows * _ENTRIES_PER_TERM + 1, _ENTRIES_PER_TERM)
    matrix = sparse.csr_matrix((signs, columns, starts), shape=(rows, dim))
    matrix.sum_duplicates()
    return matrix


def unit_rows(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale each row to length 1; zero rows stay zero."""
    import numpy as np

    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)
