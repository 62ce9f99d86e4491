"""The runs that a run set of a report selects: its filters, search, order and hidden runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.queries import RunRecord, list_runs

_OPERATORS = {
    "=": "$eq",
    "==": "$eq",
    "!=": "$ne",
    "<": "$lt",
    "<=": "$lte",
    ">": "$gt",
    ">=": "$gte",
    "IN": "$in",
    "NIN": "$nin",
}
_MOST_RUNS = 500

Condition = dict[str, Any]


@dataclass(frozen=True)
class RunSet:
    """
    Runs that the panels of a grid show.

    :param problem: Why the runs could not be found, or None.
    """

    name: str
    entity: str
    project: str
    runs: list[RunRecord]
    problem: str | None


def resolve(backend: Backend, spec: Any, entity: str, project: str) -> RunSet:
    """
    Return the runs of a run set.

    :param spec: The run set as a report has it.
    :param entity: Of the report, as is ``project``: a run set that names none shows that project.
    """
    spec = mapping(spec)
    place = mapping(spec.get("project"))
    entity = str(place.get("entityName") or entity)
    project = str(place.get("name") or project)
    name = str(spec.get("name") or "Run set")
    try:
        filters = condition(spec, backend)
        runs = list_runs(backend, entity, project, filters, order=_order(spec), limit=_MOST_RUNS)
    except (GraphQLError, ValueError) as error:
        return RunSet(name, entity, project, [], f"Its filters cannot be applied: {error}")
    return RunSet(name, entity, project, [run for run in runs if _is_shown(run, spec)], None)


def condition(spec: Mapping[str, Any], backend: Backend) -> Condition:
    """Return the filters and the search of a run set in Mongo syntax. Raises ValueError for what it cannot say."""
    parts = [_filters(spec.get("filters"), backend)]
    search = mapping(spec.get("search"))
    if search.get("query"):
        text = str(search["query"])
        pattern = text if search.get("isRegex") else re.escape(text)
        parts.append({"displayName": {"$regex": pattern, "$options": "i"}})
    return {"$and": parts}


def server_key(section: str, name: str) -> str:
    """Return how runs are filtered and ordered by a key that a report names with its section."""
    if section == "config":
        root, *rest = name.split(".")
        return ".".join(["config", root, *(rest[1:] if rest[:1] == ["value"] else rest)])
    if section == "summary":
        return f"summary_metrics.{name}"
    return "tags" if section == "tags" else name


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one for anything else: a report may hold whatever was sent."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    """Return a JSON list, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def _filters(spec: Any, backend: Backend) -> Condition:
    spec = mapping(spec)
    if spec.get("filterFormat") == "filterV2":
        return _flat(sequence(spec.get("filters")), backend)
    return _tree(spec, backend)


def _flat(items: Sequence[Any], backend: Backend) -> Condition:
    """Read the flat form, in which each filter says how it joins the one before; AND binds tighter than OR."""
    groups: list[list[Condition]] = []
    for item in map(mapping, items):
        if item.get("disabled"):
            continue
        part = _flat(item["filters"], backend) if "filters" in item else _leaf(item, backend)
        if groups and str(item.get("connector", "AND")).upper() == "AND":
            groups[-1].append(part)
        else:
            groups.append([part])
    return {"$or": [{"$and": group} for group in groups]} if groups else {}


def _tree(node: Mapping[str, Any], backend: Backend) -> Condition:
    if node.get("key"):
        return {} if node.get("disabled") else _leaf(node, backend)
    parts = [_tree(mapping(item), backend) for item in sequence(node.get("filters"))]
    parts = [part for part in parts if part]
    if not parts:
        return {}
    return {"$or" if node.get("op") == "OR" else "$and": parts}


def _leaf(item: Mapping[str, Any], backend: Backend) -> Condition:
    key = mapping(item.get("key"))
    name, operator, value = str(key.get("name") or ""), str(item.get("op")), item.get("value")
    path = server_key(str(key.get("section")), name)
    if operator == "WITHINSECONDS":
        since = backend.now() - timedelta(seconds=float(value or 0))
        return {path: {"$gte": since.isoformat()}}
    if operator not in _OPERATORS:
        raise ValueError(f"the operator {operator!r} is not known.")
    return {path: {_OPERATORS[operator]: value}}


def _order(spec: Mapping[str, Any]) -> str:
    terms = []
    for item in map(mapping, sequence(mapping(spec.get("sort")).get("keys"))):
        key = mapping(item.get("key"))
        if key.get("name"):
            sign = "+" if item.get("ascending") else "-"
            terms.append(f"{sign}{server_key(str(key.get('section')), str(key['name']))}")
    return ",".join(terms) or "-created_at"


def _is_shown(run: RunRecord, spec: Mapping[str, Any]) -> bool:
    selections = mapping(spec.get("selections"))
    named: set[str] = set()
    for item in sequence(selections.get("tree")):
        named.update([item] if isinstance(item, str) else map(str, sequence(mapping(item).get("children"))))
    is_named = run.name in named or run.id in named
    return is_named if selections.get("root") == 0 else not is_named
