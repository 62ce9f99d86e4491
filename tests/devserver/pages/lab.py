"""A project with every kind of thing that a page shows, and markup wherever a name can be chosen."""

from __future__ import annotations

import json
import math
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import wandb
from wandb.automations import (
    ArtifactEvent,
    OnAddArtifactAlias,
    OnRunState,
    RunEvent,
    SendNotification,
    SendWebhook,
)

from tests.devserver.pages.showcase import Site
from tests.devserver.sweep_client import SweepClient
from tests.devserver.webhook_receiver import receiving

with warnings.catch_warnings():
    # The library still uses what pydantic has deprecated.
    warnings.simplefilter("ignore")
    import wandb_workspaces.reports.v2 as reports

LAB = "lab"
_LONGEST_WAIT_SECONDS = 30.0


def fill_lab(site: Site, hostile: str) -> None:
    """Write the project; ``hostile`` is used for names."""
    api = wandb.Api(overrides={"base_url": site.server.url}, api_key=site.server.api_key)
    api.create_project(LAB, "local")
    with receiving() as receiver:
        _automations(site, api, receiver.url, hostile)
        _instrumented(site, hostile)
        _strange(site)
        site.server.backend.automations.settle(_LONGEST_WAIT_SECONDS)
    _sweep(site, hostile)
    _report(site, hostile)


def _automations(site: Site, api: wandb.Api, receiver: str, hostile: str) -> None:
    site.server.add_slack_integration("acme", "alerts")
    site.server.add_webhook_integration("deploy hook", f"{receiver}/hook", secret="s")
    (slack,) = api.slack_integrations()
    (hook,) = api.webhook_integrations(entity="local")
    project = api.project(LAB, "local")
    ended = OnRunState(scope=project, filter=RunEvent.state.in_(["finished", "failed"]))
    notice = SendNotification.from_integration(slack, title=hostile, text=hostile, level="WARN")
    api.create_automation(ended >> notice, name=f"ended {hostile}", description=hostile)
    promoted = OnAddArtifactAlias(scope=project, filter=ArtifactEvent.alias.eq("<u>"))
    payload = {"what": "${event_type}", hostile: hostile}
    api.create_automation(promoted >> SendWebhook.from_integration(hook, payload=payload), name="promoted")


def _instrumented(site: Site, hostile: str) -> None:
    """Log a run with its own steps, a console, system metrics, images, and a file with an odd name."""
    settings = {"console": "wrap"}
    arguments: dict[str, Any] = {"project": LAB, "job_type": "train", "tags": ["gpu"], "config": {"lr": 0.01}}
    with site.run("instrumented", seconds=40, settings=settings, **arguments) as run:
        run.define_metric("epoch", hidden=True)
        run.define_metric("val/*", step_metric="epoch")
        for step in range(12):
            run.log({"loss": 2 / (step + 1)})
            if step % 3 == 0:
                run.log({"epoch": step // 3 * 0.5, "val/accuracy": 0.5 + step / 30})
        print(f"\x1b[32mepoch done\x1b[0m {hostile}")
        print("it broke", file=sys.stderr)
        pixels = np.linspace(0, 255, 64 * 96 * 3).reshape(64, 96, 3).astype("uint8")
        run.log({"samples": [wandb.Image(pixels, caption=hostile), wandb.Image(255 - pixels, caption="2")]})
        odd = site.folder / "<b>.txt"
        odd.write_text(hostile)
        run.save(str(odd), base_path=str(site.folder))
        artifact = wandb.Artifact("measured", type="dataset", metadata={"rows": 10})
        run.log_artifact(artifact, aliases=["<u>"]).wait()
        site.urls["instrumented"] = run.url
        _system_metrics(site)


def _strange(site: Site) -> None:
    """Log a run whose config says something else where this package's runs say what they come from."""
    strange = {
        "triggered_by": ["x", 1, {"run": ["y"]}],
        "parent_run": {},
        "upstream_runs": "z",
        "try_number": math.inf,
    }
    with site.run("strange", seconds=0, project=LAB, config={"airflow": strange, "lr": math.inf}) as run:
        site.urls["strange"] = run.url


def _system_metrics(site: Site) -> None:
    """Send what the SDK samples of the machine; a run as short as this one may end before the first sample."""
    samples = [
        {"system.cpu": 7.0 + second % 3, "system.proc.memory.rssMB": 85 + second, "_runtime": second}
        for second in range(30)
    ]
    content = [json.dumps(sample) for sample in samples]
    client = SweepClient(site.server, LAB)
    with client.http:
        client.stream("instrumented", files={"wandb-events.jsonl": {"offset": 0, "content": content}})


def _sweep(site: Site, hostile: str) -> None:
    config = {
        "method": "grid",
        "name": f"sweep {hostile}",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"lr": {"values": [0.001, 0.01, 0.1]}, hostile: {"values": [1]}},
    }
    client = SweepClient(site.server, LAB)
    with client.http:
        sweep = client.create(config)
        agent = client.agent(sweep)
        for loss in (3.0, 1.0):
            client.run(agent, loss)
    site.urls["sweep"] = f"{site.server.url}/local/{LAB}/sweeps/{sweep['name']}"


def _report(site: Site, hostile: str) -> None:
    grid = reports.PanelGrid(
        runsets=[reports.Runset(entity="local", project=LAB, name=hostile)],
        panels=[reports.LinePlot(title=hostile, y=["loss"]), reports.MarkdownPanel(markdown=hostile)],
    )
    blocks = [reports.H1(hostile), reports.P(hostile), reports.MarkdownBlock(f"**bold** {hostile}"), grid]
    with pytest.MonkeyPatch.context() as patch:
        # The library makes its own client from the environment.
        patch.setenv("WANDB_BASE_URL", site.server.url)
        patch.setenv("WANDB_API_KEY", site.server.api_key)
        patch.setenv("WANDB_SILENT", "true")
        report = reports.Report(
            project=LAB, entity="local", title=f"Report {hostile}", description=hostile, blocks=blocks
        ).save()
    site.urls["report"] = report.url
