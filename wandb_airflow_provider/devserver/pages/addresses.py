"""Addresses of the pages, as the SDK builds them for runs and artifacts. Pure."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from wandb_airflow_provider.devserver.artifacts.collections import PORTFOLIO
from wandb_airflow_provider.devserver.artifacts.names import REGISTRY_PREFIX, is_registry
from wandb_airflow_provider.devserver.artifacts.queries import CollectionRecord
from wandb_airflow_provider.devserver.queries import RunRecord

MODEL_REGISTRY = "model-registry"


def project(entity: str, name: str) -> str:
    """Return the page of a project; that of a registry where the project is one."""
    if is_registry(name):
        return f"/orgs/{_part(entity)}/registry/{_part(registry_name(name))}"
    return f"/{_part(entity)}/{_part(name)}"


def runs(entity: str, name: str) -> str:
    """Return the table of the runs of a project."""
    return f"/{_part(entity)}/{_part(name)}/runs"


def automations(entity: str, name: str) -> str:
    """Return the page of the automations of a project or registry."""
    return f"/{_part(entity)}/{_part(name)}/automations"


def run(record: RunRecord) -> str:
    """Return the page of a run."""
    return f"/{_part(record.entity)}/{_part(record.project)}/runs/{_part(record.name)}"


def run_file(record: RunRecord, name: str) -> str:
    """Return where a file of a run can be read without a key."""
    return f"{run(record)}/files/{quote(name)}"


def group(entity: str, project_name: str, name: str) -> str:
    """Return the page of a group of runs, as of a DAG run."""
    return f"/{_part(entity)}/{_part(project_name)}/groups/{_part(name)}"


def sweep(entity: str, project_name: str, sweep_id: str) -> str:
    """Return the page of a sweep."""
    return f"/{_part(entity)}/{_part(project_name)}/sweeps/{_part(sweep_id)}"


def version(collection: CollectionRecord, number: int | None = None) -> str:
    """Return the page of a version in a collection; of the collection's newest one without a number."""
    entity, project_name, name = collection.entity, collection.project, collection.name
    is_link = collection.kind == PORTFOLIO
    if is_link and (
        is_registry(project_name) or collection.type == "model" or project_name == MODEL_REGISTRY
    ):
        query = {"selectionPath": f"{entity}/{project_name}/{name}", "view": "membership"}
        if number is not None:
            query["version"] = f"v{number}"
        where = (
            project(entity, project_name) if is_registry(project_name) else f"/{_part(entity)}/registry/model"
        )
        return f"{where}?{urlencode(query, quote_via=quote, safe='')}"
    path = f"/{_part(entity)}/{_part(project_name)}/artifacts/{_part(collection.type)}/{_part(name)}"
    return path if number is None else f"{path}/v{number}"


def version_file(source: CollectionRecord, number: int, path: str) -> str:
    """Return where a file of a version can be read, in the sequence where it was logged."""
    base = (
        f"/{_part(source.entity)}/{_part(source.project)}/artifacts/{_part(source.type)}/{_part(source.name)}"
    )
    return f"{base}/v{number}/files/{quote(path)}"


def registry_name(project_name: str) -> str:
    """Return a registry's name without the prefix of its project."""
    return project_name.removeprefix(REGISTRY_PREFIX)


def registry_project(name: str) -> str:
    """Return the name of the project that a registry is."""
    return REGISTRY_PREFIX + name


def _part(text: str) -> str:
    return quote(text, safe="")
