"""Chart presets that users define with a Vega specification."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError, RequestContext, mutation
from wandb_airflow_provider.devserver.ids import global_id
from wandb_airflow_provider.devserver.store import register_schema

_TYPES = ("vega2",)
_ACCESS = ("PRIVATE", "PUBLIC")

register_schema("""
CREATE TABLE IF NOT EXISTS custom_charts (
    id TEXT PRIMARY KEY,
    entity TEXT NOT NULL,
    name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    access TEXT NOT NULL,
    spec TEXT NOT NULL,
    created_at TEXT NOT NULL
);
""")


@mutation("createCustomChart")
def create_custom_chart(
    ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]
) -> dict[str, Any]:
    """Keep a chart preset under ``entity/name``; one of the same name is refused."""
    entity, name = args.get("entity") or ctx.user.entity, args["name"]
    ctx.user.require_write(entity)
    if args["type"] not in _TYPES:
        raise GraphQLError(f"a custom chart is of the type {' or '.join(_TYPES)}, not {args['type']!r}.")
    if args["access"] not in _ACCESS:
        raise GraphQLError(f"the access to a custom chart is {' or '.join(_ACCESS)}, not {args['access']!r}.")
    try:
        json.loads(args["spec"])
    except ValueError as error:
        raise GraphQLError(f"the specification of chart '{entity}/{name}' is not JSON: {error}") from error
    chart_id = global_id("CustomChart", entity, name)
    with ctx.store.write() as conn:
        if conn.execute("SELECT 1 FROM custom_charts WHERE id = ?", (chart_id,)).fetchone():
            raise GraphQLError(f"custom chart '{entity}/{name}' exists already: choose another name.")
        conn.execute(
            "INSERT INTO custom_charts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (chart_id, entity, name, args["displayName"], args["access"], args["spec"], stamp(ctx.now())),
        )
    return {
        "__typename": "CreateCustomChartPayload",
        "chart": {"__typename": "CustomChart", "id": chart_id},
    }
