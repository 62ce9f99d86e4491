"""The retrieval index of one model version: embedded passages on disk, searched by cosine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retrieval.model import EmbeddingModel
from retrieval.records import Passage, load_passages

_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage found for a query."""

    rank: int
    score: float
    passage: Passage


def build_index(model: EmbeddingModel, passages: Sequence[Passage], out: Path) -> dict[str, Any]:
    """
    Embed ``passages`` and write the index to the folder ``out``; return what ``index.json`` holds.

    Files: ``embeddings.npy`` (float32, one unit row per passage), ``passages.jsonl`` (same order), ``index.json``
    (sizes, bytes, and the hash of the model's weights, which :func:`search` checks).

    :raises ValueError: there are no passages.
    """
    import numpy as np

    if not passages:
        raise ValueError("There are no passages to index.")
    out.mkdir(parents=True, exist_ok=True)
    rows = model.encode_passages([passage.text for passage in passages])
    np.save(out / "embeddings.npy", rows, allow_pickle=False)
    lines = "".join(json.dumps(asdict(passage), sort_keys=True) + "\n" for passage in passages)
    (out / "passages.jsonl").write_text(lines, encoding="utf-8", newline="\n")
    described = {
        "format_version": _FORMAT_VERSION,
        "passages": len(passages),
        "dim": int(rows.shape[1]),
        "embeddings_bytes": int(rows.nbytes),
        "weights_sha256": model.describe()["weights_sha256"],
        "corpus_sha256": model.corpus_sha256,
    }
    text = json.dumps(described, indent=2, sort_keys=True) + "\n"
    (out / "index.json").write_text(text, encoding="utf-8", newline="\n")
    return described


def search(index_dir: Path, model: EmbeddingModel, query: str, k: int = 5) -> list[Hit]:
    """
    Return the ``k`` passages nearest to ``query``, best first; equal scores in the order of the index.

    :raises ValueError: the index was built by another model, or its files do not belong together.
    """
    import numpy as np

    described = json.loads((index_dir / "index.json").read_text(encoding="utf-8"))
    weights = model.describe()["weights_sha256"]
    if described.get("format_version") != _FORMAT_VERSION or described.get("weights_sha256") != weights:
        raise ValueError(
            f"The index in {str(index_dir)!r} (format {described.get('format_version')!r}) was built by the model "
            f"{described.get('weights_sha256')!r}, not by {weights!r}. Build it again with this model."
        )
    rows = np.load(index_dir / "embeddings.npy", mmap_mode="r", allow_pickle=False)
    passages = load_passages(index_dir / "passages.jsonl")
    if rows.shape != (len(passages), described["dim"]):
        raise ValueError(
            f"The index in {str(index_dir)!r} has embeddings of shape {rows.shape} for {len(passages)} passages of "
            f"{described['dim']} dimensions. It is damaged: build it again."
        )
    scores = np.asarray(rows @ model.encode_queries([query])[0])
    best = np.argsort(-scores, kind="stable")[:k]
    return [Hit(rank, float(scores[i]), passages[int(i)]) for rank, i in enumerate(best, start=1)]
