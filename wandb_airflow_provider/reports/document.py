"""A report as its readers see it, whatever it is written in: sections of text, tables and curves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias, TypeVar

__all__ = [
    "Bullets",
    "Cell",
    "Curves",
    "Document",
    "Line",
    "Link",
    "Paragraph",
    "Part",
    "Section",
    "Table",
    "cleaned",
]

_T = TypeVar("_T")


class Link(NamedTuple):
    """Text that leads somewhere; without an address, text only."""

    text: str
    url: str | None


Cell: TypeAlias = str | Link


class Paragraph(NamedTuple):
    """
    A line of plain text and links.

    :param strong: The first piece stands out.
    """

    pieces: tuple[Cell, ...]
    strong: bool = False


class Bullets(NamedTuple):
    """Lines, each of pieces of plain text and links."""

    items: tuple[tuple[Cell, ...], ...]


class Table(NamedTuple):
    """
    A table of plain text and links; every row has a cell for each column.

    :param note: What is said below it, as that rows were left out.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


class Line(NamedTuple):
    """
    What one run logged of a metric.

    :param path: ``entity/project/run_id``.
    :param points: Pairs of step and value, finite, in the order of the steps; empty for a run that is only shown
        where W&B itself draws.
    """

    label: str
    path: str
    points: tuple[tuple[float, float], ...] = ()


class Curves(NamedTuple):
    """A metric over the steps of several runs, the candidate's first."""

    metric: str
    lines: tuple[Line, ...]


Part: TypeAlias = Paragraph | Bullets | Table | Curves


class Section(NamedTuple):
    """A heading and what is below it."""

    title: str
    parts: tuple[Part, ...]


class Document(NamedTuple):
    """
    A report.

    :param title: At most 128 characters, of those that an address needs no quoting for and blanks.
    """

    title: str
    sections: tuple[Section, ...]

    def curves(self) -> Iterator[Curves]:
        """Yield all curves."""
        for section in self.sections:
            yield from (part for part in section.parts if isinstance(part, Curves))


def cleaned(part: _T, clean: Callable[[str], str]) -> _T:
    """
    Return a document, or a part of one, with every text in it cleaned; a link whose address is not clean is text.

    The one place that all texts of a report pass before any of them is written.
    """
    found: Any = part
    if isinstance(found, str):
        return clean(found)  # type: ignore[return-value]
    if isinstance(found, Link):
        url = found.url if found.url and clean(found.url) == found.url else None
        return Link(clean(found.text), url)  # type: ignore[return-value]
    if isinstance(found, tuple):
        parts = [cleaned(item, clean) for item in found]
        return type(found)(*parts) if hasattr(found, "_fields") else tuple(parts)  # type: ignore[return-value]
    return part
