"""The page of an artifact: its versions and aliases, one version's files and metadata, and its lineage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from wandb_airflow_provider.devserver.artifacts.queries import (
    CollectionRecord,
    EntryRecord,
    VersionRecord,
    alias_history,
    get_collection,
    get_version,
    list_edges,
    list_entries,
    list_places,
    list_versions,
)
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.blobs import base64_to_hex
from wandb_airflow_provider.devserver.endpoint import backend_of
from wandb_airflow_provider.devserver.pages.comparison import Comparison, compare
from wandb_airflow_provider.devserver.pages.lineage import find_place, trace
from wandb_airflow_provider.devserver.pages.not_found import PageNotFoundError
from wandb_airflow_provider.devserver.pages.records import find_run_by_id
from wandb_airflow_provider.devserver.pages.run_page import FILE_HEADERS
from wandb_airflow_provider.devserver.pages.templating import render
from wandb_airflow_provider.devserver.queries import RunRecord
from wandb_airflow_provider.devserver.uploads import download_path

_SHOWN_FILES = 200


@dataclass(frozen=True)
class VersionRow:
    """
    A version in the list of a collection.

    :param run: The run that logged it, or None.
    :param source: Where a linked version was logged, or None if that is here or gone.
    """

    version: VersionRecord
    run: RunRecord | None
    source: tuple[CollectionRecord, VersionRecord] | None


def artifact(request: Request) -> Response:
    """Show a version of a collection; the newest one if none is named."""
    path = request.path_params
    backend = backend_of(request)
    collection = _collection(backend, path["entity"], path["project"], path["collection"], path["type"])
    return show_version(request, collection, path.get("version"))


def show_version(request: Request, collection: CollectionRecord, wanted: str | None) -> Response:
    """
    Return the page of a version.

    :param wanted: ``vN`` or an alias; None for the newest.
    """
    backend = backend_of(request)
    rows = version_rows(backend, collection)
    if wanted is None and collection.latest_version is None:
        raise PageNotFoundError(
            f"Artifact {collection.entity}/{collection.project}/{collection.name} has no versions."
        )
    selected = _version(backend, collection, wanted or f"v{collection.latest_version}")
    place = find_place(backend, selected.artifact_id)
    shown = {collection.id, place[0].id} if place else {collection.id}
    entries = list_entries(backend, selected.artifact_id)
    now = backend.now()
    return render(
        request,
        "artifact.html",
        collection=collection,
        rows=rows,
        selected=next(row for row in rows if row.version.version == selected.version),
        places=[item for item in list_places(backend, selected.artifact_id) if item[0].id not in shown],
        entries=[(entry, _download(backend, entry, now)) for entry in entries[:_SHOWN_FILES]],
        more_entries=max(0, len(entries) - _SHOWN_FILES),
        source=place,
        lineage=trace(backend, place or (collection, selected)),
        changes=list(reversed(alias_history(backend, collection.id))),
        comparison=_compare(backend, collection, rows, selected, request.query_params.get("compare")),
    )


def _compare(
    backend: Backend,
    collection: CollectionRecord,
    rows: Sequence[VersionRow],
    selected: VersionRecord,
    wanted: str | None,
) -> Comparison | None:
    """Return what has changed since another version, by default the one before; None if there is none."""
    if wanted is not None:
        other: VersionRecord | None = _version(backend, collection, wanted)
    else:
        older = (row.version for row in rows if row.version.version < selected.version)
        other = next(older, None)
    if other is None or other.artifact_id == selected.artifact_id:
        return None
    return compare(
        other.version,
        other.metadata,
        selected.metadata,
        list_entries(backend, other.artifact_id),
        list_entries(backend, selected.artifact_id),
    )


def _download(backend: Backend, entry: EntryRecord, now: datetime) -> str | None:
    """Return where a file can be downloaded for an hour; None for a reference."""
    if entry.ref is not None:
        return None
    return download_path(backend.signer, now, base64_to_hex(entry.digest), entry.path)


def version_rows(backend: Backend, collection: CollectionRecord) -> list[VersionRow]:
    """Return the versions of a collection, newest first, with where they come from."""
    return [
        VersionRow(
            version,
            _creator(backend, version),
            find_place(backend, version.artifact_id) if version.is_link else None,
        )
        for version in list_versions(backend, collection.id)
    ]


def file(request: Request) -> Response:
    """Return a file of a version as it was logged."""
    backend, path = backend_of(request), request.path_params
    collection = _collection(backend, path["entity"], path["project"], path["collection"], path["type"])
    version = _version(backend, collection, path["version"])
    for entry in list_entries(backend, version.artifact_id):
        if entry.path == path["path"] and entry.ref is None:
            return FileResponse(
                backend.blobs.path(base64_to_hex(entry.digest)),
                media_type="text/plain; charset=utf-8"
                if _is_text(entry.path)
                else "application/octet-stream",
                headers=FILE_HEADERS,
            )
    raise PageNotFoundError(f"{collection.name}:v{version.version} has no file {path['path']}.")


def _collection(backend: Backend, entity: str, project: str, name: str, type_name: str) -> CollectionRecord:
    collection = get_collection(backend, entity, project, name)
    if collection is None or collection.type != type_name:
        raise PageNotFoundError(f"Project {entity}/{project} has no artifact {name} of type {type_name}.")
    return collection


def _version(backend: Backend, collection: CollectionRecord, wanted: str) -> VersionRecord:
    version = get_version(backend, collection.id, wanted)
    if version is None:
        where = f"{collection.entity}/{collection.project}/{collection.name}"
        raise PageNotFoundError(f"Artifact {where} has no version or alias {wanted}.")
    return version


def _creator(backend: Backend, version: VersionRecord) -> RunRecord | None:
    """Return the run that first logged a version, or None if there was none or it was deleted."""
    outputs = (edge for edge in list_edges(backend, version.artifact_id) if edge.kind == "output")
    return next((run for run in (find_run_by_id(backend, edge.run_id) for edge in outputs) if run), None)


def _is_text(path: str) -> bool:
    return path.endswith(
        (".json", ".jsonl", ".txt", ".md", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".py", ".html")
    )
