"""A report as Markdown, which neither a run's name nor a config value can break out of. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from wandb_airflow_provider.reports.document import (
    Bullets,
    Cell,
    Curves,
    Document,
    Link,
    Paragraph,
    Part,
    Section,
    Table,
)

__all__ = ["escape", "part_markdown", "to_markdown"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~&$])")
# What GitHub's dialect makes a link of without being told to.
_AUTOLINK = re.compile(r"://|www\.|@", re.IGNORECASE)
_LINE_START = re.compile(r"^(\s*)([#+=-]|\d+(?=[.)]))")
_SAFE_URL = re.compile(r"https?://[^\s<>()\[\]\\\"'`]+\Z")


def to_markdown(document: Document, *, most_characters: int | None = None, more: str = "") -> str:
    """
    Return the report, without its title.

    :param most_characters: Sections that do not fit any more are left out, and the end says so.
    :param more: Where the whole report is, as Markdown.
    """
    written: list[str] = []
    used = 0
    for index, section in enumerate(document.sections):
        text = _section(section)
        if most_characters is not None and used + len(text) > most_characters:
            left = ", ".join(escape(other.title) for other in document.sections[index:])
            written.append(f"*Not shown here: {left}.* {more}".rstrip())
            break
        written.append(text)
        used += len(text)
    return "\n\n".join(written)


def part_markdown(part: Part) -> str:
    """Return one part of a report."""
    if isinstance(part, Paragraph):
        pieces = [_cell(piece) for piece in part.pieces]
        if part.strong:
            # A blank before the closing asterisks would leave them as they are.
            pieces[0] = f"**{pieces[0].rstrip()}** "
        return "".join(_started(pieces))
    if isinstance(part, Bullets):
        return "\n".join("- " + "".join(_started(_cell(piece) for piece in item)) for item in part.items)
    if isinstance(part, Curves):
        return part_markdown(_table_of(part))
    lines = [_row(part.columns), "|" + "---|" * len(part.columns)]
    lines += [_row(row) for row in part.rows]
    if part.note:
        lines += ["", escape(part.note)]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return the text so that Markdown shows it as it is, on one line."""
    plain = " ".join(str(text).split())
    return _AUTOLINK.sub(lambda found: _inert(found[0]), _SPECIAL.sub(r"\\\1", plain))


def _section(section: Section) -> str:
    return "\n\n".join([f"## {escape(section.title)}", *(part_markdown(part) for part in section.parts)])


def _table_of(curves: Curves) -> Table:
    """Markdown draws nothing: where each curve begins and ends, and its extremes."""
    rows = []
    for line in curves.lines:
        if line.points:
            values = [value for _, value in line.points]
            figures = (values[0], values[-1], min(values), max(values))
            rows.append((line.label, *(f"{figure:.6g}" for figure in figures)))
    note = "" if rows else "No run has logged a finite value of it."
    return Table((curves.metric, "First", "Last", "Lowest", "Highest"), tuple(rows), note)


def _row(cells: Iterable[Cell]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        text = escape(cell.text)
        return f"[{text}]({cell.url})" if cell.url and _SAFE_URL.match(cell.url) else text
    # Blanks at the ends separate the pieces of a line.
    head, tail = cell[: len(cell) - len(cell.lstrip())], cell[len(cell.rstrip()) :] if cell.strip() else ""
    return f"{' ' * bool(head)}{escape(cell)}{' ' * bool(tail)}"


def _started(pieces: Iterable[str]) -> Iterator[str]:
    """Let the first piece not begin a list or a heading."""
    for index, piece in enumerate(pieces):
        yield _LINE_START.sub(_escaped_start, piece) if index == 0 else piece


def _escaped_start(found: re.Match[str]) -> str:
    # A number is no punctuation: what follows it is escaped instead, by a character that is not shown.
    return f"{found[1]}{found[2]}\u2060" if found[2].isdigit() else f"{found[1]}\\{found[2]}"


def _inert(found: str) -> str:
    if found == "://":
        return "\\://"
    return "\\@" if found == "@" else f"{found[:-1]}\\."
