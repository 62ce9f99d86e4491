"""Reports: what is saved is loaded, listed and deleted."""

from __future__ import annotations

import wandb_workspaces.reports.v2 as reports
from flows import Ground, flow


@flow
def save_load_and_list_a_report(ground: Ground) -> None:
    ground.login()
    with ground.init() as run:
        run.log({"loss": 1.0})
    report = reports.Report(
        entity=ground.entity,
        project=ground.project,
        title="Weekly",
        description="what changed",
        blocks=[
            reports.H1("Summary"),
            reports.P("Better."),
            reports.PanelGrid(
                runsets=[reports.Runset(entity=ground.entity, project=ground.project)],
                panels=[reports.LinePlot(x="Step", y=["loss"])],
            ),
        ],
    )
    report.save()
    loaded = reports.Report.from_url(report.url)
    assert loaded.title == "Weekly"
    assert any(isinstance(block, reports.PanelGrid) for block in loaded.blocks)
    loaded.title = "Weekly, corrected"
    loaded.save()
    assert [entry.display_name for entry in ground.api().reports(ground.path)] == ["Weekly, corrected"]
