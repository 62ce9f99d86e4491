"""A report as the blocks that W&B's own editor knows: headings, Markdown and line plots. Pure."""

from __future__ import annotations

from typing import Any

from wandb_airflow_provider.reports.document import Curves, Document
from wandb_airflow_provider.reports.markdown import part_markdown

__all__ = ["to_blocks"]

# Of the candidate and its baseline; W&B chooses those of others.
_COLORS = ("#2563eb", "#d97706")


def to_blocks(document: Document) -> list[dict[str, Any]]:
    """Return the blocks as JSON values. All curves of a section share one grid, in which W&B draws them itself."""
    blocks: list[dict[str, Any]] = []
    for section in document.sections:
        blocks.append({"kind": "heading", "text": section.title})
        curves = [part for part in section.parts if isinstance(part, Curves)]
        others = (part for part in section.parts if not isinstance(part, Curves))
        blocks.extend({"kind": "markdown", "text": part_markdown(part)} for part in others)
        if curves:
            metrics = [part.metric for part in curves]
            blocks.append({"kind": "panels", "metrics": metrics, "places": _places(curves[0])})
    return blocks


def _places(curves: Curves) -> list[dict[str, Any]]:
    """Return a run set for each project that the runs are in."""
    places: dict[tuple[str, str], dict[str, Any]] = {}
    for index, line in enumerate(curves.lines):
        entity, project, wandb_run_id = line.path.split("/")
        name = "Candidate, baseline and recent runs" if not places else f"Runs of {entity}/{project}"
        empty = {"entity": entity, "project": project, "name": name, "runs": [], "colors": {}}
        place = places.setdefault((entity, project), empty)
        place["runs"].append(wandb_run_id)
        if index < len(_COLORS):
            place["colors"][wandb_run_id] = _COLORS[index]
    return list(places.values())
