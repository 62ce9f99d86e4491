"""
The panel's web application. Imported by API servers only.

Airflow puts no authentication before the applications of plugins: each route that answers with data asks for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel
from fastapi import Depends, FastAPI, HTTPException, Response, status
from fastapi.responses import FileResponse, JSONResponse

from wandb_airflow_provider.panel.dag_run import read_dag_run
from wandb_airflow_provider.panel.linked_runs import LinkedRuns

__all__ = ["app"]

_SCRIPT = Path(__file__).parent / "static" / "panel.js"
# What the page shows comes from the DAG run, its task instances and their XComs.
_ENTITIES = (DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)

app = FastAPI(title="W&B panel", docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/panel.js")
def script() -> Response:
    """Return the page's code. It holds no data, and the browser gets it before it logs in, too."""
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return FileResponse(_SCRIPT, media_type="text/javascript", headers=headers)


@app.get(
    "/dags/{dag_id}/runs/{dag_run_id:path}",
    dependencies=[Depends(requires_access_dag("GET", entity)) for entity in _ENTITIES],
)
def dag_run(dag_id: str, dag_run_id: str, session: SessionDep, user: GetUserDep) -> JSONResponse:
    """
    Return a DAG run as the page draws it.

    401 without a login, 403 for a user who may not read this DAG's runs, task instances and XComs, 404 for none.
    """

    def may_read(other: str) -> bool:
        if other == dag_id:
            return True
        details = DagDetails(id=other, team_name=DagModel.get_team_name(other, session=session))
        manager: Any = get_auth_manager()
        return all(
            manager.is_authorized_dag(method="GET", access_entity=entity, details=details, user=user)
            for entity in _ENTITIES
        )

    found = read_dag_run(session, dag_id, dag_run_id)
    if found is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"DAG {dag_id!r} has no run {dag_run_id!r}.")
    linked = LinkedRuns(session, may_read)
    content = {**found.to_json(), **linked.of(found.row)}
    return JSONResponse(content, headers={"Cache-Control": "no-store"})
