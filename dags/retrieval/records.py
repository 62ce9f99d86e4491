"""The rows of the corpus: passages and the examples that ask for them, as JSON lines with a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPLITS = ("train", "validation", "golden")


@dataclass(frozen=True, slots=True)
class Passage:
    """One chunk of a docstring's body: the unit that is embedded and retrieved."""

    passage_id: str
    text: str
    module: str
    qualname: str
    chunk: int
    words: int
    split: str


@dataclass(frozen=True, slots=True)
class Example:
    """A query (summary without the object's name) and the passages that answer it (chunks of the same body)."""

    example_id: str
    query: str
    passage_ids: tuple[str, ...]
    module: str
    qualname: str
    kind: str
    split: str


def load_examples(path: Path) -> list[Example]:
    """Read examples from one of the split files."""
    return [Example(**{**row, "passage_ids": tuple(row["passage_ids"])}) for row in _rows(path)]


def load_passages(path: Path) -> list[Passage]:
    """Read passages from ``passages.jsonl``."""
    return [Passage(**row) for row in _rows(path)]


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": sorted(properties),
        "properties": dict(properties),
    }


_TEXT = {"type": "string", "minLength": 1}
_SPLIT = {"enum": list(SPLITS)}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A row of the corpus: of passages.jsonl (passage), or of a split's file (example)",
    "$defs": {
        "passage": _object(
            {
                "passage_id": _TEXT,
                "text": _TEXT,
                "module": _TEXT,
                "qualname": _TEXT,
                "chunk": {"type": "integer", "minimum": 0},
                "words": {"type": "integer", "minimum": 1},
                "split": _SPLIT,
            }
        ),
        "example": _object(
            {
                "example_id": _TEXT,
                "query": _TEXT,
                "passage_ids": {"type": "array", "items": _TEXT, "minItems": 1},
                "module": _TEXT,
                "qualname": _TEXT,
                "kind": {"enum": ["function", "method", "class"]},
                "split": _SPLIT,
            }
        ),
    },
    "oneOf": [{"$ref": "#/$defs/passage"}, {"$ref": "#/$defs/example"}],
}
