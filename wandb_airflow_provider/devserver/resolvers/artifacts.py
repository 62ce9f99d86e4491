"""Versions of artifacts: reading, logging, changing, deleting, and their edges to runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.artifacts import (
    aliases,
    collections,
    edges,
    lifetimes,
    memberships,
    names,
    nodes,
    roles,
    saving,
    versions,
)
from wandb_airflow_provider.devserver.artifacts.access import (
    readable_artifact,
    require_artifact_write,
    require_download,
)
from wandb_airflow_provider.devserver.graphql.registry import (
    GraphQLError,
    RequestContext,
    connection,
    field,
    mutation,
    query,
)
from wandb_airflow_provider.devserver.resolvers.projects import get_project
from wandb_airflow_provider.devserver.resolvers.runs import run_node
from wandb_airflow_provider.devserver.runs_table import get_run, get_run_by_id

Args = dict[str, Any]
Parent = Mapping[str, Any]


@query("artifact")
def artifact(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return a version by id, or null."""
    with ctx.store.read() as conn:
        row = readable_artifact(ctx, conn, args["id"])
    return None if row is None else nodes.artifact_node(row)


@query("clientIDMapping")
def client_id_mapping(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the id of the version that a client logged under an id of its own, or null."""
    with ctx.store.read() as conn:
        row = versions.of_client(conn, args["clientID"])
        row = None if row is None else readable_artifact(ctx, conn, row["id"])
    return None if row is None else {"__typename": "ClientIDMapping", "serverID": row["id"]}


@mutation("createArtifact")
def create_artifact(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Start a version, or find the one that has this content already."""
    entity, project_name = args["entityName"], args["projectName"]
    ctx.user.require_write(entity)
    collection_name = args.get("artifactCollectionName") or (args.get("artifactCollectionNames") or [""])[0]
    with ctx.store.write() as conn:
        project = get_project(conn, entity, project_name)
        if project is None:
            raise GraphQLError(f"project '{entity}/{project_name}' not found.", 404)
        roles.require(ctx, conn, project)
        run = _run(conn, entity, project_name, args["runName"]) if args.get("runName") else None
        collection = collections.ensure_sequence(
            ctx, conn, project, collection_name, args["artifactTypeName"]
        )
        row = saving.create(ctx, conn, collection, run, args)
    return {"__typename": "CreateArtifactPayload", "artifact": nodes.artifact_node(row)}


@mutation("commitArtifact")
def commit_artifact(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Finish a version."""
    with ctx.store.write() as conn:
        row = require_artifact_write(ctx, conn, args["artifactID"])
        row = saving.commit(ctx, conn, row)
    return {"__typename": "CommitArtifactPayload", "artifact": nodes.artifact_node(row)}


@mutation("updateArtifact")
def update_artifact(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Change the description, metadata, time to live, tags or aliases of a version."""
    with ctx.store.write() as conn:
        row = require_artifact_write(ctx, conn, args["artifactID"])
        row = versions.update(ctx, conn, row, args)
    return {"__typename": "UpdateArtifactPayload", "artifact": nodes.artifact_node(row)}


@mutation("deleteArtifact")
def delete_artifact(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Delete a version."""
    with ctx.store.write() as conn:
        row = require_artifact_write(ctx, conn, args["artifactID"])
        row = versions.delete(ctx, conn, row, delete_aliases=bool(args.get("deleteAliases")))
    return {"__typename": "DeleteArtifactPayload", "artifact": nodes.artifact_node(row), "success": True}


@mutation("useArtifact")
def use_artifact(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Note that a run uses a version."""
    entity, project_name = args["entityName"], args["projectName"]
    ctx.user.require_write(entity)
    with ctx.store.write() as conn:
        row = require_download(ctx, conn, args["artifactID"])
        versions.require_not_deleted(row)
        run = _run(conn, entity, project_name, args["runName"])
        found = (args.get("artifactEntityName"), args.get("artifactProjectName"))
        edges.add_input(ctx, conn, run["id"], row["id"], "/".join(map(str, found)) if all(found) else None)
    return {"__typename": "UseArtifactPayload", "artifact": nodes.artifact_node(row)}


@mutation("addAliases")
def add_aliases(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Point aliases to a version, in the collections that each names."""
    with ctx.store.write() as conn:
        for membership, alias in _alias_targets(ctx, conn, args):
            aliases.assign(ctx, conn, membership, [names.check_alias(alias)], "edited")
    return {"__typename": "AddAliasesPayload", "success": True}


@mutation("deleteAliases")
def delete_aliases(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Take aliases from a version, in the collections that each names."""
    with ctx.store.write() as conn:
        for membership, alias in _alias_targets(ctx, conn, args):
            aliases.remove(ctx, conn, membership, [alias], "edited")
    return {"__typename": "DeleteAliasesPayload", "success": True}


@field("Artifact", "artifactSequence")
def artifact_sequence(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Return the sequence that a version was logged to."""
    with ctx.store.read() as conn:
        return nodes.collection_node(collections.get(conn, parent["_collection_id"]))


@field("Artifact", "artifactType")
def artifact_type(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Return the type of a version."""
    with ctx.store.read() as conn:
        collection = collections.get(conn, parent["_collection_id"])
    return nodes.type_node(collection["project_id"], collection["type_name"], collection["created_at"])


@field("Artifact", "ttlDurationSeconds")
def artifact_ttl(ctx: RequestContext, parent: Parent, args: Args) -> int:
    """Return how long a version lives from its creation on, inherited or not, in seconds; -2 if it has no end."""
    with ctx.store.read() as conn:
        seconds = lifetimes.seconds_of(conn, parent["_row"])
    return lifetimes.DISABLED if seconds is None else seconds


@field("Artifact", "tags")
def artifact_tags(ctx: RequestContext, parent: Parent, args: Args) -> list[dict[str, Any]]:
    """List the tags of a version."""
    with ctx.store.read() as conn:
        return [nodes.tag_node(row) for row in versions.tags(conn, parent["id"])]


@field("Artifact", "aliases")
def artifact_aliases(ctx: RequestContext, parent: Parent, args: Args) -> list[dict[str, Any]]:
    """List the aliases of a version in all its collections; clients pick by collection."""
    with ctx.store.read() as conn:
        return [nodes.alias_node(row) for row in aliases.of_artifact(conn, parent["id"])]


@field("Artifact", "artifactMemberships")
def artifact_memberships(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the collections that a version is in."""
    with ctx.store.read() as conn:
        rows = memberships.of_artifact(conn, parent["id"])
    found = [nodes.membership_node(row) for row in rows]
    return connection(found, args, typename="ArtifactCollectionMembershipConnection")


@field("Artifact", "usedBy")
def used_by(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the runs that used a version."""
    with ctx.store.read() as conn:
        rows = [get_run_by_id(conn, run_id) for run_id in edges.runs_of(conn, parent["id"], edges.INPUT)]
    return connection([run_node(ctx, row) for row in rows if row is not None], args, typename="RunConnection")


@field("Artifact", "createdBy")
def created_by(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any] | None:
    """Return the run that logged a version first."""
    with ctx.store.read() as conn:
        run_id = edges.creator_of(conn, parent["id"])
        row = None if run_id is None else get_run_by_id(conn, run_id)
    return None if row is None else run_node(ctx, row)


@field("Run", "outputArtifacts")
def output_artifacts(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the versions that a run logged."""
    return _artifacts_of(ctx, parent["id"], edges.OUTPUT, args)


@field("Run", "inputArtifacts")
def input_artifacts(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the versions that a run used."""
    return _artifacts_of(ctx, parent["id"], edges.INPUT, args)


def _artifacts_of(ctx: RequestContext, run_id: str, kind: str, args: Args) -> dict[str, Any]:
    with ctx.store.read() as conn:
        rows = edges.artifacts_of(conn, run_id, kind)
    return connection([nodes.artifact_node(row) for row in rows], args, typename="ArtifactConnection")


def _run(conn: sqlite3.Connection, entity: str, project: str, name: str) -> sqlite3.Row:
    row = get_run(conn, entity, project, name)
    if row is None:
        raise GraphQLError(f"run '{entity}/{project}/{name}' not found.", 404)
    return row


def _alias_targets(
    ctx: RequestContext, conn: sqlite3.Connection, args: Args
) -> list[tuple[sqlite3.Row, str]]:
    artifact_row = readable_artifact(ctx, conn, args["artifactID"])
    if artifact_row is None:
        raise GraphQLError(f"artifact with id {args['artifactID']!r} not found.", 404)
    versions.require_not_deleted(artifact_row)
    targets = []
    for item in args["aliases"]:
        entity, project_name, name = item["entityName"], item["projectName"], item["artifactCollectionName"]
        ctx.user.require_write(entity)
        project = get_project(conn, entity, project_name)
        collection = None if project is None else collections.find(conn, project["internal_id"], name)
        if collection is None:
            raise GraphQLError(f"artifact collection '{entity}/{project_name}/{name}' not found.", 404)
        assert project is not None
        roles.require(ctx, conn, project)
        membership = memberships.in_collection(conn, collection["id"], artifact_row["id"])
        if membership is None:
            raise GraphQLError(
                f"cannot change aliases in '{entity}/{project_name}/{name}': the artifact version is not in it."
            )
        targets.append((membership, str(item["alias"])))
    return targets
