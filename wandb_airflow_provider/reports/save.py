"""
A process that writes one report with wandb-workspaces, whose client takes its account from the environment alone.

Reads a JSON object from stdin and writes one as the last line of stdout. Imports nothing of Airflow.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any


def main() -> int:
    """Save the report that stdin describes, and say how it went."""
    order = json.load(sys.stdin)
    try:
        answer = _save(order)
    except (Exception, SystemExit) as error:
        # The parent process raises it: there it is an error of the task, here only words. wandb raises the latter when
        # its helper process ends badly.
        answer = {"error": _described(error)}
    # At once: what ends the process while wandb tidies up must not take the answer along.
    print(json.dumps(answer), flush=True)
    return 0


def _save(order: dict[str, Any]) -> dict[str, Any]:
    import warnings

    with warnings.catch_warnings():
        # The library still uses what pydantic has deprecated.
        warnings.simplefilter("ignore")
        # By name, for its own modules do not say which of their names they export.
        reports: Any = import_module("wandb_workspaces.reports.v2")

    report = reports.Report(
        entity=order["entity"],
        project=order["project"],
        title=order["title"],
        description=order["description"],
        width="fluid",
        blocks=[_block(reports, block, order) for block in order["blocks"]],
    )
    if order["id"]:
        report.id = order["id"]
    report.save()
    return {"id": report.id, "url": report.url}


def _block(reports: Any, block: dict[str, Any], order: dict[str, Any]) -> Any:
    if block["kind"] == "heading":
        return reports.H2(text=block["text"])
    if block["kind"] == "markdown":
        return reports.MarkdownBlock(text=block["text"])
    runsets = [_runset(reports, place) for place in block["places"]]
    panels = [
        reports.LinePlot(
            title=metric,
            x="Step",
            y=[metric],
            layout=reports.Layout(x=12 * (index % 2), y=8 * (index // 2), w=12, h=8),
        )
        for index, metric in enumerate(block["metrics"])
    ]
    return reports.PanelGrid(runsets=runsets, panels=panels)


def _runset(reports: Any, place: dict[str, Any]) -> Any:
    return reports.Runset(
        entity=place["entity"],
        project=place["project"],
        name=place["name"],
        filters=f"ID in {json.dumps(place['runs'])}",
        run_settings={run: reports.RunSettings(color=color) for run, color in place["colors"].items()},
    )


def _described(error: BaseException) -> dict[str, Any]:
    cause: Any = getattr(error, "exc", None) or error.__context__ or error
    response = getattr(cause, "response", None)
    status = getattr(response, "http_status", None) or getattr(response, "status_code", None)
    return {
        "text": f"SystemExit: {error}"
        if isinstance(error, SystemExit)
        else str(error) or type(error).__name__,
        "status": int(status) if status else None,
        "kind": type(error).__name__,
        "value_error": isinstance(error, ValueError),
    }


if __name__ == "__main__":
    sys.exit(main())
