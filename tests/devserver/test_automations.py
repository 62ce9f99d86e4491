"""Automations as the SDK creates, lists, changes and deletes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import wandb
from wandb.automations import (
    ArtifactEvent,
    DoNothing,
    OnAddArtifactAlias,
    OnCreateArtifact,
    OnLinkArtifact,
    OnRunMetric,
    OnRunState,
    RunEvent,
    SendNotification,
    SendWebhook,
)
from wandb.automations.scopes import OrgScope, TeamScope
from wandb.errors import CommError

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.graphql.registry import GraphQLError

GraphQL = Callable[..., tuple[int, dict[str, Any]]]

CREATE = (
    "mutation C($input: CreateFilterTriggerInput!) { createFilterTrigger(input: $input) { trigger { id } } }"
)


@pytest.fixture
def scope(api: wandb.Api, project: str) -> wandb.apis.public.Project:
    api.create_project(project, "local")
    return api.project(project, "local")


def alias_event(scope: Any) -> OnAddArtifactAlias:
    return OnAddArtifactAlias(scope=scope, filter=ArtifactEvent.alias.eq("production"))


def test_automation_is_created_listed_changed_and_deleted(
    server: DevServer, api: wandb.Api, scope: Any, project: str, fresh_api: Callable[..., wandb.Api]
) -> None:
    slack = server.add_slack_integration("acme", "alerts")
    webhook = server.add_webhook_integration(f"hook {project[-20:]}", "http://127.0.0.1:9/x", secret="s")
    (found,) = [item for item in api.slack_integrations() if item.id == slack]
    assert (found.team_name, found.channel_name) == ("acme", "alerts")
    (hook,) = [item for item in api.webhook_integrations(entity="local") if item.id == webhook]
    assert hook.url_endpoint == "http://127.0.0.1:9/x"

    action = SendWebhook.from_integration(hook, payload={"type": "${event_type}"})
    made = api.create_automation(alias_event(scope) >> action, name=project, description="deploys")
    assert (made.name, made.description, made.enabled, made.scope.name) == (project, "deploys", True, project)
    (listed,) = fresh_api().automations("local", name=project)
    assert listed == made
    assert fresh_api().automation(name=project) == made
    assert json.loads(listed.event.model_dump_json())["filter"] == made.event.model_dump()["filter"]

    event = OnRunState(scope=scope, filter=RunEvent.state.in_(["finished", "failed"]))
    notice = SendNotification.from_integration(found, title="Ended", text="look", level="WARN")
    changed = api.update_automation(made, enabled=False, event=event, action=notice, description="tells")
    assert (changed.id, changed.enabled, changed.description) == (made.id, False, "tells")
    assert changed.event.event_type == "RUN_STATE"
    assert (changed.action.title, changed.action.message, changed.action.severity) == (
        "Ended",
        "look",
        "WARN",
    )
    metric = OnRunMetric(
        scope=scope, filter=RunEvent.metric("loss").avg(5).lt(0.1) & (RunEvent.name.contains("x"))
    )
    assert api.update_automation(changed, event=metric).event.event_type == "RUN_METRIC"
    assert api.delete_automation(changed) is True
    assert list(fresh_api().automations("local", name=project)) == []
    with pytest.raises(CommError, match="not found"):
        api.update_automation(changed)


def test_name_is_taken_once_per_entity_and_the_first_can_be_fetched(
    api: wandb.Api, scope: Any, project: str
) -> None:
    made = api.create_automation(alias_event(scope) >> DoNothing(), name=project)
    again = OnRunState(scope=scope, filter=RunEvent.state == "failed") >> DoNothing()
    with pytest.raises(CommError, match="exists"):
        api.create_automation(again, name=project)
    assert api.create_automation(again, name=project, fetch_existing=True).id == made.id
    api.delete_automation(made)
    assert api.create_automation(again, name=project).id != made.id


def test_every_kind_of_scope_is_told_back(api: wandb.Api, project: str, server: DevServer) -> None:
    with wandb_run(server, project) as run:
        run.log_artifact(wandb.Artifact("watched", type="model")).wait()
        linked = run.link_artifact(run.use_artifact("watched:v0"), "wandb-registry-model/kept")
    sequence = api.artifact_collection("model", f"local/{project}/watched")
    portfolio = api.artifact_collection("model", f"local-org/wandb-registry-model/{linked.collection.name}")
    registry = next(api.registries(organization="local-org", filter={"name": "wandb-registry-model"}))
    made = {
        kind: api.create_automation(event(scope=scope) >> DoNothing(), name=f"{project}-{kind}")
        for kind, event, scope in (
            ("sequence", OnCreateArtifact, sequence),
            ("portfolio", OnLinkArtifact, portfolio),
            ("registry", OnLinkArtifact, registry),
            ("team", OnLinkArtifact, api.team("local")),
        )
    }
    assert {kind: (type(item.scope).__name__, item.scope.name) for kind, item in made.items()} == {
        "sequence": ("_ArtifactSequenceScope", "watched"),
        "portfolio": ("_ArtifactPortfolioScope", "kept"),
        "registry": ("RegistryScope", "wandb-registry-model"),
        "team": ("TeamScope", "local"),
    }
    assert isinstance(made["team"].scope, TeamScope)
    names = {item.name for item in api.automations() if item.name.startswith(project)}
    assert names == {f"{project}-{kind}" for kind in ("sequence", "portfolio", "registry")}
    assert f"{project}-registry" in {item.name for item in api.automations("local-org")}
    organization = OrgScope(id=api.organization("local-org").org_entity.id, name="local-org")
    assert api.create_automation(OnLinkArtifact(scope=organization) >> DoNothing(), name=f"{project}-org")
    for item in api.automations("local-org"):
        if item.name.startswith(project):
            api.delete_automation(item)


def wandb_run(server: DevServer, project: str) -> wandb.Run:
    settings = wandb.Settings(base_url=server.url, api_key=server.api_key, console="off", silent=True)
    return wandb.init(
        project=project, entity="local", settings=settings, reinit="create_new", dir=server.data_dir
    )


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"scopeID": "UHJvamVjdDp4"}, 404, "the scope of the automation"),
        ({"scopeType": "GALAXY"}, 400, "no scope of the type 'GALAXY'"),
        ({"triggeringEventType": "MOON_RISES"}, 400, "events of the type 'MOON_RISES'"),
        ({"eventFilter": "{"}, 400, "invalid filter"),
        ({"eventFilter": '{"colour": "red"}'}, 400, "cannot filter by 'colour'"),
        ({"triggeredActionType": "ARIA"}, 400, "actions of the type 'ARIA'"),
        ({"triggeredActionType": "GENERIC_WEBHOOK"}, 404, "there is no webhook integration"),
        ({"name": " "}, 400, "needs a name"),
        ({"triggeringEventType": "RUN_STATE", "eventFilter": "{}"}, 400, "run_state_filter"),
        ({"triggeringEventType": "RUN_METRIC", "eventFilter": "{}"}, 400, "threshold_filter"),
        (
            {
                "triggeringEventType": "RUN_METRIC",
                "eventFilter": '{"run_metric_filter": {"zscore_filter": {}}}',
            },
            400,
            "zscore_filter",
        ),
        (
            {
                "triggeringEventType": "RUN_STATE",
                "eventFilter": '{"run_filter": "{\\"mood\\": 1}", "run_state_filter": {"states": ["FAILED"]}}',
            },
            400,
            "no field 'mood'",
        ),
    ],
)
def test_wrong_automation_is_refused_with_the_reason(
    graphql: GraphQL, scope: Any, project: str, changes: dict[str, Any], status: int, message: str
) -> None:
    given = {
        "name": project,
        "enabled": True,
        "scopeType": "PROJECT",
        "scopeID": scope.id,
        "triggeringEventType": "LINK_MODEL",
        "eventFilter": "{}",
        "triggeredActionType": "NO_OP",
        "triggeredActionConfig": {"noOpActionInput": {"noOp": True}},
    }
    code, answer = graphql(CREATE, {"input": {**given, **changes}})
    assert (code, message in answer["errors"][0]["message"]) == (status, True), answer


def test_automations_are_managed_by_who_may_write_and_in_registries_by_admins(
    server: DevServer, graphql: GraphQL, scope: Any, api: wandb.Api, project: str, read_only_key: str
) -> None:
    made = api.create_automation(alias_event(scope) >> DoNothing(), name=project)
    delete = "mutation D($id: ID!) { deleteTrigger(input: {triggerID: $id}) { success } }"
    assert graphql(delete, {"id": made.id}, read_only_key)[0] == 403
    member = server.add_account("member", teams=("local",))
    registry = next(api.registries(organization="local-org", filter={"name": "wandb-registry-model"}))
    watched = api.create_automation(OnLinkArtifact(scope=registry) >> DoNothing(), name=f"{project}-registry")
    assert graphql(delete, {"id": watched.id}, member)[0] == 403
    assert graphql(delete, {"id": made.id}, member)[0] == 200


def test_webhook_made_over_the_api_takes_the_secrets_of_the_team_by_name(
    server: DevServer, graphql: GraphQL
) -> None:
    document = (
        "mutation W($input: CreateGenericWebhookIntegrationInput!) {"
        " createGenericWebhookIntegration(input: $input) { integration { id name urlEndpoint secret } } }"
    )
    hook = {
        "entityName": "local",
        "name": "by api",
        "urlEndpoint": "https://example.com",
        "secretRef": "SIGNING",
    }
    assert graphql(document, {"input": hook})[0] == 404
    server.add_team_secret("SIGNING", "hush")
    _, answer = graphql(document, {"input": hook})
    made = answer["data"]["createGenericWebhookIntegration"]["integration"]
    assert (made["name"], made["urlEndpoint"], made["secret"]) == ("by api", "https://example.com", None)
    assert graphql(document, {"input": {**hook, "urlEndpoint": "file:///etc"}})[0] == 400


@pytest.mark.parametrize(
    ("name", "url", "entity"),
    [
        ("a/b", "http://x", "local"),
        ("ok", "ftp://x", "local"),
        ("ok", "http://x y", "local"),
        ("ok", "http://x", "no"),
    ],
)
def test_wrong_webhook_is_refused(server: DevServer, name: str, url: str, entity: str) -> None:
    with pytest.raises(GraphQLError):
        server.add_webhook_integration(name, url, entity=entity)
