"""
What an agent is told at each heartbeat: run, resume, stop, exit, or nothing.

One agent has one run at a time. Of a sweep one heartbeat is answered at a time, so that no two agents get the same
point of a grid.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection
from typing import Any

from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext
from wandb_airflow_provider.devserver.history import read_history
from wandb_airflow_provider.devserver.json_text import stored_text
from wandb_airflow_provider.devserver.run_names import sweep_run_name
from wandb_airflow_provider.devserver.run_state import QUEUED
from wandb_airflow_provider.devserver.runs_table import current_state, get_run, insert_run, update_run
from wandb_airflow_provider.devserver.store import dumps
from wandb_airflow_provider.devserver.sweeps import search, state
from wandb_airflow_provider.devserver.sweeps.tables import (
    given_runs,
    insert,
    member_runs,
    sweep_of,
    update,
)

Command = dict[str, Any]

_LOCKS = [threading.Lock() for _ in range(64)]
_EXIT: Command = {"type": "exit"}


def exclusive(sweep: int) -> threading.Lock:
    """Return the lock under which a sweep is changed and its agents are answered; take it before a transaction."""
    return _LOCKS[sweep % len(_LOCKS)]


def register(ctx: RequestContext, sweep: sqlite3.Row, host: str) -> str:
    """
    Add an agent to a sweep, which starts a pending one, and return the agent's global id.

    :raises GraphQLError: 400 if the sweep has ended.
    """
    now = stamp(ctx.now())
    agent_id = ctx.ids.new("Agent")
    with ctx.store.write() as conn:
        current = state.sweep_state(sweep, member_runs(conn, sweep), ctx.now())
        if current in (state.FINISHED, state.CANCELED):
            path = f"{sweep['entity']}/{sweep['project']}/{sweep['name']}"
            raise GraphQLError(f"Sweep {path} is not running: it is {current}.")
        if current == state.PENDING:
            update(conn, "sweeps", sweep["pk"], {"state": state.RUNNING, "updated_at": now})
        insert(
            conn,
            "sweep_agents",
            {
                "id": agent_id,
                "name": ctx.ids.token(8),
                "sweep": sweep["pk"],
                "host": host,
                "user": ctx.user.username,
                "created_at": now,
                "heartbeat_at": now,
            },
        )
    return agent_id


def heartbeat(ctx: RequestContext, agent: sqlite3.Row, alive: Collection[str]) -> list[Command]:
    """
    Note that an agent is alive, and return what it shall do.

    :param alive: Short ids of the runs that it is running or about to start.
    """
    with exclusive(agent["sweep"]):
        with ctx.store.write() as conn:
            _note(ctx, conn, agent, alive)
        commands = _commands(ctx, agent, alive)
        if _EXIT in commands:
            with ctx.store.write() as conn:
                update(conn, "sweep_agents", agent["pk"], {"exited": 1})
    return commands


def _note(ctx: RequestContext, conn: sqlite3.Connection, agent: sqlite3.Row, alive: Collection[str]) -> None:
    now = stamp(ctx.now())
    update(conn, "sweep_agents", agent["pk"], {"heartbeat_at": now, "exited": 0})
    for run in given_runs(conn, agent["pk"]):
        if run["state"] != QUEUED:
            continue
        # What an agent has and no longer speaks of has ended without ever opening its run.
        update_run(
            conn,
            run["pk"],
            {"heartbeat_at": now}
            if run["name"] in alive
            else {"state": "crashed", "finished_at": now, "heartbeat_at": now},
        )


def _commands(ctx: RequestContext, agent: sqlite3.Row, alive: Collection[str]) -> list[Command]:
    with ctx.store.read() as conn:
        sweep = sweep_of(conn, agent)
        members = member_runs(conn, sweep)
    current = state.sweep_state(sweep, members, ctx.now())
    if current == state.CANCELED:
        return [_EXIT]
    settings = json.loads(sweep["settings"])
    if settings.get("early_terminate") and current != state.PAUSED:
        members = _terminate_early(ctx, sweep, members)
    stopped = [run["name"] for run in members if run["stop_requested"] and run["name"] in alive]
    if stopped:
        return [{"type": "stop", "run_id": name} for name in stopped]
    if alive or current == state.PAUSED:
        return []
    if current == state.FINISHED:
        return [_EXIT]
    return [_next(ctx, agent, sweep, members) or _EXIT]


def _next(
    ctx: RequestContext, agent: sqlite3.Row, sweep: sqlite3.Row, members: list[sqlite3.Row]
) -> Command | None:
    """Return the command to run what comes next, or None if there is nothing left."""
    program = json.loads(sweep["settings"]).get("program")
    for run in members:
        if run["agent"] is not None and current_state(run, ctx.now()) == "preempted":
            _give_again(ctx, agent, run)
            return {
                "type": "resume",
                "run_id": run["name"],
                "args": json.loads(run["parameters"]),
                "program": program,
            }
    if state.is_exhausted(sweep, members):
        return None
    parameters = _parameters(ctx, sweep, members)
    if parameters is None:
        with ctx.store.write() as conn:
            update(conn, "sweeps", sweep["pk"], {"exhausted": 1})
        return None
    name = _give(ctx, agent, sweep, parameters, len(members) + 1)
    return {"type": "run", "run_id": name, "args": parameters, "program": program}


def _parameters(ctx: RequestContext, sweep: sqlite3.Row, members: list[sqlite3.Row]) -> dict[str, Any] | None:
    settings = json.loads(sweep["settings"])
    points = search.inspect(settings).points
    if points is None:
        # A random search looks at no run.
        known = _observed(ctx, sweep, members) if settings["method"] == "bayes" else []
        with ctx.store.read() as conn:
            given = conn.execute(
                "SELECT count(*) FROM sweep_runs WHERE sweep = ?", (sweep["pk"],)
            ).fetchone()[0]
        return search.suggest(settings, known, f"{sweep['seed']}:{given}")
    tried = {_point(_config(run), points[0]) for run in members} if points else set()
    return next((point for point in points if _point(point, point) not in tried), None)


def _point(config: dict[str, Any], names: Collection[str]) -> str:
    entries = {name: config[name].get("value") for name in names if isinstance(config.get(name), dict)}
    return json.dumps(entries, sort_keys=True)


def _config(run: sqlite3.Row) -> dict[str, Any]:
    """Return what a run was given, which its own code may have changed since; else its config."""
    config: dict[str, Any] = json.loads(run["parameters"] or run["config"])
    return config


def _give(
    ctx: RequestContext, agent: sqlite3.Row, sweep: sqlite3.Row, parameters: dict[str, Any], number: int
) -> str:
    entity, project, now = sweep["entity"], sweep["project"], stamp(ctx.now())
    name = ctx.ids.token(8)
    with ctx.store.write() as conn:
        values = {
            "display_name": sweep_run_name(ctx.ids, number),
            "state": QUEUED,
            "sweep": sweep["name"],
            "config": stored_text(parameters),
            "user": agent["user"],
            "created_at": now,
            "heartbeat_at": now,
        }
        insert_run(conn, entity, project, name, values)
        run = get_run(conn, entity, project, name)
        assert run is not None
        given = {
            "run": run["pk"],
            "sweep": sweep["pk"],
            "agent": agent["pk"],
            "parameters": dumps(parameters),
        }
        insert(conn, "sweep_runs", given)
        update(conn, "sweeps", sweep["pk"], {"updated_at": now})
    return name


def _give_again(ctx: RequestContext, agent: sqlite3.Row, run: sqlite3.Row) -> None:
    with ctx.store.write() as conn:
        changes = {"state": QUEUED, "heartbeat_at": stamp(ctx.now()), "finished_at": None, "exit_code": None}
        update_run(conn, run["pk"], changes)
        conn.execute("UPDATE sweep_runs SET agent = ? WHERE run = ?", (agent["pk"], run["pk"]))


def _terminate_early(
    ctx: RequestContext, sweep: sqlite3.Row, members: list[sqlite3.Row]
) -> list[sqlite3.Row]:
    settings = json.loads(sweep["settings"])
    running = any(current_state(run, ctx.now()) == "running" and not run["stop_requested"] for run in members)
    if not running:
        return members
    names = search.runs_to_stop(settings, _observed(ctx, sweep, members))
    if not names:
        return members
    with ctx.store.write() as conn:
        for run in members:
            if run["name"] in names:
                update_run(conn, run["pk"], {"stop_requested": 1})
        return member_runs(conn, sweep)


def _observed(ctx: RequestContext, sweep: sqlite3.Row, members: list[sqlite3.Row]) -> list[dict[str, Any]]:
    """Return runs as the search takes them, with all that they have logged of the sweep's metric."""
    metric = state.metric_of(json.loads(sweep["settings"]))
    assert metric is not None, "a configuration without a metric is refused where the search needs one"
    found = []
    with ctx.store.read() as conn:
        for run in members:
            summary = state.metric_value(json.loads(run["summary"]), metric[0])
            rows = (state.metric_value(json.loads(text), metric[0]) for text in read_history(conn, run["pk"]))
            found.append(
                {
                    "name": run["name"],
                    "state": current_state(run, ctx.now()),
                    "config": _config(run),
                    "summaryMetrics": {} if summary is None else {metric[0]: summary},
                    "sampledHistory": [{metric[0]: value} for value in rows if value is not None],
                }
            )
    return found


def cancel_runs(ctx: RequestContext, conn: sqlite3.Connection, sweep: sqlite3.Row) -> None:
    """Ask the runs of a sweep to stop, and drop those that have not been started."""
    for run in member_runs(conn, sweep):
        current = current_state(run, ctx.now())
        if run["state"] == QUEUED:
            update_run(conn, run["pk"], {"state": "killed", "finished_at": stamp(ctx.now())})
        elif current in state.UNDER_WAY:
            update_run(conn, run["pk"], {"stop_requested": 1})
