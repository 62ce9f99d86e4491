"""Integrations: where automations of a team may send to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wandb_airflow_provider.devserver.automations import integrations
from wandb_airflow_provider.devserver.clock import stamp
from wandb_airflow_provider.devserver.graphql.registry import RequestContext, connection, field, mutation

Args = dict[str, Any]
Parent = Mapping[str, Any]


@field("Entity", "integrations")
def entity_integrations(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """List the webhooks and Slack channels of an entity, oldest first."""
    with ctx.store.read() as conn:
        found = [integrations.node(row) for row in integrations.of_entity(conn, parent["name"])]
    return connection(found, args, typename="IntegrationConnection")


@mutation("createGenericWebhookIntegration")
def create_webhook(ctx: RequestContext, parent: Parent, args: Args) -> dict[str, Any]:
    """Register a webhook, with secrets that the team has under the given names."""
    entity, secret_name = str(args["entityName"]), args.get("secretRef")
    ctx.user.require_write(entity)
    with ctx.store.write() as conn:
        row = integrations.add_webhook(
            conn,
            entity,
            str(args["name"]),
            str(args["urlEndpoint"]),
            now=stamp(ctx.now()),
            secret=integrations.get_secret(conn, entity, secret_name),
            secret_name=secret_name or "SECRET",
            access_token=integrations.get_secret(conn, entity, args.get("accessTokenRef")),
        )
    return {"__typename": "CreateGenericWebhookIntegrationPayload", "integration": integrations.node(row)}
