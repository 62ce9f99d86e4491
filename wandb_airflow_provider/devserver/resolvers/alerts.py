"""Alerts that runs send."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext, mutation
from wandb_airflow_provider.devserver.runs_table import get_run
from wandb_airflow_provider.devserver.store import register_schema

register_schema("""
CREATE TABLE IF NOT EXISTS alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL REFERENCES runs (pk),
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    severity TEXT NOT NULL,
    created_at TEXT NOT NULL
);
""")


@mutation("notifyScriptableRunAlert")
def notify(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Keep an alert, unless one of the same title came from the run within ``waitDuration`` milliseconds."""
    entity = args.get("entityName") or ctx.user.entity
    ctx.user.require_write(entity)
    with ctx.store.write() as conn:
        run = get_run(conn, entity, args["projectName"], args["runName"])
        if run is None:
            raise GraphQLError(f"run '{entity}/{args['projectName']}/{args['runName']}' does not exist.", 404)
        since = stamp(ctx.now() - timedelta(milliseconds=args.get("waitDuration") or 0))
        recent = conn.execute(
            "SELECT 1 FROM alerts WHERE run = ? AND title = ? AND created_at > ?",
            (run["pk"], args["title"], since),
        ).fetchone()
        if recent is None:
            conn.execute(
                "INSERT INTO alerts (run, title, text, severity, created_at) VALUES (?, ?, ?, ?, ?)",
                (run["pk"], args["title"], args["text"], args.get("severity") or "INFO", stamp(ctx.now())),
            )
    return {"__typename": "NotifyScriptableRunAlertPayload", "success": True}
