"""What a run has written to its console, as lines for people. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# As the SDK sends a line: which stream it is from, when, what.
_LINE = re.compile(
    r"(?P<error>ERROR )?\d{4}-\d\d-\d\dT(?P<time>\d\d:\d\d:\d\d)[\d.]*Z? (?P<text>.*)", re.DOTALL
)
# Colours and movements of the cursor.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


@dataclass(frozen=True)
class ConsoleLine:
    """A line; ``time`` is its time of day in UTC, empty if the run sent none."""

    time: str
    text: str
    is_error: bool


def read_console(lines: Iterable[str]) -> list[ConsoleLine]:
    """Return lines as they would be left on a terminal: without colours, progress bars in their last state."""
    return [_read(line) for line in lines]


def _read(line: str) -> ConsoleLine:
    match = _LINE.match(line)
    text = _ESCAPE.sub("", match["text"] if match else line).rstrip("\r\n").rpartition("\r")[2]
    return ConsoleLine(match["time"] if match else "", text, bool(match and match["error"]))
