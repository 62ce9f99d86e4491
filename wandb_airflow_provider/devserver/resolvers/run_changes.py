"""Changing runs: open, resume, edit, stop, delete."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from wandb_airflow_provider.devserver.accounts import FOLDERS
from wandb_airflow_provider.devserver.artifacts import edges, versions
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext, mutation
from wandb_airflow_provider.devserver.history import delete_lines
from wandb_airflow_provider.devserver.json_text import parse_object, stored_text
from wandb_airflow_provider.devserver.resolvers.projects import ensure_project
from wandb_airflow_provider.devserver.resolvers.run_branches import branch_point, fork
from wandb_airflow_provider.devserver.resolvers.runs import run_node
from wandb_airflow_provider.devserver.run_fields import sdk_config
from wandb_airflow_provider.devserver.run_names import display_name
from wandb_airflow_provider.devserver.run_state import ALIVE, FINAL, QUEUED
from wandb_airflow_provider.devserver.runs_table import (
    REOPENED,
    current_state,
    get_run,
    get_run_by_id,
    insert_run,
    is_deleted,
    update_run,
)
from wandb_airflow_provider.devserver.store import dumps

# Those that the SDK refuses, and those that its documentation forbids: an address with a % leads elsewhere.
_FORBIDDEN = ":;,#?/'%\\"
_LONGEST_NAME = 128
_LONGEST_TAG = 64
_RESUME_SECONDS = 300.0
# Number of shared mode in wandb's list of features in use (``wandb_telemetry.proto``).
_SHARED_MODE = 67
_ORIGIN = ("host", "jobProgram", "commit")
_STATES = ("pending", "running", *FINAL)
_COLUMNS = {
    "displayName": "display_name",
    "groupName": "group_name",
    "jobType": "job_type",
    "notes": "notes",
    "description": "description",
    "host": "host",
    "jobProgram": "program",
    "jobRepo": "repo",
    "commit": "commit_sha",
    "sweep": "sweep",
}


@mutation("upsertBucket")
def upsert_bucket(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """
    Open or update a run under its short id, or change one by its global id.

    A process that opens a run which has ended resumes it if it has asked for the run's status just before, and
    starts it over if not. One that opens a running run joins it. The id of a deleted run is refused.
    """
    with ctx.store.write() as conn:
        if args.get("name"):
            row, inserted = _open(ctx, conn, args)
        else:
            row, inserted = _edit(ctx, conn, args), False
    return {"__typename": "UpsertBucketPayload", "bucket": run_node(ctx, row), "inserted": inserted}


def _open(ctx: RequestContext, conn: sqlite3.Connection, args: Mapping[str, Any]) -> tuple[sqlite3.Row, bool]:
    name = _valid_name(args["name"])
    project = ensure_project(ctx, conn, args.get("entityName"), args.get("modelName"))
    entity, project_name = project["entity"], project["name"]
    if is_deleted(conn, entity, project_name, name):
        raise GraphQLError(
            f"run {name!r} in project '{entity}/{project_name}' was created and then deleted: its id can never be used"
            " again. Start the run under a new id."
        )
    now = stamp(ctx.now())
    values = _values(args)
    row = get_run(conn, entity, project_name, name)
    starts = row is None
    if row is None:
        values.setdefault("display_name", display_name(ctx.ids))
        values.setdefault("state", "running")
        values |= {"user": ctx.user.username, "created_at": now, "heartbeat_at": now}
        insert_run(conn, entity, project_name, name, values)
    else:
        resumes = _asked_to_resume(ctx, row)
        shared = _is_shared(values.get("config"))
        if shared:
            values["config"] = dumps(json.loads(row["config"]) | json.loads(values["config"]))
        # A starting process says where it runs; its later updates of config or name do not.
        if resumes or row["state"] == QUEUED or any(args.get(name) for name in _ORIGIN):
            values = REOPENED | values
            starts = not (resumes or shared or current_state(row, ctx.now()) in ALIVE)
        if starts:
            delete_lines(conn, row["pk"])
            values["summary"] = values.get("summary", "{}")
        update_run(conn, row["pk"], values | {"heartbeat_at": now})
    found = get_run(conn, entity, project_name, name)
    assert found is not None
    point = branch_point(values.get("config")) if starts else None
    if point is not None:
        fork(conn, found, *point)
    return found, row is None


def _asked_to_resume(ctx: RequestContext, row: sqlite3.Row) -> bool:
    asked = row["resume_asked_at"]
    return asked is not None and asked >= stamp(ctx.now() - timedelta(seconds=_RESUME_SECONDS))


def _is_shared(config: str | None) -> bool:
    """Tell whether a process opens a run in shared mode, from what the SDK notes of itself in the config."""
    telemetry = sdk_config(config).get("t")
    features = telemetry.get("3") if isinstance(telemetry, dict) else None
    return isinstance(features, list) and _SHARED_MODE in features


def _edit(ctx: RequestContext, conn: sqlite3.Connection, args: Mapping[str, Any]) -> sqlite3.Row:
    row = _writable(ctx, conn, args.get("id"))
    update_run(conn, row["pk"], _values(args))
    found = get_run_by_id(conn, row["id"])
    assert found is not None
    return found


def _values(args: Mapping[str, Any]) -> dict[str, Any]:
    values = {column: args[name] for name, column in _COLUMNS.items() if args.get(name) is not None}
    for name, column in (("config", "config"), ("summaryMetrics", "summary")):
        if args.get(name) is not None:
            values[column] = stored_text(parse_object(f"{name} of a run", args[name]))
    if args.get("tags") is not None:
        values["tags"] = dumps([_valid_tag(tag) for tag in args["tags"]])
    if args.get("state"):
        if args["state"] not in _STATES:
            raise GraphQLError(
                f"a run cannot be in the state {args['state']!r}; it can be in {', '.join(_STATES)}."
            )
        values["state"] = args["state"]
    return values


def _valid_name(name: str) -> str:
    if len(name) > _LONGEST_NAME or name in FOLDERS or any(char in _FORBIDDEN for char in name):
        raise GraphQLError(
            f"invalid run id {name!r}: at most {_LONGEST_NAME} characters, none of {' '.join(_FORBIDDEN)}, and not"
            " only one or two dots."
        )
    return name


def _valid_tag(tag: str) -> str:
    if not 1 <= len(tag) <= _LONGEST_TAG:
        raise GraphQLError(f"invalid run tag {tag!r}: a tag has 1 to {_LONGEST_TAG} characters.")
    return tag


def _writable(ctx: RequestContext, conn: sqlite3.Connection, run_id: str | None) -> sqlite3.Row:
    row = get_run_by_id(conn, run_id or "")
    if row is None or not ctx.user.may_read(row["entity"]):
        raise GraphQLError(f"there is no run with the id {run_id!r}.", 404)
    ctx.user.require_write(row["entity"])
    return row


@mutation("deleteRun")
def delete_run(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """
    Delete a run and what it has streamed; its id stays taken.

    Artifacts that it made are kept unless ``deleteArtifacts``; then they go with their aliases and links.
    """
    with ctx.store.write() as conn:
        row = _writable(ctx, conn, args.get("id"))
        if args.get("deleteArtifacts"):
            for artifact in edges.artifacts_of(conn, row["id"], edges.OUTPUT):
                if artifact["state"] != "DELETED" and edges.creator_of(conn, artifact["id"]) == row["id"]:
                    versions.delete(ctx, conn, artifact, delete_aliases=True)
        delete_lines(conn, row["pk"])
        conn.execute("DELETE FROM run_files WHERE run = ?", (row["pk"],))
        update_run(conn, row["pk"], {"deleted_at": stamp(ctx.now()), "config": "{}", "summary": "{}"})
    return {"__typename": "DeleteRunPayload", "success": True}


@mutation("stopRun")
def stop_run(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Ask a run to stop: the answer to its next message says so."""
    with ctx.store.write() as conn:
        row = _writable(ctx, conn, args.get("id"))
        update_run(conn, row["pk"], {"stop_requested": 1})
    return {"__typename": "StopRunPayload", "success": True}


@mutation("updateRunState")
def update_run_state(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Set a run pending again, or declare it failed, from the states in which W&B allows that."""
    allowed = {
        "pending": ("running", "failed", "crashed", "preempted"),
        "failed": ("pending", "running", "crashed", "preempted"),
    }
    wanted = str(args.get("state"))
    with ctx.store.write() as conn:
        row = _writable(ctx, conn, args.get("id"))
        current = current_state(row, ctx.now())
        if current not in allowed.get(wanted, ()):
            raise GraphQLError(f"run {row['name']!r} is {current}: it cannot be set to {wanted!r}.")
        update_run(conn, row["pk"], {"state": wanted})
    return {"__typename": "UpdateRunStatePayload", "success": True}
