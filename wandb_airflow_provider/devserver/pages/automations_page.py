"""The page of the automations of a project or registry: what fires them, and what they have fired."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from wandb_airflow_provider.devserver.automations import definitions
from wandb_airflow_provider.devserver.automations.records import (
    Execution,
    SlackNotification,
    WebhookDelivery,
    list_deliveries,
    list_executions,
    list_notifications,
)
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.endpoint import backend_of
from wandb_airflow_provider.devserver.pages.records import require_project
from wandb_airflow_provider.devserver.pages.templating import render

_SHOWN = 50


@dataclass(frozen=True)
class AutomationRow:
    """
    An automation with what it has fired, the newest first.

    :param scope: The collection or project that it watches.
    :param condition: The filter of its event.
    :param target: The integration that it calls, or None.
    """

    name: str
    description: str | None
    enabled: bool
    scope: str
    event: str
    condition: Any
    action: str
    target: str | None
    fired: int
    deliveries: list[WebhookDelivery]
    notifications: list[SlackNotification]
    executions: list[Execution]


def automations(request: Request) -> Response:
    """List the automations of a project and of its collections."""
    backend = backend_of(request)
    project = require_project(backend, request.path_params["entity"], request.path_params["project"])
    found = [_row(backend, node) for node in _nodes(backend, project.entity, project.name)]
    return render(request, "automations.html", project=project, automations=found)


def count_automations(backend: Backend, entity: str, project: str) -> int:
    """Return how many automations watch a project or its collections."""
    return len(_nodes(backend, entity, project))


def _nodes(backend: Backend, entity: str, project: str) -> list[dict[str, Any]]:
    with backend.store.read() as conn:
        row = conn.execute(
            "SELECT internal_id FROM projects WHERE entity = ? AND name = ?", (entity, project)
        ).fetchone()
        return [] if row is None else definitions.of_project(conn, row["internal_id"])


def _row(backend: Backend, node: dict[str, Any]) -> AutomationRow:
    name, condition, action = node["name"], node["triggeringCondition"], node["triggeredAction"]
    integration = action.get("integration") or {}
    executions = list_executions(backend.store, name)
    others = [item for item in executions if item.action_type == definitions.NO_OP]
    return AutomationRow(
        name=name,
        description=node["description"],
        enabled=node["enabled"],
        scope=node["scope"]["name"],
        event=_words(condition["eventType"]),
        condition=_parsed(condition["filter"]),
        action=_words(action["__typename"].removesuffix("TriggeredAction")),
        target=integration.get("name") or integration.get("teamName"),
        fired=len(executions),
        deliveries=_newest(list_deliveries(backend.store, name)),
        notifications=_newest(list_notifications(backend.store, name)),
        executions=_newest(others),
    )


def _newest(items: list[Any]) -> list[Any]:
    return items[: -_SHOWN - 1 : -1]


def _words(name: str) -> str:
    if name.isupper() or "_" in name:
        return name.replace("_", " ").lower()
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def _parsed(value: Any) -> Any:
    """Return a filter as JSON, without what says nothing; filters may hold filters as text."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return _parsed(json.loads(value))
        except ValueError:
            return value
    if isinstance(value, list):
        return [_parsed(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _parsed(item) for key, item in value.items()}
    found = {key: item for key, item in found.items() if item not in ([], {}, None)}
    match list(found.items()):
        case [("$and" | "$or", [only])]:
            return only
        case _:
            return found
