"""Put the folder of workflows on the import path, as the scheduler does; build the corpus and one model once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_DAGS = str(Path(__file__).resolve().parents[3] / "dags")
if _DAGS not in sys.path:
    sys.path.insert(0, _DAGS)


_SOURCE = '''
raise RuntimeError("a source is read, never run")

class Picker%:
    """Carry the ripe fruit% home with care.

    The basket% for fruit% is woven in garden%; before noon% each piece% is weighed with scale% and washed%
    twice, so that nothing% spoils on road% to the market%.
    """

    def pick(self):
        """Pick every ripe fruit% from the high branch.

        A ladder% stands beside wall% for fruit%; use rope% when rain% made its step% slippery, and count%
        what was taken into book% before evening% comes.
        """
'''


@dataclass(frozen=True)
class BuiltCorpus:
    """The corpus of the running Python's standard library, and what reading it gives."""

    folder: Path
    stats: Any
    passages: list[Any]
    splits: dict[str, list[Any]]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> BuiltCorpus:
    from retrieval.corpus import SPLITS, build_corpus, load_examples, load_passages

    folder = tmp_path_factory.mktemp("corpus")
    stats = build_corpus(folder)
    splits = {split: load_examples(folder / f"{split}.jsonl") for split in SPLITS}
    return BuiltCorpus(folder, stats, load_passages(folder / "passages.jsonl"), splits)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Sixty small modules, so that every split has some, with documentation that no two share."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for number in range(60):
        (folder / f"module{number:02d}.py").write_text(_SOURCE.replace("%", str(number)))
    return folder
