"""Render a report as Markdown, for forms that show nothing richer."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrieval.report import Document, Table

_BARS = "▁▂▃▄▅▆▇█"
_BAR_COUNT = 40


def render(document: Document) -> str:
    """Return the Markdown text; values are escaped, so none of them can add markup, HTML or a link."""
    parts = [f"# {escape(document.title)}", f"**{escape(document.headline)}**"]
    parts.extend(_table(table) for table in document.tables)
    if document.loss:
        values = [value for _, value in document.loss]
        parts.append(
            f"## Training loss\n\n`{_bars(values)}`\n\n"
            f"{len(values)} steps, first {values[0]:.4g}, last {values[-1]:.4g}, lowest {min(values):.4g}."
        )
    if document.links:
        parts.append("## Links\n\n" + "\n".join(f"- {_link(text, url)}" for text, url in document.links))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Escape what Markdown or HTML would read as markup, and put the text on one line."""
    escaped = re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _table(table: Table) -> str:
    lines = [f"## {escape(table.title)}", ""]
    if table.rows:
        lines += [_line(table.columns), _line(tuple("---" for _ in table.columns), raw=True)]
        lines += [_line(row) for row in table.rows]
    if table.note:
        lines += ["", escape(table.note)] if table.rows else [escape(table.note)]
    return "\n".join(lines)


def _line(cells: tuple[str, ...], *, raw: bool = False) -> str:
    return "| " + " | ".join(cell if raw else escape(cell) for cell in cells) + " |"


def _link(text: str, url: str) -> str:
    if re.fullmatch(r"https?://[^\s<>()\[\]\\]+", url):
        return f"[{escape(text)}](<{url}>)"
    return f"{escape(text)}: {escape(url)}"


def _bars(values: list[float]) -> str:
    """Return at most 40 bars, each the mean of its share of the steps."""
    count = min(_BAR_COUNT, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(_BARS[int((mean - low) / ((high - low) or 1) * (len(_BARS) - 1))] for mean in means)
