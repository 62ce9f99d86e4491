"""The corpus: its bytes, its splits, its schema and its statistics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


@pytest.mark.parametrize(
    ("count", "max_words", "overlap", "lengths"),
    [
        (0, 4, 1, [0]),
        (3, 4, 1, [3]),
        (4, 4, 1, [4]),
        (5, 4, 1, [4, 2]),
        (7, 4, 1, [4, 4]),
        (8, 4, 1, [4, 4, 2]),
        (8, 4, 0, [4, 4]),
        (9, 4, 3, [4, 4, 4, 4, 4, 4]),
    ],
)
def test_long_text_is_cut_into_overlapping_chunks(
    count: int, max_words: int, overlap: int, lengths: list[int]
) -> None:
    from retrieval.corpus import chunk_words

    words = [f"w{number}" for number in range(count)]
    chunks = [chunk.split() for chunk in chunk_words(words, max_words, overlap)]

    assert [len(chunk) for chunk in chunks] == lengths
    assert [word for n, chunk in enumerate(chunks) for word in chunk[overlap if n else 0 :]] == words


def test_the_same_sources_give_the_same_bytes(sources: Path, tmp_path: Path) -> None:
    from retrieval.corpus import build_corpus

    first = build_corpus(tmp_path / "a", stdlib=sources)
    second = build_corpus(tmp_path / "b", stdlib=sources)
    other = build_corpus(tmp_path / "c", stdlib=sources, seed=2)

    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert names == [
        "golden.jsonl",
        "passages.jsonl",
        "schema.json",
        "stats.json",
        "train.jsonl",
        "validation.jsonl",
    ]
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)
    assert first == second
    assert first.content_sha256 != other.content_sha256


def test_a_module_lies_in_one_split_and_no_passage_in_two(corpus: Any) -> None:
    split_of_module: dict[str, set[str]] = {}
    split_of_text: dict[str, set[str]] = {}
    for passage in corpus.passages:
        split_of_module.setdefault(re.sub(r"^_(py)?", "", passage.module), set()).add(passage.split)
        split_of_text.setdefault(_normal(passage.text), set()).add(passage.split)

    assert {module for module, splits in split_of_module.items() if len(splits) > 1} == set()
    assert {text for text, splits in split_of_text.items() if len(splits) > 1} == set()
    assert len(split_of_text) == len(corpus.passages)


def test_a_query_is_unique_and_contains_neither_its_answer_nor_its_name(corpus: Any) -> None:
    texts = {passage.passage_id: passage.text for passage in corpus.passages}
    examples = [example for split in corpus.splits.values() for example in split]

    assert len({_normal(example.query) for example in examples}) == len(examples)
    for example in examples:
        name = example.qualname.rpartition(".")[2]
        assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", example.query, re.IGNORECASE) is None
        assert _normal(example.query) not in _normal(" ".join(texts[i] for i in example.passage_ids))


def test_no_address_of_a_person_is_left(corpus: Any) -> None:
    written = (corpus.folder / "passages.jsonl").read_text() + (corpus.folder / "train.jsonl").read_text()

    assert re.findall(r"\b[\w.+-]+@[\w-]+\.[a-z]{2,}\b", written) == []


def test_statistics_agree_with_the_files(corpus: Any) -> None:
    stats = json.loads((corpus.folder / "stats.json").read_text())
    words = sorted(len(passage.text.split()) for passage in corpus.passages)

    assert stats == json.loads(json.dumps(corpus.stats.as_dict()))
    assert stats["passages"] == stats["passage_words"]["count"] == len(corpus.passages)
    assert (stats["passage_words"]["min"], stats["passage_words"]["max"]) == (words[0], words[-1])
    assert words[-1] <= stats["max_words"]
    assert {split: stats["splits"][split]["examples"] for split in stats["splits"]} == {
        split: len(examples) for split, examples in corpus.splits.items()
    }
    assert all(stats["splits"][split]["examples"] >= 50 for split in stats["splits"])


def test_every_row_has_the_fields_its_schema_names(corpus: Any) -> None:
    schema = json.loads((corpus.folder / "schema.json").read_text())["$defs"]
    for name, kind in (("golden.jsonl", "example"), ("passages.jsonl", "passage")):
        for line in (corpus.folder / name).read_text().splitlines():
            assert sorted(json.loads(line)) == schema[kind]["required"] == sorted(schema[kind]["properties"])


def test_a_limit_stops_after_enough_examples(sources: Path, tmp_path: Path) -> None:
    from retrieval.corpus import build_corpus

    stats = build_corpus(tmp_path / "out", stdlib=sources, limit=80)

    assert 80 <= stats.examples <= 82


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_words": 10, "overlap": 10}, "overlap must be at least 0 and below max_words"),
        ({"limit": 1}, "split is empty: 2 examples"),
    ],
)
def test_arguments_that_cannot_work_are_refused(
    sources: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    from retrieval.corpus import build_corpus

    with pytest.raises(ValueError, match=message):
        build_corpus(tmp_path / "out", stdlib=sources, **arguments)


def test_sample_embeddings_repeat_exactly_and_fit_their_columns(corpus: Any) -> None:
    from retrieval.samples import sample_embeddings

    passages = corpus.passages[::7]
    columns, rows = sample_embeddings(passages, count=20, dim=4)

    assert columns == ["passage_id", "module", "split", "words", "text", "e0", "e1", "e2", "e3"]
    assert len(rows) == 20
    assert all(len(row) == len(columns) for row in rows)
    assert sample_embeddings(passages, count=20, dim=4) == (columns, rows)
