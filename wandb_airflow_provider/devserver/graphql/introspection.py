"""
Introspection by reflection: what the registry knows, told as types.

SDKs before 0.26 ask for the fields of a type before they use them. A type that nothing here knows is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wandb_airflow_provider.devserver.graphql import probed_types as _probed_types  # noqa: F401  registers what is probed
from wandb_airflow_provider.devserver.graphql import registry
from wandb_airflow_provider.devserver.graphql.registry import RequestContext, Resolver


def _type(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any] | None:
    name = args["name"]
    if name == "Query":
        return _object("Query", registry.QUERIES)
    if name == "Mutation":
        return _object("Mutation", registry.MUTATIONS)
    names = set(registry.DECLARED_FIELDS.get(name, ()))
    names.update(field for owner, field in registry.FIELDS if owner == name)
    return _object(name, names) if names else None


def _schema(ctx: RequestContext, parent: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    owners = {owner for owner, _ in registry.FIELDS} | set(registry.DECLARED_FIELDS)
    types = [_type(ctx, parent, {"name": name}) for name in ("Query", "Mutation", *sorted(owners))]
    return {"__typename": "__Schema", "types": types, "queryType": types[0], "mutationType": types[1]}


def _object(name: str, fields: Iterable[str]) -> dict[str, Any]:
    items = [{"__typename": "__Field", "name": field, "args": []} for field in sorted(fields)]
    return {
        "__typename": "__Type",
        "kind": "INPUT_OBJECT" if name.endswith("Input") else "OBJECT",
        "name": name,
        "fields": items,
        "inputFields": items,
    }


QUERIES: dict[str, Resolver] = {"__type": _type, "__schema": _schema}
