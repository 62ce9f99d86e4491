"""The page of a registry, and of a version that was found there."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from wandb_airflow_provider.devserver.artifacts import protection
from wandb_airflow_provider.devserver.artifacts.queries import (
    CollectionRecord,
    VersionRecord,
    alias_history,
    get_collection,
    list_collections,
)
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.endpoint import backend_of
from wandb_airflow_provider.devserver.pages import addresses
from wandb_airflow_provider.devserver.pages.artifact_page import show_version, version_rows
from wandb_airflow_provider.devserver.pages.automations_page import count_automations
from wandb_airflow_provider.devserver.pages.not_found import PageNotFoundError
from wandb_airflow_provider.devserver.pages.templating import render
from wandb_airflow_provider.devserver.queries import get_project

_CHANGES = 50
_REASONS = ("airflow_promotion", "airflow_rollback")


def registry(request: Request) -> Response:
    """Show a registry's collections, with who holds which alias; with ``selectionPath``, one version in one."""
    organization, name = request.path_params["organization"], request.path_params["registry"]
    return _show(request, organization, addresses.registry_project(name), f"registry {organization}/{name}")


def model_registry(request: Request) -> Response:
    """Show what ``run.link_model`` filled: the portfolios of an entity's project ``model-registry``, or one version."""
    entity = request.path_params["entity"]
    return _show(request, entity, addresses.MODEL_REGISTRY, f"model registry of {entity}")


def _show(request: Request, entity: str, project: str, what: str) -> Response:
    backend = backend_of(request)
    selection = request.query_params.get("selectionPath")
    if selection is not None:
        return _show_selection(request, backend, selection)
    record = get_project(backend, entity, project)
    if record is None:
        raise PageNotFoundError(f"There is no {what}.")
    collections = list_collections(backend, entity, project)
    changes = [change for item in collections for change in alias_history(backend, item.id, limit=_CHANGES)]
    return render(
        request,
        "registry.html",
        project=record,
        title=what[0].upper() + what[1:],
        collections=[(collection, version_rows(backend, collection)) for collection in collections],
        changes=sorted(changes, key=lambda change: change.at, reverse=True)[:_CHANGES],
        reasons=reasons,
        protected=_protected(backend, entity, project),
        automation_count=count_automations(backend, entity, project),
    )


def reasons(collection: CollectionRecord, version: VersionRecord) -> list[tuple[str, str]]:
    """Return the aliases that Airflow gave a version, by its metadata, each with the page that says why."""
    found: dict[str, tuple[str, str]] = {}
    for key in _REASONS:
        given = version.metadata.get(key)
        for target, record in given.items() if isinstance(given, dict) else ():
            place, _, alias = target.rpartition(":")
            page = record.get("page") if isinstance(record, dict) else None
            if not isinstance(page, str) or not page.startswith(("http://", "https://")):
                continue
            if place.rpartition("/")[2] == collection.name:
                # Of a promotion and a rollback, the later one.
                found[alias] = max(found.get(alias, ("", "")), (str(record.get("at")), page))
    return [(alias, page) for alias, (_, page) in sorted(found.items())]


def _protected(backend: Backend, entity: str, project: str) -> list[str]:
    """Return the aliases that only admins of a registry may move."""
    with backend.store.read() as conn:
        row = conn.execute(
            "SELECT internal_id FROM projects WHERE entity = ? AND name = ?", (entity, project)
        ).fetchone()
        return [] if row is None else protection.listed(conn, row["internal_id"])


def _show_selection(request: Request, backend: Backend, selection: str) -> Response:
    entity, _, rest = selection.partition("/")
    project, _, name = rest.partition("/")
    collection = get_collection(backend, entity, project, name)
    if collection is None:
        raise PageNotFoundError(f"There is no collection {selection}.")
    return show_version(request, collection, request.query_params.get("version"))
