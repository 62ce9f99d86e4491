"""Sweeps: create and change them, read them, and answer their agents."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from wandb_airflow_provider.devserver.clock import api_time, stamp
from wandb_airflow_provider.devserver.graphql.registry import (
    GraphQLError,
    RequestContext,
    connection,
    field,
    mutation,
    page_bounds,
)
from wandb_airflow_provider.devserver.resolvers.projects import ensure_project, get_project, project_node
from wandb_airflow_provider.devserver.resolvers.runs import project_runs, run_node
from wandb_airflow_provider.devserver.runs_table import select_runs, update_run
from wandb_airflow_provider.devserver.store import dumps
from wandb_airflow_provider.devserver.sweeps import agents, state
from wandb_airflow_provider.devserver.sweeps.config import SweepConfig, read_config
from wandb_airflow_provider.devserver.sweeps.filters import passes, read_filter
from wandb_airflow_provider.devserver.sweeps.tables import (
    get_agent,
    get_sweep,
    get_sweep_by_id,
    given_runs,
    insert,
    list_agents,
    list_sweeps,
    member_runs,
    sweep_of,
    update,
)


def sweep_node(ctx: RequestContext, conn: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    """Return the object of a sweep's row."""
    members = member_runs(conn, row)
    heartbeats = [agent["heartbeat_at"] for agent in list_agents(conn, row["pk"])]
    settings = json.loads(row["settings"])
    return {
        "__typename": "Sweep",
        "id": row["id"],
        "name": row["name"],
        "displayName": row["display_name"],
        "description": row["description"],
        "method": settings["method"],
        "state": state.sweep_state(row, members, ctx.now()),
        "config": row["config"],
        "bestLoss": state.best_value(row, members),
        "runCount": len(members),
        "runCountExpected": row["expected_runs"],
        "earlyStopJobRunning": bool(settings.get("early_terminate")),
        "controller": None,
        "scheduler": None,
        "user": row["user"],
        "createdAt": api_time(row["created_at"]),
        "updatedAt": api_time(row["updated_at"]),
        "heartbeatAt": api_time(max(heartbeats, default=None)),
        "_row": row,
    }


def _agent_node(
    ctx: RequestContext, conn: sqlite3.Connection, sweep: sqlite3.Row, row: sqlite3.Row
) -> dict[str, Any]:
    return {
        "__typename": "Agent",
        "id": row["id"],
        "name": row["name"],
        "host": row["host"],
        "state": state.agent_state(row, ctx.now()),
        "totalRuns": len(given_runs(conn, row["pk"])),
        "createdAt": api_time(row["created_at"]),
        "heartbeatAt": api_time(row["heartbeat_at"]),
        "_pk": row["pk"],
        "_entity": sweep["entity"],
        "_project": sweep["project"],
    }


@field("Project", "sweep")
def project_sweep(
    ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]
) -> dict[str, Any] | None:
    """Return a sweep of a project by its short id, or null."""
    with ctx.store.read() as conn:
        row = get_sweep(conn, parent["entityName"], parent["name"], args.get("sweepName") or "")
        return None if row is None else sweep_node(ctx, conn, row)


@field("Project", "sweeps")
def project_sweeps(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """List the sweeps of a project that pass a filter, newest first."""
    wanted = read_filter(args.get("filters"))
    with ctx.store.read() as conn:
        rows = list_sweeps(conn, parent["entityName"], parent["name"])
        if not wanted:
            start, stop = page_bounds(args, len(rows))
            page = [sweep_node(ctx, conn, row) for row in rows[start:stop]]
            return connection(page, args, len(rows), "SweepConnection")
        nodes = [sweep_node(ctx, conn, row) for row in rows]
    found = [node for node in nodes if passes(node, json.loads(node["_row"]["settings"]), wanted)]
    return connection(found, args, typename="SweepConnection")


@field("Project", "totalSweeps")
def total_sweeps(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> int:
    """Return how many sweeps a project has."""
    with ctx.store.read() as conn:
        return len(list_sweeps(conn, parent["entityName"], parent["name"]))


@field("Sweep", "project")
def sweep_project(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Return the project that a sweep is in."""
    with ctx.store.read() as conn:
        row = get_project(conn, parent["_row"]["entity"], parent["_row"]["project"])
    assert row is not None
    return project_node(ctx, row)


@field("Sweep", "runs")
def sweep_runs(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """List the runs of a sweep that pass a filter, oldest first unless an order is given."""
    row = parent["_row"]
    wanted = json.loads(args.get("filters") or "{}")
    filters = dumps({"$and": [{"sweep": row["name"]}, wanted]})
    where = {"entityName": row["entity"], "name": row["project"]}
    return project_runs(ctx, where, {**args, "filters": filters})


@field("Sweep", "agents")
def sweep_agents(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """List the agents of a sweep, oldest first."""
    with ctx.store.read() as conn:
        sweep = parent["_row"]
        nodes = [_agent_node(ctx, conn, sweep, row) for row in list_agents(conn, sweep["pk"])]
    return connection(nodes, args, typename="AgentConnection")


@field("Sweep", "agent")
def sweep_agent(
    ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]
) -> dict[str, Any] | None:
    """Return an agent of a sweep by its name or its global id, or null."""
    with ctx.store.read() as conn:
        row = get_agent(conn, args.get("agentName") or "")
        if row is None or row["sweep"] != parent["_row"]["pk"]:
            return None
        return _agent_node(ctx, conn, parent["_row"], row)


@field("Agent", "runs")
def agent_runs(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """List the runs that an agent was given."""
    with ctx.store.read() as conn:
        given = [row["pk"] for row in given_runs(conn, parent["_pk"])]
        start, stop = page_bounds(args, len(given))
        place = (parent["_entity"], parent["_project"])
        rows = select_runs(conn, *place, None, ctx.now(), args.get("order"), start, stop - start, among=given)
    return connection([run_node(ctx, row) for row in rows], args, len(given), "RunConnection")


@field("Run", "running")
def run_running(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> bool:
    """Tell whether a run is under way."""
    return parent["state"] in ("running", "preempting")


@field("Run", "failed")
def run_failed(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> bool:
    """Tell whether a run has ended other than well."""
    return parent["state"] in ("failed", "crashed", "killed")


@field("Run", "exitcode")
def run_exit_code(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> int | None:
    """Return the exit code of a run under the name that sweeps ask for, or null."""
    code: int | None = parent["exitCode"]
    return code


@mutation("upsertSweep")
def upsert_sweep(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Create a sweep, or change one by its global id: its state, its names, and its config before the first run."""
    config = None if args.get("config") is None else read_config(args["config"])
    with _lock(ctx, args.get("id")), ctx.store.write() as conn:
        sweep_id = _changed(ctx, conn, args, config) if args.get("id") else _created(ctx, conn, args, config)
        row = get_sweep_by_id(conn, sweep_id)
        assert row is not None
        node = sweep_node(ctx, conn, row)
    warnings = [] if config is None else list(config.inspection.warnings)
    return {"__typename": "UpsertSweepPayload", "sweep": node, "configValidationWarnings": warnings}


def _lock(ctx: RequestContext, sweep_id: str | None) -> AbstractContextManager[Any]:
    """Return what keeps agents of a sweep from being answered meanwhile: none gets a run after a cancellation."""
    with ctx.store.read() as conn:
        row = get_sweep_by_id(conn, sweep_id or "")
    return nullcontext() if row is None else agents.exclusive(row["pk"])


def _created(
    ctx: RequestContext, conn: sqlite3.Connection, args: Mapping[str, Any], config: SweepConfig | None
) -> str:
    if config is None:
        raise GraphQLError("a new sweep needs a config.")
    project = ensure_project(ctx, conn, args.get("entityName"), args.get("projectName"))
    name, now = ctx.ids.token(8), stamp(ctx.now())
    sweep_id = ctx.ids.new("Sweep")
    values = {
        "id": sweep_id,
        "entity": project["entity"],
        "project": project["name"],
        "name": name,
        "display_name": args.get("displayName"),
        "description": args.get("description"),
        "state": state.PENDING,
        "seed": ctx.ids.token(16),
        "user": ctx.user.username,
        "created_at": now,
        "updated_at": now,
        **_config_columns(args["config"], config),
    }
    insert(conn, "sweeps", values)
    prior = args.get("priorRunsFilters")
    if prior:
        for run in select_runs(conn, project["entity"], project["name"], prior, ctx.now()):
            update_run(conn, run["pk"], {"sweep": name})
    return sweep_id


def _changed(
    ctx: RequestContext, conn: sqlite3.Connection, args: Mapping[str, Any], config: SweepConfig | None
) -> str:
    row = get_sweep_by_id(conn, args["id"])
    if row is None or not ctx.user.may_read(row["entity"]):
        raise GraphQLError(f"there is no sweep with the id {args['id']!r}.", 404)
    ctx.user.require_write(row["entity"])
    members = member_runs(conn, row)
    changes: dict[str, Any] = {"updated_at": stamp(ctx.now())}
    if config is not None:
        if any(run["agent"] is not None for run in members):
            raise GraphQLError(
                f"the config of sweep {row['name']!r} can no longer be changed: it has started {len(members)} runs."
                " Create another sweep."
            )
        changes |= _config_columns(args["config"], config)
    for argument, column in (("displayName", "display_name"), ("description", "description")):
        if args.get(argument) is not None:
            changes[column] = args[argument]
    if args.get("state"):
        state.require_change(row["name"], state.sweep_state(row, members, ctx.now()), args["state"])
        changes |= {"state": args["state"]}
        if args["state"] == state.RUNNING:
            # A run that was deleted meanwhile frees its point of a grid.
            changes["exhausted"] = 0
    update(conn, "sweeps", row["pk"], changes)
    if args.get("state") == state.CANCELED:
        agents.cancel_runs(ctx, conn, row)
    return str(row["id"])


def _config_columns(text: str, config: SweepConfig) -> dict[str, Any]:
    return {"config": text, "settings": dumps(config.values), "expected_runs": config.expected_runs}


@mutation("createAgent")
def create_agent(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Add an agent to a sweep."""
    entity, project = args.get("entityName") or ctx.user.entity, args.get("projectName") or "uncategorized"
    name = args.get("sweep") or ""
    with ctx.store.read() as conn:
        sweep = get_sweep(conn, entity, project, name)
    if sweep is None or not ctx.user.may_read(entity):
        raise GraphQLError(f"sweep '{entity}/{project}/{name}' does not exist.", 404)
    ctx.user.require_write(entity)
    agent_id = agents.register(ctx, sweep, args.get("host") or "")
    with ctx.store.read() as conn:
        row = get_agent(conn, agent_id)
        assert row is not None
        return {"__typename": "CreateAgentPayload", "agent": _agent_node(ctx, conn, sweep, row)}


@mutation("agentHeartbeat")
def agent_heartbeat(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Note that an agent is alive and answer with commands, as JSON text."""
    with ctx.store.read() as conn:
        agent = get_agent(conn, args.get("id") or "")
        sweep = None if agent is None else sweep_of(conn, agent)
    if agent is None or sweep is None or not ctx.user.may_read(sweep["entity"]):
        # The status by which an agent learns that its sweep is gone.
        raise GraphQLError(f"there is no sweep agent with the id {args.get('id')!r}.", 404)
    ctx.user.require_write(sweep["entity"])
    commands = agents.heartbeat(ctx, agent, _alive(args.get("runState")))
    with ctx.store.read() as conn:
        row = get_agent(conn, agent["id"])
        assert row is not None
        node = _agent_node(ctx, conn, sweep, row)
    return {"__typename": "AgentHeartbeatPayload", "agent": node, "commands": dumps(commands)}


def _alive(text: str | None) -> set[str]:
    try:
        states = json.loads(text or "{}")
    except ValueError as error:
        raise GraphQLError(f"runState of an agent's heartbeat is not valid JSON: {error}") from error
    if not isinstance(states, Mapping):
        raise GraphQLError(f"runState of an agent's heartbeat must be an object, not {states!r}.")
    return {name for name, running in states.items() if running}
