"""Automations: created, listed, changed and deleted; what they send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from flows import Ground, flow
from wandb.automations import DoNothing, OnAddArtifactAlias, SendNotification, SendWebhook


@flow
def automation_on_an_alias(ground: Ground) -> None:
    with ground.init() as run:
        run.log_artifact(ground.artifact("watched", "x", type="model")).wait()
    api = ground.api()
    collection = api.artifact_collection("model", f"{ground.path}/watched")
    event = OnAddArtifactAlias(scope=collection, filter={"alias": {"$regex": "production"}})
    name = f"{ground.project}-promoted"
    created = api.create_automation(event >> DoNothing(), name=name, description="tells")
    assert created.name == name
    assert [entry.name for entry in api.automations(ground.entity, name=name)] == [name]
    changed = api.update_automation(created, description="tells more", enabled=False)
    assert (changed.description, changed.enabled) == ("tells more", False)
    assert api.delete_automation(changed)
    assert list(ground.api().automations(ground.entity, name=name)) == []


@contextmanager
def _receiving() -> Iterator[tuple[str, list[tuple[bytes, str | None]]]]:
    """Receive webhooks at a URL; gives it, and a list that each one's body and signature are added to."""
    received: list[tuple[bytes, str | None]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((body, self.headers.get("X-Wandb-Signature")))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is told."""

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


@flow
def webhook_and_slack_are_told_of_an_alias(ground: Ground) -> None:
    with ground.init() as run:
        run.log_artifact(ground.artifact("watched", "x", type="model")).wait()
    with _receiving() as (url, received):
        hook_id = ground.ask("add_webhook_integration", name=ground.project, url=url, secret="hush")
        slack_id = ground.ask("add_slack_integration", workspace="acme", channel=ground.project)
        api = ground.api()
        (hook,) = [item for item in api.webhook_integrations(entity=ground.entity) if item.id == hook_id]
        (slack,) = [item for item in api.slack_integrations(entity=ground.entity) if item.id == slack_id]
        assert {hook.id, slack.id} <= {item.id for item in api.integrations(entity=ground.entity)}
        assert (slack.team_name, slack.channel_name) == ("acme", ground.project)
        collection = api.artifact_collection("model", f"{ground.path}/watched")
        event = OnAddArtifactAlias(scope=collection, filter={"alias": {"$regex": "production"}})
        for name, action in {
            "hook": SendWebhook.from_integration(hook, payload={"type": "${event_type}"}),
            "slack": SendNotification.from_integration(slack, title="Promoted", text="look", level="WARN"),
        }.items():
            created = api.create_automation(event >> action, name=f"{ground.project}-{name}")
            assert created.action.integration.id == action.integration_id
        artifact = api.artifact(f"{ground.path}/watched:v0")
        artifact.aliases.append("production")
        artifact.save()
        ground.ask("settle_automations")
    ((body, signature),) = received
    assert json.loads(body) == {"type": "ADD_ARTIFACT_ALIAS"}
    assert signature == base64.b64encode(hmac.new(b"hush", body, hashlib.sha256).digest()).decode()
    (message,) = ground.ask("slack_messages", automation=f"{ground.project}-slack")
    assert (message["title"], message["message"], message["severity"]) == ("Promoted", "look", "WARN")
