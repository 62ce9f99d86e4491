"""The page of a report: its text, and its panels over the runs as they are now."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.endpoint import backend_of
from wandb_airflow_provider.devserver.pages import markdown, report_panels, runsets
from wandb_airflow_provider.devserver.pages.formats import is_web_address
from wandb_airflow_provider.devserver.pages.not_found import PageNotFoundError
from wandb_airflow_provider.devserver.pages.runsets import mapping, sequence
from wandb_airflow_provider.devserver.pages.templating import render
from wandb_airflow_provider.devserver.views import ReportRecord, get_report

_DEEPEST = 20
_LINKED = {"image": "image", "video": "video", "gallery": "gallery"}

Block = dict[str, Any]


def address(record: ReportRecord) -> str:
    """Return the page of a report, as the SDK builds it."""
    title = re.sub(r"-+", "-", re.sub(r"\W", "-", record.title)).strip("-")
    place = f"/{quote(record.entity, safe='')}/{quote(record.project, safe='')}"
    return f"{place}/reports/{quote(title)}--{record.id.rstrip('=')}"


def report(request: Request) -> Response:
    """Show a report."""
    path, backend = request.path_params, backend_of(request)
    # A title may hold slashes and dashes; an id holds neither.
    record = get_report(backend, path["entity"], path["project"], path["slug"].rpartition("--")[2])
    if record is None:
        raise PageNotFoundError(f"There is no such report in {path['entity']}/{path['project']}.")
    reader = _Reader(backend, record)
    blocks = reader.blocks(sequence(record.spec.get("blocks")))
    return render(
        request, "report.html", report=record, blocks=blocks, headings=reader.headings, figures=reader.figures
    )


routes: list[BaseRoute] = [Route("/{entity}/{project}/reports/{slug:path}", report)]


class _Reader:
    """Turns the blocks of one report into what its template shows."""

    def __init__(self, backend: Backend, record: ReportRecord) -> None:
        self._backend, self._record = backend, record
        self._grids = 0
        self.headings: list[Block] = []
        self.figures: list[dict[str, Any]] = []

    def blocks(self, specs: Sequence[Any], depth: int = 0) -> list[Block]:
        """Return the blocks, without the blank lines that editors leave."""
        found = [self._block(mapping(spec), depth) for spec in specs]
        return [block for block in found if block["kind"] != "paragraph" or _has_text(block["inline"])]

    def _block(self, spec: Mapping[str, Any], depth: int) -> Block:
        kind = str(spec.get("type") or "unknown")
        children = sequence(spec.get("children"))
        if kind in ("paragraph", "default"):
            return {"kind": "paragraph", "inline": _inline(children)}
        if kind == "heading":
            return self._heading(spec, children, depth)
        if kind == "panel-grid":
            return self._grid(mapping(spec.get("metadata")))
        if kind == "list":
            return {
                "kind": "list",
                "ordered": bool(spec.get("ordered")),
                "items": [_item(item) for item in children],
            }
        if kind in ("block-quote", "callout-block"):
            lines = children if kind == "callout-block" else [spec]
            return {
                "kind": kind,
                "lines": [_inline(sequence(mapping(line).get("children"))) for line in lines],
            }
        if kind == "code-block":
            code = [_plain(_inline(sequence(mapping(line).get("children")))) for line in children]
            return {"kind": "code", "text": "\n".join(code)}
        if kind == "latex":
            return {"kind": "code", "text": str(spec.get("content") or "")}
        if kind == "markdown-block":
            return {"kind": "markdown", "html": markdown.to_html(str(spec.get("content") or ""))}
        if kind in _LINKED:
            return {"kind": "linked", "what": _LINKED[kind], "url": _url(spec), "inline": _inline(children)}
        if kind in ("horizontal-rule", "table-of-contents"):
            return {"kind": kind}
        return {"kind": "unknown", "type": kind}

    def _heading(self, spec: Mapping[str, Any], children: Sequence[Any], depth: int) -> Block:
        level = spec.get("level")
        heading: Block = {
            "kind": "heading",
            "id": f"heading-{len(self.headings)}",
            "level": level if level in (1, 2, 3) else 3,
            "inline": _inline(children),
        }
        self.headings.append(heading)
        hidden = sequence(spec.get("collapsedChildren"))
        return {**heading, "hidden": self.blocks(hidden, depth + 1) if depth < _DEEPEST else []}

    def _grid(self, spec: Mapping[str, Any]) -> Block:
        found = [
            runsets.resolve(self._backend, item, self._record.entity, self._record.project)
            for item in sequence(spec.get("runSets"))
            if mapping(item).get("enabled", True)
        ]
        grid = report_panels.Grid(self._backend, found, spec.get("customRunColors"), f"grid-{self._grids}")
        self._grids += 1
        bank = mapping(spec.get("panelBankConfig"))
        specs = list(sequence(mapping(spec.get("panelBankSectionConfig")).get("panels")))
        for section in sequence(bank.get("sections")):
            specs += sequence(mapping(section).get("panels"))
        panels = grid.build(specs)
        self.figures.extend(report_panels.figures(panels))
        shown = [(panel, markdown.to_html(panel.text) if panel.text else Markup("")) for panel in panels]
        return {"kind": "grid", "runsets": found, "panels": shown}


def _item(spec: Any) -> Block:
    """Return an item of a list; its text is in it or in paragraphs in it, and further lists may follow."""
    inline: list[Block] = []
    nested: list[Block] = []
    for child in map(mapping, sequence(mapping(spec).get("children"))):
        if child.get("type") == "paragraph":
            inline += _inline(sequence(child.get("children")))
        elif child.get("type") == "list":
            nested += [_item(item) for item in sequence(child.get("children"))]
        else:
            inline += _inline([child])
    return {"inline": inline, "nested": nested, "checked": mapping(spec).get("checked")}


def _inline(children: Sequence[Any]) -> list[Block]:
    """Return pieces of text with their marks; a link keeps its address only if it leads to the web."""
    pieces = []
    for child in map(mapping, children):
        if child.get("type") == "link":
            text = _plain(_inline(sequence(child.get("children"))))
            url = child.get("url")
            pieces.append({"text": text, "url": url if is_web_address(url) else None, "code": False})
        elif child.get("type") == "latex":
            pieces.append({"text": str(child.get("content") or ""), "url": None, "code": True})
        else:
            code = bool(child.get("inlineCode"))
            pieces.append({"text": str(child.get("text") or ""), "url": None, "code": code})
    return pieces


def _plain(pieces: Sequence[Mapping[str, Any]]) -> str:
    return "".join(str(piece["text"]) for piece in pieces)


def _has_text(pieces: Sequence[Mapping[str, Any]]) -> bool:
    return bool(_plain(pieces).strip())


def _url(spec: Mapping[str, Any]) -> str | None:
    url = spec.get("url")
    return str(url) if is_web_address(url) else None
