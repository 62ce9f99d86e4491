"""Render a report as one HTML page that needs no other file and no network."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrieval.report import Document, Table

_WIDTH, _HEIGHT, _MARGIN = 640, 220, 44
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #187a3c; --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem; text-align: left; vertical-align: top; }
.headline { border-left: 4px solid var(--line); padding: .4rem .8rem; font-weight: 600; }
.passed { border-color: var(--good); } .stopped { border-color: var(--bad); }
td.pass { color: var(--good); } td.fail { color: var(--bad); }
svg { max-width: 100%; height: auto; } svg text { font-size: 12px; fill: currentColor; }
@media (prefers-color-scheme: dark) { :root { --good: #6fd08c; --bad: #ff8a80; } }
"""


def render(document: Document) -> str:
    """Return the page; every value is escaped, and there are no scripts."""
    state = {True: "passed", False: "stopped", None: "open"}[document.passed]
    parts = [
        f"<h1>{escape(document.title)}</h1>",
        f'<p class="headline {state}">{escape(document.headline)}</p>',
        *(_table(table) for table in document.tables),
    ]
    if document.loss:
        parts.append(f"<h2>Training loss</h2>\n{_curve(document.loss)}")
    if document.links:
        items = "".join(f"<li>{_link(text, url)}</li>" for text, url in document.links)
        parts.append(f"<h2>Links</h2>\n<ul>{items}</ul>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    lines = [f"<h2>{escape(table.title)}</h2>"]
    if table.rows:
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
        body = "\n".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in table.rows)
        lines.append(f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>")
    if table.note:
        lines.append(f"<p>{escape(table.note)}</p>")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return f'<td class="{text}">{text}</td>' if text in {"pass", "fail"} else f"<td>{escape(text)}</td>"


def _link(text: str, url: str) -> str:
    if re.fullmatch(r"https?://[^\s<>]+", url):
        return f'<a href="{escape(url)}" rel="noreferrer">{escape(text)}</a>'
    return f"{escape(text)}: {escape(url)}"


def _curve(loss: tuple[tuple[float, float], ...]) -> str:
    """Return the loss per step as an SVG line, with the ends of both axes labelled."""
    steps, values = zip(*loss, strict=True)
    low, high = min(*values, 0.0), max(values)
    span_x, span_y = (steps[-1] - steps[0]) or 1.0, (high - low) or 1.0
    points = " ".join(
        f"{_MARGIN + (step - steps[0]) / span_x * (_WIDTH - 2 * _MARGIN):.1f},"
        f"{_HEIGHT - _MARGIN - (value - low) / span_y * (_HEIGHT - 2 * _MARGIN):.1f}"
        for step, value in loss
    )
    bottom, right = _HEIGHT - _MARGIN, _WIDTH - _MARGIN
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="Training loss from {values[0]:.4g} to {values[-1]:.4g} over {len(loss)} steps">\n'
        f'<path d="M{_MARGIN} {_MARGIN}V{bottom}H{right}" fill="none" stroke="#888"/>\n'
        f'<polyline points="{points}" fill="none" stroke="#2f6fde" stroke-width="2"/>\n'
        f'<text x="{_MARGIN - 6}" y="{_MARGIN + 4}" text-anchor="end">{high:.3g}</text>\n'
        f'<text x="{_MARGIN - 6}" y="{bottom + 4}" text-anchor="end">{low:.3g}</text>\n'
        f'<text x="{_MARGIN}" y="{bottom + 18}">{steps[0]:.0f}</text>\n'
        f'<text x="{right}" y="{bottom + 18}" text-anchor="end">step {steps[-1]:.0f}</text>\n</svg>'
    )
