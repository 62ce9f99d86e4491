"""The page on endings names a test for every row, and each is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENDINGS = {
    "succeeds",
    "raises an exception",
    "raises `AirflowFailException`",
    "raises `AirflowSkipException`",
    "runs into `execution_timeout`",
    "gets no memory (`MemoryError`)",
    "defers",
    "resumes after a deferral",
    "is marked failed",
    "is marked as success",
    "gets SIGTERM",
    "gets SIGTERM while its run is being opened",
    "gets SIGKILL",
    "is killed for its memory",
    "loses its worker",
}


def test_every_ending_has_a_row_with_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "endings.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    assert {row[0] for row in rows} == ENDINGS
    files = [
        *(ROOT / "tests" / "unit" / "operators").glob("*.py"),
        ROOT / "tests" / "system" / "test_endings.py",
    ]
    tests = {
        name for file in files for name in re.findall(r"^def (test_\w+)\(", file.read_text("utf-8"), re.M)
    }
    assert {row[-1].strip("`") for row in rows} <= tests
