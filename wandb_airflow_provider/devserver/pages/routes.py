"""Which address is answered by which page. Pages read the database, so they run in Starlette's threads."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from wandb_airflow_provider.devserver.pages import (
    artifact_page,
    automations_page,
    group_page,
    overview,
    registry_page,
    report_page,
    run_page,
    runs_page,
    sweep_page,
)
from wandb_airflow_provider.devserver.pages.charts import plotly_script
from wandb_airflow_provider.devserver.pages.not_found import PageNotFoundError

_STATIC = Path(__file__).parent / "static"


def _static(request: Request) -> Response:
    name: str = request.path_params["name"]
    found = {path.name: path for path in _STATIC.iterdir()}.get(name)
    script = plotly_script() if name == "plotly.min.js" else None
    if script is not None:
        return FileResponse(script, headers={"Cache-Control": "max-age=86400"})
    if found is None:
        raise PageNotFoundError(
            f"The pages use no file {name!r}, or the package that brings it is not installed."
        )
    return FileResponse(found, headers={"Cache-Control": "no-cache"})


routes: list[BaseRoute] = [
    Route("/", overview.home),
    Route("/-/{name}", _static),
    Route("/orgs/{organization}/registry/{registry}", registry_page.registry),
    Route("/{entity}/registry/model", registry_page.model_registry),
    Route("/{entity}/{project}", overview.project),
    Route("/{entity}/{project}/workspace", overview.project),
    Route("/{entity}/{project}/runs", runs_page.runs),
    Route("/{entity}/{project}/automations", automations_page.automations),
    Route("/{entity}/{project}/artifacts", overview.project),
    Route("/{entity}/{project}/runs/{run}", run_page.run),
    Route("/{entity}/{project}/runs/{run}/workspace", run_page.run),
    Route("/{entity}/{project}/runs/{run}/files/{name:path}", run_page.file),
    Route("/{entity}/{project}/sweeps/{sweep}", sweep_page.sweep),
    Route("/{entity}/{project}/groups/{group:path}", group_page.group),
    *report_page.routes,
    Route("/{entity}/{project}/artifacts/{type}/{collection}", artifact_page.artifact),
    Route("/{entity}/{project}/artifacts/{type}/{collection}/{version}", artifact_page.artifact),
    Route(
        "/{entity}/{project}/artifacts/{type}/{collection}/{version}/files/{path:path}", artifact_page.file
    ),
]
