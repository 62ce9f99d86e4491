"""A report as one HTML file that loads nothing and runs nothing; curves are drawn as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from wandb_airflow_provider.reports.document import (
    Bullets,
    Cell,
    Curves,
    Document,
    Link,
    Paragraph,
    Part,
    Section,
)

__all__ = ["to_html"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2430; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2rem; border-bottom: 1px solid #e3e5ea; font-size: 1.15rem }
table { border-collapse: collapse; margin: .75rem 0; font-size: .9rem }
th, td { border: 1px solid #e3e5ea; padding: .25rem .6rem; text-align: left }
td { overflow-wrap: break-word; vertical-align: top }
th { background: #f6f7f9; white-space: nowrap } p.note { color: #666b78; font-size: .85rem }
svg { width: 100%; max-width: 44rem; height: auto } svg text { font: 11px system-ui, sans-serif; fill: #666b78 }
ul.legend { list-style: none; padding: 0; font-size: .85rem } ul.legend li { display: inline-block; margin-right: 1rem }
ul.legend i { display: inline-block; width: 1rem; height: .25rem; margin-right: .35rem; vertical-align: middle }
"""
_COLORS = ("#2563eb", "#d97706", "#7c8494", "#a3abba", "#0d9488", "#b45309", "#7c3aed", "#be123c")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640.0, 240.0, 64.0, 24.0, 8.0


def to_html(document: Document) -> str:
    """Return the report as a whole page."""
    body = "".join(_section(section) for section in document.sections)
    title = escape(document.title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>{body}</body></html>\n"
    )


def _section(section: Section) -> str:
    return f"\n<h2>{escape(section.title)}</h2>" + "".join(_part(part) for part in section.parts)


def _part(part: Part) -> str:
    if isinstance(part, Paragraph):
        pieces = [_cell(piece) for piece in part.pieces]
        if part.strong:
            pieces[0] = f"<strong>{pieces[0]}</strong>"
        return f"<p>{''.join(pieces)}</p>"
    if isinstance(part, Bullets):
        items = "".join(f"<li>{''.join(_cell(piece) for piece in item)}</li>" for item in part.items)
        return f"<ul>{items}</ul>"
    if isinstance(part, Curves):
        return _curves(part)
    head = "".join(f"<th>{escape(column)}</th>" for column in part.columns)
    rows = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in part.rows)
    note = f'<p class="note">{escape(part.note)}</p>' if part.note else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        text = escape(cell.text)
        if cell.url and cell.url.startswith(("https://", "http://")):
            return f'<a href="{escape(cell.url)}" rel="noopener noreferrer">{text}</a>'
        return text
    return escape(cell)


def _curves(curves: Curves) -> str:
    lines = [line for line in curves.lines if line.points]
    name = escape(curves.metric)
    if not lines:
        return f'<p class="note">No run has logged a finite value of {name}.</p>'
    drawn = "".join(_drawing([line.points for line in lines]))
    legend = "".join(
        f'<li><i style="background: {_color(index)}"></i>{escape(line.label)}</li>'
        for index, line in enumerate(lines)
    )
    return (
        f'<h3>{name}</h3><svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{name}">{drawn}</svg>'
        f'<ul class="legend">{legend}</ul>'
    )


def _drawing(lines: list[tuple[tuple[float, float], ...]]) -> Iterator[str]:
    steps = [step for points in lines for step, _ in points]
    values = [value for points in lines for _, value in points]
    left, right, low, high = min(steps), max(steps), min(values), max(values)
    for share in (0.0, 0.5, 1.0):
        # Of halves, so that the largest numbers do not overflow.
        value = low * (1 - share) + high * share
        y = _place(share, _HEIGHT - _BOTTOM, _TOP)
        yield f'<line x1="{_LEFT:g}" x2="{_WIDTH:g}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e5ea"/>'
        yield f'<text x="{_LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
    for step, x, anchor in ((left, _LEFT, "start"), (right, _WIDTH, "end")):
        yield f'<text x="{x:g}" y="{_HEIGHT - 6:g}" text-anchor="{anchor}">step {step:.6g}</text>'
    # The candidate, which is the first, lies on top.
    for index, points in reversed(list(enumerate(lines))):
        places = " ".join(
            f"{_place(_share(step, left, right), _LEFT, _WIDTH):.1f},"
            f"{_place(_share(value, low, high), _HEIGHT - _BOTTOM, _TOP):.1f}"
            for step, value in points
        )
        yield f'<polyline points="{places}" fill="none" stroke="{_color(index)}" stroke-width="2"/>'


def _share(value: float, low: float, high: float) -> float:
    spread = high - low
    if not spread:
        return 0.5
    share = (value - low) / spread
    return share if math.isfinite(share) else 0.5


def _place(share: float, start: float, end: float) -> float:
    return start + share * (end - start)


def _color(index: int) -> str:
    return _COLORS[index % len(_COLORS)]
