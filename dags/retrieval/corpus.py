"""Build the question-and-passage corpus from Python's own documentation strings."""

from __future__ import annotations

import hashlib
import json
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from retrieval.docstrings import (
    Docstring,
    module_files,
    read_docstrings,
    scrub,
    split_summary,
    stdlib_folder,
    without_name,
)
from retrieval.records import SCHEMA, SPLITS, Example, Passage, load_examples, load_passages

__all__ = [
    "SPLITS",
    "CorpusStats",
    "Example",
    "Passage",
    "build_corpus",
    "chunk_words",
    "load_examples",
    "load_passages",
]

MIN_QUERY_WORDS = 4
MIN_PASSAGE_WORDS = 12
_SPLIT_SHARES = {"golden": 0.20, "validation": 0.12}
_SHINGLE_WORDS = 8


@dataclass(frozen=True, slots=True)
class CorpusStats:
    """What was built: sizes, chunk lengths in words, what was left out and why, and the content's hash."""

    python_version: str
    seed: int
    max_words: int
    overlap: int
    modules: int
    examples: int
    passages: int
    splits: dict[str, dict[str, Any]]
    query_words: dict[str, float]
    passage_words: dict[str, float]
    chunks_per_example: dict[str, float]
    dropped: dict[str, int]
    content_sha256: str

    def as_dict(self) -> dict[str, Any]:
        """Return the statistics as JSON values."""
        return asdict(self)


@dataclass(slots=True)
class _Collected:
    examples: list[Example] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    dropped: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("too_short", "answer_in_query", "duplicate", "ambiguous_query"), 0
        )
    )
    seen_texts: set[str] = field(default_factory=set)
    shingle_group: dict[int, str] = field(default_factory=dict)
    used_names: dict[str, int] = field(default_factory=dict)


def build_corpus(
    out: Path,
    *,
    seed: int = 13,
    max_words: int = 96,
    overlap: int = 24,
    limit: int | None = None,
    stdlib: Path | None = None,
) -> CorpusStats:
    """
    Write the corpus to the folder ``out`` and return its statistics.

    Files: ``train.jsonl``, ``validation.jsonl``, ``golden.jsonl`` (examples), ``passages.jsonl`` (all splits),
    ``schema.json`` and ``stats.json``. The same sources and arguments give the same bytes on every machine. A
    top-level module, with all its submodules, lies in exactly one split, drawn from a hash of ``seed`` and its name.

    :param max_words: Longest chunk, in words.
    :param overlap: Words that two neighbouring chunks share; less than ``max_words``.
    :param limit: Stop after the module that reaches this many examples; modules come in hash order. None takes all.
    :param stdlib: Folder of Python sources to read instead of the running Python's standard library.
    :raises ValueError: the arguments do not fit together, or a split would be empty.
    """
    if not 0 <= overlap < max_words:
        raise ValueError(f"overlap must be at least 0 and below max_words ({max_words}), found {overlap}.")
    source = stdlib or stdlib_folder()
    groups = module_files(source)
    collected = _Collected()
    for group in sorted(groups, key=lambda name: _fraction(seed, "order", name)):
        split = _split_of(group, seed)
        for module, path in groups[group]:
            for docstring in read_docstrings(module, path):
                _add(collected, docstring, group=group, split=split, max_words=max_words, overlap=overlap)
        if limit is not None and len(collected.examples) >= limit:
            break
    _drop_ambiguous(collected)
    for split in SPLITS:
        if not any(example.split == split for example in collected.examples):
            raise ValueError(
                f"The {split!r} split is empty: {len(collected.examples)} examples were found under {str(source)!r} "
                f"(limit {limit!r}, seed {seed}). Raise the limit, or check that the Python sources are installed."
            )
    return _write(collected, out, seed=seed, max_words=max_words, overlap=overlap)


def chunk_words(words: Sequence[str], max_words: int, overlap: int) -> list[str]:
    """Cut ``words`` into overlapping chunks of at most ``max_words``; no chunk lies wholly inside another."""
    starts = range(0, max(len(words) - overlap, 1), max_words - overlap)
    return [" ".join(words[start : start + max_words]) for start in starts]


def _add(
    into: _Collected, docstring: Docstring, *, group: str, split: str, max_words: int, overlap: int
) -> None:
    summary, body = split_summary(scrub(docstring.text))
    words = body.split()
    query = without_name(summary, docstring.qualname.rpartition(".")[2]) if words else ""
    if len(re.findall(r"[A-Za-z]{2,}", query)) < MIN_QUERY_WORDS or len(words) < MIN_PASSAGE_WORDS:
        into.dropped["too_short"] += 1
        return
    normal = _normal(body)
    if _normal(query) in normal:
        into.dropped["answer_in_query"] += 1
        return
    chunks = chunk_words(words, max_words, overlap)
    texts = {_normal(chunk) for chunk in chunks}
    if texts & into.seen_texts or _mostly_elsewhere(into, normal.split(), group):
        into.dropped["duplicate"] += 1
        return
    into.seen_texts |= texts
    name = f"{docstring.module}:{docstring.qualname}"
    into.used_names[name] = into.used_names.get(name, 0) + 1
    example_id = name if into.used_names[name] == 1 else f"{name}~{into.used_names[name]}"
    passages = [
        Passage(
            f"{example_id}#{number}",
            text,
            docstring.module,
            docstring.qualname,
            number,
            len(text.split()),
            split,
        )
        for number, text in enumerate(chunks)
    ]
    into.passages.extend(passages)
    ids = tuple(passage.passage_id for passage in passages)
    into.examples.append(
        Example(example_id, query, ids, docstring.module, docstring.qualname, docstring.kind, split)
    )


def _mostly_elsewhere(into: _Collected, words: Sequence[str], group: str) -> bool:
    """Tell whether half of the text already stands in another module; otherwise remember it as this module's."""
    shingles = {
        int.from_bytes(
            hashlib.blake2b(" ".join(words[i : i + _SHINGLE_WORDS]).encode(), digest_size=8).digest()
        )
        for i in range(max(len(words) - _SHINGLE_WORDS + 1, 1))
    }
    if 2 * sum(into.shingle_group.get(shingle, group) != group for shingle in shingles) >= len(shingles):
        return True
    for shingle in shingles:
        into.shingle_group.setdefault(shingle, group)
    return False


def _drop_ambiguous(collected: _Collected) -> None:
    """Drop every example whose query another example asks too: no encoder could tell their answers apart."""
    count: dict[str, int] = {}
    for example in collected.examples:
        key = _normal(example.query)
        count[key] = count.get(key, 0) + 1
    kept = [example for example in collected.examples if count[_normal(example.query)] == 1]
    collected.dropped["ambiguous_query"] = len(collected.examples) - len(kept)
    ids = {passage_id for example in kept for passage_id in example.passage_ids}
    collected.examples = sorted(kept, key=lambda example: example.example_id)
    collected.passages = sorted(
        (passage for passage in collected.passages if passage.passage_id in ids),
        key=lambda passage: (passage.module, passage.passage_id.rpartition("#")[0], passage.chunk),
    )


def _write(collected: _Collected, out: Path, *, seed: int, max_words: int, overlap: int) -> CorpusStats:
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {
        f"{split}.jsonl": _jsonl(asdict(example) for example in collected.examples if example.split == split)
        for split in SPLITS
    }
    files["passages.jsonl"] = _jsonl(asdict(passage) for passage in collected.passages)
    files["schema.json"] = json.dumps(SCHEMA, indent=2, sort_keys=True) + "\n"
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name].encode())
    stats = CorpusStats(
        python_version=".".join(map(str, sys.version_info[:3])),
        seed=seed,
        max_words=max_words,
        overlap=overlap,
        modules=len({example.module for example in collected.examples}),
        examples=len(collected.examples),
        passages=len(collected.passages),
        splits={
            split: {
                "modules": len({example.module for example in collected.examples if example.split == split}),
                "examples": sum(example.split == split for example in collected.examples),
                "passages": sum(passage.split == split for passage in collected.passages),
                "passage_words": _spread(p.words for p in collected.passages if p.split == split),
            }
            for split in SPLITS
        },
        query_words=_spread(len(example.query.split()) for example in collected.examples),
        passage_words=_spread(passage.words for passage in collected.passages),
        chunks_per_example=_spread(len(example.passage_ids) for example in collected.examples),
        dropped=collected.dropped,
        content_sha256=digest.hexdigest(),
    )
    files["stats.json"] = json.dumps(stats.as_dict(), indent=2, sort_keys=True) + "\n"
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8", newline="\n")
    return stats


def _split_of(group: str, seed: int) -> str:
    position = _fraction(seed, "split", group)
    for split, share in _SPLIT_SHARES.items():
        if position < share:
            return split
        position -= share
    return "train"


def _fraction(seed: int, purpose: str, name: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the arguments."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _spread(values: Iterable[int]) -> dict[str, float]:
    """Return count, min, mean, median, 95th percentile (nearest rank) and max."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0}
    return {
        "count": len(ordered),
        "min": ordered[0],
        "mean": round(statistics.fmean(ordered), 2),
        "median": statistics.median(ordered),
        "p95": ordered[-(-95 * len(ordered) // 100) - 1],
        "max": ordered[-1],
    }


def _jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=True, sort_keys=True) + "\n" for row in rows)
