"""What a flow has the dev server do that W&B's SDK cannot ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wandb_airflow_provider.devserver import DevServer

_CALLS: dict[str, Callable[..., Any]] = {
    "add_member": DevServer.add_member,
    "add_slack_integration": DevServer.add_slack_integration,
    "add_webhook_integration": DevServer.add_webhook_integration,
    "advance": lambda server, seconds: str(server.clock.advance(seconds)),
    "create_key": DevServer.create_key,
    "protect_alias": DevServer.protect_alias,
    "settle_automations": DevServer.settle_automations,
    "slack_messages": lambda server, automation: [
        item.as_json() for item in server.slack_notifications(automation)
    ],
}


def call_server(server: DevServer, name: str, /, **arguments: Any) -> Any:
    """Call one of the methods that flows may use, and return what it returns as JSON values."""
    return _CALLS[name](server, **arguments)
