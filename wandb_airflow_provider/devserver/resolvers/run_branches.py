"""Runs that go back in history: forked from a step of another run, or rewound to a step of their own."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext, mutation
from wandb_airflow_provider.devserver.history import copy_history, cut_history, is_step, last_step
from wandb_airflow_provider.devserver.json_text import stored_text
from wandb_airflow_provider.devserver.resolvers.runs import run_node
from wandb_airflow_provider.devserver.run_fields import sdk_config
from wandb_airflow_provider.devserver.runs_table import REOPENED, get_run, update_run


def branch_point(config: str | None) -> tuple[str, int] | None:
    """Return the run and the last step that a new run's config says it continues from, or None."""
    point = sdk_config(config).get("branch_point")
    if not point:
        return None
    run, step = (point.get("run_id"), point.get("step")) if isinstance(point, dict) else (None, None)
    if not isinstance(run, str) or not is_step(step):
        raise GraphQLError(f"a run continues from a 'run_id' and a 'step', not from {str(point)[:200]!r}.")
    return run, int(step)


def fork(conn: sqlite3.Connection, run: sqlite3.Row, source_name: str, step: int) -> None:
    """
    Give a new run the history of another run of its project up to a step.

    :raises GraphQLError: 404 if there is no such run; 400 if it has not come to that step.
    """
    source = get_run(conn, run["entity"], run["project"], source_name)
    if source is None:
        path = f"{run['entity']}/{run['project']}/{source_name}"
        raise GraphQLError(f"cannot fork run {path!r}: it does not exist.", 404)
    _require_step(conn, source, step, "fork")
    copy_history(conn, source["pk"], run["pk"], step)


@mutation("rewindRun")
def rewind_run(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Take a run back to a step and reopen it there: the history after it is dropped."""
    entity, project = args.get("entityName") or ctx.user.entity, args.get("projectName") or "uncategorized"
    ctx.user.require_write(entity)
    if args["metricName"] != "_step":
        raise GraphQLError(f"a run can be rewound by '_step' only, not by {args['metricName']!r}.")
    step = int(args["metricValue"])
    with ctx.store.write() as conn:
        row = get_run(conn, entity, project, args["runName"])
        if row is None:
            raise GraphQLError(f"cannot rewind run '{entity}/{project}/{args['runName']}': no such run.", 404)
        _require_step(conn, row, step, "rewind")
        summary = cut_history(conn, row["pk"], step)
        update_run(
            conn, row["pk"], {**REOPENED, "summary": stored_text(summary), "heartbeat_at": stamp(ctx.now())}
        )
        row = get_run(conn, entity, project, args["runName"])
        assert row is not None
    return {"__typename": "RewindRunPayload", "rewoundRun": run_node(ctx, row)}


def _require_step(conn: sqlite3.Connection, run: sqlite3.Row, step: int, verb: str) -> None:
    last = last_step(conn, run["pk"])
    if not 0 <= step <= last:
        reached = f"has only come to step {last}" if last >= 0 else "has no history"
        raise GraphQLError(f"cannot {verb} run {run['name']!r} at step {step}: it {reached}.")
