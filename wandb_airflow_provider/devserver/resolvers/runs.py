"""Reading runs: one, many, and what a resuming client needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.clock import api_time, stamp
from wandb_airflow_provider.devserver.graphql.registry import (
    GraphQLError,
    RequestContext,
    connection,
    field,
    page_bounds,
)
from wandb_airflow_provider.devserver.history import EVENTS, HISTORY, OUTPUT, line_count, tail
from wandb_airflow_provider.devserver.resolvers.projects import get_project, project_node
from wandb_airflow_provider.devserver.run_fields import sdk_config
from wandb_airflow_provider.devserver.runs_table import (
    count_runs,
    current_state,
    find_runs,
    get_run,
    get_run_by_id,
    select_runs,
    update_run,
)
from wandb_airflow_provider.devserver.store import dumps, loads

__all__ = ["get_run", "get_run_by_id", "run_node"]


def run_node(ctx: RequestContext, row: sqlite3.Row) -> dict[str, Any]:
    """Return the object of a run's row; what needs more than the row is in resolvers of fields."""
    return {
        "__typename": "Run",
        "id": row["id"],
        "name": row["name"],
        "displayName": row["display_name"],
        "state": current_state(row, ctx.now()),
        "config": row["config"],
        "summaryMetrics": row["summary"],
        "tags": loads(row["tags"]),
        "notes": row["notes"],
        "description": row["description"],
        "group": row["group_name"],
        "groupName": row["group_name"],
        "jobType": row["job_type"],
        "sweepName": row["sweep"],
        "host": row["host"],
        "commit": row["commit_sha"],
        "repo": row["repo"],
        "program": row["program"],
        "jobProgram": row["program"],
        "createdAt": api_time(row["created_at"]),
        "updatedAt": api_time(row["heartbeat_at"]),
        "heartbeatAt": api_time(row["heartbeat_at"]),
        "finishedAt": api_time(row["finished_at"]),
        "exitCode": row["exit_code"],
        "stopped": bool(row["stop_requested"]),
        "shouldStop": bool(row["stop_requested"]),
        "readOnly": not ctx.user.may_write(row["entity"]),
        "_pk": row["pk"],
        "_entity": row["entity"],
        "_project": row["project"],
        "_user": row["user"],
    }


@field("Project", "run")
def project_run(
    ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]
) -> dict[str, Any] | None:
    """Return a run of a project by its short id, or null."""
    with ctx.store.read() as conn:
        row = get_run(conn, parent["entityName"], parent["name"], args["name"])
    return None if row is None else run_node(ctx, row)


@field("Project", "bucket")
def project_bucket(
    ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]
) -> dict[str, Any] | None:
    """
    Return a run to a client that is about to resume it; a missing one is an error unless ``missingOk``.

    The question is remembered: opening a run without having asked means to start it over.
    """
    run = project_run(ctx, parent, args)
    if run is None:
        if args.get("missingOk"):
            return None
        path = f"{parent['entityName']}/{parent['name']}/{args['name']}"
        raise GraphQLError(f"run {path!r} does not exist.", 404)
    with ctx.store.write() as conn:
        update_run(conn, run["_pk"], {"resume_asked_at": stamp(ctx.now())})
    return run


@field("Project", "runs")
def project_runs(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """List runs of a project that pass a filter."""
    entity, project, filters = parent["entityName"], parent["name"], args.get("filters")
    total, among = _matching(ctx, parent, filters)
    start, stop = page_bounds(args, total)
    with ctx.store.read() as conn:
        rows = select_runs(
            conn, entity, project, filters, ctx.now(), args.get("order"), start, stop - start, among
        )
    return connection([run_node(ctx, row) for row in rows], args, total, "RunConnection")


@field("Project", "runCount")
@field("Project", "totalRuns")
def run_count(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> int:
    """Return how many runs of a project pass a filter."""
    return _matching(ctx, parent, args.get("filters"))[0]


def _matching(ctx: RequestContext, parent: Mapping[str, Any], filters: Any) -> tuple[int, list[int] | None]:
    """Return how many runs pass a filter, and which, once per request: a listing asks for the number too."""
    entity, project = parent["entityName"], parent["name"]
    key = ("runs", entity, project, filters if isinstance(filters, str) else dumps(filters))
    if key not in ctx.memo:
        with ctx.store.read() as conn:
            if filters in (None, "", "{}"):
                ctx.memo[key] = count_runs(conn, entity, project, None, ctx.now()), None
            else:
                found = find_runs(conn, entity, project, filters, ctx.now())
                ctx.memo[key] = len(found), found
    matching: tuple[int, list[int] | None] = ctx.memo[key]
    return matching


@field("Run", "project")
def run_project(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Return the project that a run is in."""
    return project_node(ctx, _project_row(ctx, parent))


@field("Run", "projectId")
def run_project_id(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> int:
    """Return the number of the project that a run is in."""
    return int(_project_row(ctx, parent)["internal_id"])


def _project_row(ctx: RequestContext, parent: Mapping[str, Any]) -> sqlite3.Row:
    key = ("project", parent["_entity"], parent["_project"])
    if key not in ctx.memo:
        with ctx.store.read() as conn:
            ctx.memo[key] = get_project(conn, parent["_entity"], parent["_project"])
    row: sqlite3.Row = ctx.memo[key]
    return row


@field("Run", "wandbConfig")
def wandb_config(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> str:
    """Return entries of the SDK's own part of the config as JSON text; ``t`` says that the run has been started."""
    own = sdk_config(parent["config"])
    keys = args.get("keys")
    return dumps(own if keys is None else {key: own[key] for key in keys if key in own})


@field("Run", "historyLineCount")
def history_line_count(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> int:
    """Return how many history lines a run has."""
    with ctx.store.read() as conn:
        return line_count(conn, parent["_pk"], HISTORY)


@field("Run", "eventsLineCount")
def events_line_count(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> int:
    """Return how many system events a run has."""
    with ctx.store.read() as conn:
        return line_count(conn, parent["_pk"], EVENTS)


@field("Run", "logLineCount")
def log_line_count(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> int:
    """Return how many console lines a run has."""
    with ctx.store.read() as conn:
        return line_count(conn, parent["_pk"], OUTPUT)


@field("Run", "historyTail")
def history_tail(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> str:
    """Return the last history line, as JSON text of a list of JSON texts."""
    with ctx.store.read() as conn:
        return dumps(tail(conn, parent["_pk"], HISTORY))


@field("Run", "eventsTail")
def events_tail(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> str:
    """Return the last system event, as JSON text of a list of JSON texts."""
    with ctx.store.read() as conn:
        return dumps(tail(conn, parent["_pk"], EVENTS))


@field("Run", "systemMetrics")
def system_metrics(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> str:
    """Return the last system event as JSON text."""
    with ctx.store.read() as conn:
        lines = tail(conn, parent["_pk"], EVENTS)
    return lines[0] if lines else "{}"
