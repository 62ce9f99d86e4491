"""What the owner of a server says about automations from Python."""

from __future__ import annotations

from typing import Any

from wandb_airflow_provider.devserver.automations import integrations, records
from wandb_airflow_provider.devserver.backend import Backend
from wandb_airflow_provider.devserver.clock import stamp

_DEFAULT_ENTITY = "local"


class AutomationAdministration:
    """The part of a server that registers where automations send to, and tells what they have sent."""

    backend: Backend

    def add_webhook_integration(
        self,
        name: str,
        url: str,
        *,
        secret: str | None = None,
        secret_name: str = "SECRET",  # noqa: S107 - a name
        access_token: str | None = None,
        entity: str = _DEFAULT_ENTITY,
    ) -> str:
        """
        Register a webhook for a team and return its id; the SDK lists such webhooks but has no call to create them.

        Nothing is sent before an automation with the action ``SendWebhook`` fires. Then the server posts to ``url``,
        whatever machine that names. The control ``POST webhook`` and the mutation ``createGenericWebhookIntegration``
        register them, too: whoever may write to a team decides where this server posts for it.

        :param secret: Signs each request in the header ``X-Wandb-Signature``: base64 of the body's HMAC-SHA256. A
            payload names it as ``${SECRET}``.
        :param secret_name: What payloads call the secret.
        :param access_token: Sent as ``Authorization: Bearer``; a payload names it as ``${ACCESS_TOKEN}``.
        :raises GraphQLError: the name or the URL is not valid, or there is no such entity.
        """
        with self.backend.store.write() as conn:
            row = integrations.add_webhook(
                conn,
                entity,
                name,
                url,
                now=stamp(self.backend.now()),
                secret=secret,
                secret_name=secret_name,
                access_token=access_token,
            )
        return str(row["id"])

    def add_slack_integration(self, workspace: str, channel: str, *, entity: str = _DEFAULT_ENTITY) -> str:
        """Register a channel of a Slack workspace and return its id; messages to it are kept, not sent."""
        with self.backend.store.write() as conn:
            row = integrations.add_slack(conn, entity, workspace, channel, now=stamp(self.backend.now()))
        return str(row["id"])

    def add_team_secret(self, name: str, value: str, *, entity: str = _DEFAULT_ENTITY) -> None:
        """Store a secret of a team, which webhooks that are created over the API refer to by name."""
        with self.backend.store.write() as conn:
            integrations.add_secret(conn, entity, name, value)

    def webhook_deliveries(self, automation: str | None = None) -> list[records.WebhookDelivery]:
        """Return the webhooks that were fired, in order, with every attempt; secrets are masked."""
        return records.list_deliveries(self.backend.store, automation)

    def slack_notifications(self, automation: str | None = None) -> list[records.SlackNotification]:
        """Return the messages that would have gone to Slack, in order."""
        return records.list_notifications(self.backend.store, automation)

    def automation_executions(self, automation: str | None = None) -> list[records.Execution]:
        """Return every firing in order, whatever its action; of the automations of one name if it is given."""
        return records.list_executions(self.backend.store, automation)

    def settle_automations(self, timeout: float = 15.0) -> None:
        """
        Wait until all that has happened so far is evaluated and every webhook that is due has been tried.

        A webhook that failed is due again once the clock has moved on: after 1, 2, 4 and 8 seconds.

        :param timeout: In seconds.
        :raises TimeoutError: it took longer.
        """
        self.backend.automations.settle(timeout)


def control_webhook(backend: Backend, args: dict[str, Any]) -> dict[str, Any]:
    """
    Register a webhook, as a control over HTTP.

    :param args: As :meth:`AutomationAdministration.add_webhook_integration` takes them.
    """
    return {"id": _of(backend).add_webhook_integration(**args)}


def control_slack(backend: Backend, args: dict[str, Any]) -> dict[str, Any]:
    """Register a Slack channel, as a control over HTTP: ``workspace``, ``channel``, ``entity``."""
    return {"id": _of(backend).add_slack_integration(**args)}


def control_deliveries(backend: Backend, args: dict[str, Any]) -> dict[str, Any]:
    """Return the webhooks that were fired, and the messages for Slack, as a control over HTTP: ``automation``."""
    automation = args.get("automation")
    return {
        "webhooks": [item.as_json() for item in records.list_deliveries(backend.store, automation)],
        "slack": [item.as_json() for item in records.list_notifications(backend.store, automation)],
    }


def control_settle(backend: Backend, args: dict[str, Any]) -> dict[str, Any]:
    """
    Wait for the automations, as a control over HTTP: ``timeout`` in seconds.

    :raises ValueError: it took longer.
    """
    try:
        backend.automations.settle(float(args.get("timeout", 15.0)))
    except TimeoutError as error:
        raise ValueError(str(error)) from error
    return {"settled": True}


def _of(backend: Backend) -> AutomationAdministration:
    administration = AutomationAdministration()
    administration.backend = backend
    return administration
