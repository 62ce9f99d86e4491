"""Have W&B do something when an alias is added, a version is linked or created, or a run reaches a state or a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from wandb_airflow_provider.automation import AutomationSpec, MetricCondition, check_automation
from wandb_airflow_provider.connection_form import DEFAULT_CONN_ID
from wandb_airflow_provider.hooks.wandb import WandbHook

if TYPE_CHECKING:
    from airflow.sdk import Context

    from wandb_airflow_provider.automation import Action, Event

__all__ = ["WandbCreateAutomationOperator"]


class WandbCreateAutomationOperator(BaseOperator):
    """
    Create an automation in W&B, or change the one of that name where it differs; running it again changes nothing.

    Returns ``{"name", "id", "outcome"}``, the outcome being ``created``, ``updated`` or ``unchanged``. A changed
    automation watches anew: of what came before it knows nothing.

    :param name: Name of the automation, unique in the entity that owns what is watched. (templated)
    :param event: ``alias_added``, ``artifact_linked`` (in a registry or project), ``artifact_created`` (in one
        collection of a project), ``run_metric`` or ``run_state`` (in a project).
    :param action: ``webhook``, ``notification`` (to Slack), or ``nothing``, which W&B only records.
    :param integration: Name of the webhook, or ``workspace/channel``, as the team settings in W&B show it; the SDK
        cannot create one. (templated)
    :param registry: The registry to watch, without the prefix of its project. (templated)
    :param project: The project to watch. Default: the connection's. (templated)
    :param entity: Owner of the project, and team of the integration. Default: the connection's. (templated)
    :param collection: Watch this collection only. (templated)
    :param artifact_type: Type of the collection, where it is a project's. (templated)
    :param alias: Fire for this alias only. (templated)
    :param metric: When a metric fires, for ``run_metric``.
    :param states: Out of ``running``, ``finished`` and ``failed``, which a crash is too, for ``run_state``.
    :param run_name: Only runs whose name contains this. (templated)
    :param payload: Body of the webhook, with W&B's ``${variables}``. Default: what Airflow's own endpoint for webhooks
        takes. Not rendered by Airflow, because W&B fills it in.
    :param title: Of the notification; ``message`` is its text, ``severity`` is ``INFO``, ``WARN`` or ``ERROR``.
        (templated)
    :param description: What people read in W&B. (templated)
    :param enabled: Whether it fires at all.
    :param wandb_conn_id: Airflow connection. (templated)
    :raises WandbConfigurationError: an argument is wrong, or the name is taken in another scope. Not retried.
    :raises WandbNotFoundError: no such registry, project, collection or integration. Not retried.
    :raises WandbPermissionError: the key may not manage automations there. Not retried.
    :raises WandbUnavailableError: W&B could not be reached. Retried.
    """

    template_fields: Sequence[str] = (
        "name",
        "integration",
        "registry",
        "project",
        "entity",
        "collection",
        "artifact_type",
        "alias",
        "run_name",
        "title",
        "message",
        "description",
        "wandb_conn_id",
    )
    ui_color = "#fff3c9"

    def __init__(
        self,
        *,
        name: str,
        event: Event,
        action: Action,
        integration: str | None = None,
        registry: str | None = None,
        project: str | None = None,
        entity: str | None = None,
        collection: str | None = None,
        artifact_type: str | None = None,
        alias: str | None = None,
        metric: MetricCondition | None = None,
        states: Sequence[str] = (),
        run_name: str | None = None,
        payload: Mapping[str, Any] | None = None,
        title: str | None = None,
        message: str | None = None,
        severity: str = "INFO",
        description: str | None = None,
        enabled: bool = True,
        wandb_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.event = event
        self.action = action
        self.integration = integration
        self.registry = registry
        self.project = project
        self.entity = entity
        self.collection = collection
        self.artifact_type = artifact_type
        self.alias = alias
        self.metric = metric
        self.states = states
        self.run_name = run_name
        self.payload = payload
        self.title = title
        self.message = message
        self.severity = severity
        self.description = description
        self.enabled = enabled
        self.wandb_conn_id = wandb_conn_id
        given = [str(getattr(self, field)) for field in self.template_fields]
        if not any("{{" in text or "{%" in text for text in given):
            check_automation(self._spec())

    def execute(self, context: Context) -> dict[str, str]:
        """Create the automation or bring it in line, and say which."""
        from wandb_airflow_provider.hooks.automations import put_automation
        from wandb_airflow_provider.hooks.runs import release_when_idle

        try:
            saved = put_automation(WandbHook(self.wandb_conn_id), self._spec())
        finally:
            release_when_idle()
        self.log.info("The automation %r (%s) is %s", saved.name, saved.id, saved.outcome)
        return saved.to_json()

    def _spec(self) -> AutomationSpec:
        names = [field for field in AutomationSpec._fields if field != "states"]
        return AutomationSpec(
            **{name: getattr(self, name) for name in names}, states=tuple(str(state) for state in self.states)
        )
