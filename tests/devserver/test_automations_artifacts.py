"""Automations on artifacts: what fires them, once each, and what their webhooks carry."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wandb
from wandb.automations import (
    ArtifactEvent,
    DoNothing,
    OnAddArtifactAlias,
    OnAddArtifactTag,
    OnAddCollectionTag,
    OnCreateArtifact,
    OnLinkArtifact,
    OnRemoveArtifactTag,
    OnRemoveCollectionTag,
    OnUnlinkArtifact,
    SendNotification,
    SendWebhook,
)
from wandb.automations.scopes import OrgScope

from tests.devserver.webhook_receiver import Receiver, receiving
from wandb_airflow_provider.devserver import DevServer

OpenRun = Callable[..., wandb.Run]
Draft = Callable[..., wandb.Artifact]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def log(open_run: OpenRun, draft: Draft) -> Callable[..., wandb.Artifact]:
    """``log(content, **arguments)`` logs a version of the model ``net``."""
    run = open_run()

    def make(content: str, **arguments: Any) -> wandb.Artifact:
        aliases = arguments.pop("aliases", None)
        artifact = draft("net", {"weights.txt": content}, type="model", **arguments)
        return run.log_artifact(artifact, aliases=aliases).wait()

    return make


def fired(server: DevServer, name: str) -> list[str]:
    """Return what an automation has fired for."""
    server.settle_automations()
    return [execution.subject for execution in server.automation_executions(name)]


def test_promotion_sends_a_signed_webhook_with_what_was_promoted(
    server: DevServer, api: wandb.Api, project: str, log: Callable[..., wandb.Artifact], receiver: Receiver
) -> None:
    hook = server.add_webhook_integration(
        "deploy", f"{receiver.url}/deploy", secret="hush", secret_name="SIGNING", access_token="bearer-token"
    )
    registry = next(api.registries(organization="local-org", filter={"name": "wandb-registry-model"}))
    payload = {
        "event_type": "DEPLOY",
        "client": {
            "what": ["${event_type} by ${event_author}", "${artifact_version_string}", "${artifact_version}"],
            "where": "${entity_name}/${project_name}/${artifact_collection_name}",
            "alias": "${alias}",
            "tag": "[${tag}]",
            "metadata": "${artifact_metadata.accuracy} ${artifact_metadata.note} ${artifact_metadata.absent}.",
            "secrets": "${ACCESS_TOKEN} ${SIGNING} ${UNKNOWN}",
            "number": 3,
        },
    }
    event = OnAddArtifactAlias(scope=registry, filter=ArtifactEvent.alias.eq("production"))
    automation = api.create_automation(
        event >> SendWebhook(integration_id=hook, request_payload=payload), name=project
    )

    version = log("one", metadata={"accuracy": 0.9, "note": 'say "hi"', "deep": {"x": 1}})
    linked = version.link(f"wandb-registry-model/{project}")
    assert fired(server, project) == []
    linked.aliases.append("production")
    linked.save()
    linked.aliases.append("other")
    linked.save()
    server.settle_automations()

    (request,) = receiver.requests
    where = f"local-org/wandb-registry-model/{project}"
    assert request.path == "/deploy"
    assert request.payload == {
        "event_type": "DEPLOY",
        "client": {
            "what": [
                "ADD_ARTIFACT_ALIAS by dev",
                f"{where}:production",
                f"wandb-artifact://_id/{version.id}",
            ],
            "where": where,
            "alias": "production",
            "tag": "[]",
            "metadata": '0.9 say "hi" .',
            "secrets": "bearer-token hush ${UNKNOWN}",
            "number": 3,
        },
    }
    expected = base64.b64encode(hmac.new(b"hush", request.body, hashlib.sha256).digest()).decode()
    assert request.headers["x-wandb-signature"] == expected
    assert request.headers["authorization"] == "Bearer bearer-token"
    assert request.headers["content-type"] == "application/json"
    assert api.artifact(request.payload["client"]["what"][1]).digest == version.digest

    (delivery,) = server.webhook_deliveries(project)
    assert (delivery.state, delivery.url, delivery.subject) == (
        "FINISHED",
        f"{receiver.url}/deploy",
        f"{where}:production",
    )
    assert [(attempt.number, attempt.status, attempt.error) for attempt in delivery.attempts] == [
        (1, 200, None)
    ]
    assert delivery.payload["client"]["secrets"] == "*** *** ${UNKNOWN}"
    api.delete_automation(automation)


def test_alias_fires_once_whichever_way_it_was_set(
    server: DevServer, api: wandb.Api, project: str, log: Callable[..., wandb.Artifact]
) -> None:
    api.create_project(project, "local")
    scope = api.project(project, "local")
    event = OnAddArtifactAlias(scope=scope, filter=ArtifactEvent.alias.matches_regex("^prod"))
    automation = api.create_automation(event >> DoNothing(), name=project)
    path = f"local/{project}/net"

    log("one", aliases=["prod"])
    assert fired(server, project) == [f"{path}:prod"]
    log("one", aliases=["prod"])  # the same content and alias: nothing changes
    assert fired(server, project) == [f"{path}:prod"]
    log("one", aliases=["prod-2"])
    log("two", aliases=["prod"])
    assert fired(server, project) == [f"{path}:prod", f"{path}:prod-2", f"{path}:prod"]
    version = api.artifact(f"{path}:v0")
    version.aliases = ["prod"]
    version.save()
    link = version.link(f"local/{project}/portfolio", aliases=["prod"])
    assert fired(server, project)[3:] == [f"{path}:prod", f"local/{project}/portfolio:prod"]
    assert link.version == "v0"

    api.update_automation(automation, enabled=False)
    log("three", aliases=["prod"])
    api.update_automation(automation, enabled=True)
    assert len(fired(server, project)) == 5
    api.delete_automation(automation)
    log("four", aliases=["prod"])
    assert len(fired(server, project)) == 5


def test_each_artifact_event_fires_its_own_automation(
    server: DevServer, api: wandb.Api, project: str, log: Callable[..., wandb.Artifact]
) -> None:
    log("zero")
    collection = api.artifact_collection("model", f"local/{project}/net")
    scope = api.project(project, "local")
    slack = server.add_slack_integration("acme", "models")
    notice = SendNotification(integration_id=slack, title="Linked", message="a model", severity="INFO")
    made = [
        api.create_automation(automation, name=f"{project}-{kind}")
        for kind, automation in {
            "create": OnCreateArtifact(scope=collection) >> DoNothing(),
            "link": OnLinkArtifact(scope=scope, filter=ArtifactEvent.alias.eq("best")) >> notice,
            "unlink": OnUnlinkArtifact(scope=scope) >> DoNothing(),
            "tag": OnAddArtifactTag(scope=scope, filter=ArtifactEvent.tag.eq("fast")) >> DoNothing(),
            "untag": OnRemoveArtifactTag(scope=scope) >> DoNothing(),
            "ctag": OnAddCollectionTag(scope=collection) >> DoNothing(),
            "cuntag": OnRemoveCollectionTag(scope=collection) >> DoNothing(),
        }.items()
    ]
    version = log("one")
    version.tags = ["fast", "small"]
    version.save()
    version.tags = ["small"]
    version.save()
    collection.tags = ["group"]
    collection.save()
    collection.tags = []
    collection.save()
    version.link(f"local/{project}/kept")
    link = api.artifact(f"local/{project}/net:v0").link(f"local/{project}/kept", aliases=["best"])
    link.unlink()

    net, kept = f"local/{project}/net:v1", f"local/{project}/kept:v1"
    found = {item.name.removeprefix(f"{project}-"): fired(server, item.name) for item in made}
    assert found == {
        "create": [net],
        "link": [kept],
        "unlink": [kept],
        "tag": [net],
        "untag": [net],
        "ctag": [f"local/{project}/net"],
        "cuntag": [f"local/{project}/net"],
    }
    (message,) = server.slack_notifications(f"{project}-link")
    assert (message.workspace, message.channel) == ("acme", "models")
    assert (message.title, message.message, message.severity) == ("Linked", "a model", "INFO")
    for item in made:
        api.delete_automation(item)


def test_team_and_organization_see_what_happens_in_what_they_own(
    server: DevServer, api: wandb.Api, project: str, log: Callable[..., wandb.Artifact], receiver: Receiver
) -> None:
    organization = OrgScope(id=api.organization("local-org").org_entity.id, name="local-org")
    hook = server.add_webhook_integration("all", receiver.url)
    condition = ArtifactEvent.tag.eq(f"t-{project}"[:60])
    payload = {"tag": "${tag}", "by": "${event_author}"}
    made = [
        api.create_automation(
            OnAddArtifactTag(scope=scope, filter=condition)
            >> SendWebhook(integration_id=hook, request_payload=payload),
            name=f"{project}-{name}",
        )
        for name, scope in (("team", api.team("local")), ("org", organization))
    ]
    version = log("one")
    version.tags = [f"t-{project}"[:60]]
    version.save()
    server.settle_automations()
    assert [request.payload for request in receiver.requests] == [
        {"tag": f"t-{project}"[:60], "by": "dev"}
    ] * 2
    assert all("x-wandb-signature" not in request.headers for request in receiver.requests)
    for item in made:
        api.delete_automation(item)
