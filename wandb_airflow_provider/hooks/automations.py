"""Create an automation, or bring the one of that name in line."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from wandb_airflow_provider.automation import AutomationSpec, check_automation
from wandb_airflow_provider.exceptions import WandbConfigurationError, WandbNotFoundError, WandbPermanentError
from wandb_airflow_provider.registry import PROJECT_PREFIX
from wandb_airflow_provider.watching.notice import webhook_payload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wandb_airflow_provider.hooks.wandb import WandbHook

__all__ = ["SavedAutomation", "put_automation"]


class SavedAutomation(NamedTuple):
    """
    An automation as W&B has it now.

    :param outcome: What had to be done to have it so.
    """

    name: str
    id: str
    outcome: Literal["created", "updated", "unchanged"]

    def to_json(self) -> dict[str, str]:
        """Return the JSON value."""
        return dict(self._asdict())


def put_automation(hook: WandbHook, spec: AutomationSpec) -> SavedAutomation:
    """
    Create the automation, or change the one of that name where it differs; W&B knows no two of a name in an entity.

    :raises WandbConfigurationError: the specification is wrong, or the name is taken in another scope. Not retried.
    :raises WandbNotFoundError: no such registry, project, collection or integration. Not retried.
    :raises WandbPermissionError: the key may not manage automations there. Not retried.
    :raises WandbUnavailableError: W&B could not be reached. Retried.
    """
    check_automation(spec)
    for what, text in (("name", spec.name), ("title", spec.title), ("message", spec.message)):
        hook.privacy.require_clean(f"The automation's {what}", text)
    hook.privacy.require_clean("The automation's description", spec.description)
    hook.privacy.require_clean("The automation's run_name", spec.run_name)
    hook.privacy.require_clean("The automation's metric", spec.metric.metric if spec.metric else None)
    if spec.payload is not None:
        hook.privacy.require_clean(
            "The automation's payload", json.dumps(dict(spec.payload), ensure_ascii=False)
        )
    scope, entity = _scope(hook, spec)
    from wandb_airflow_provider import sdk

    with hook.translate_errors(f"describe the automation {spec.name!r}"), warnings.catch_warnings():
        # wandb warns of a field of its own, which it reads itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        wanted = sdk.automations()
        event = _event(wanted, spec, scope)
        action = _action(hook, wanted, spec)
    saved = _named(hook, entity, spec.name)
    if saved is None:
        try:
            with hook.translate_errors(f"create the automation {spec.name!r}"):
                made = hook.get_conn().create_automation(
                    event.then(action),
                    name=spec.name,
                    description=spec.description or "",
                    enabled=spec.enabled,
                )
            return SavedAutomation(made.name, made.id, "created")
        except WandbPermanentError:
            # Another task may have created it in between.
            saved = _named(hook, entity, spec.name)
            if saved is None:
                raise
    if saved.scope.id != event.scope.id:
        raise WandbConfigurationError(
            f"{entity!r} has an automation {spec.name!r} already, which watches {saved.scope.name!r}. Give this one "
            "another name, or delete that one in W&B."
        )
    if _differences(saved, event, action, spec):
        with hook.translate_errors(f"change the automation {spec.name!r}"):
            saved = hook.get_conn().update_automation(
                saved, event=event, action=action, description=spec.description or "", enabled=spec.enabled
            )
        return SavedAutomation(saved.name, saved.id, "updated")
    return SavedAutomation(saved.name, saved.id, "unchanged")


def _named(hook: WandbHook, entity: str, name: str) -> Any | None:
    with hook.translate_errors(f"look for the automation {name!r} of {entity!r}"):
        return next(iter(hook.get_conn().automations(entity, name=name)), None)


def _scope(hook: WandbHook, spec: AutomationSpec) -> tuple[Any, str]:
    """Return what is watched, as the SDK takes it, and the entity that its automations belong to."""
    if spec.registry is not None:
        return _registry_scope(hook, spec, spec.registry.removeprefix(PROJECT_PREFIX))
    entity, project = spec.entity or hook.entity, spec.project or hook.project
    api = hook.get_conn()
    if spec.collection is None:
        hook.require_project(entity, project)
        with hook.translate_errors(f"read the project {entity}/{project}"):
            return api.project(project, entity), entity
    path = f"{entity}/{project}/{spec.collection}"
    with hook.translate_errors(f"read the collection {path!r} of the type {spec.artifact_type!r}"):
        return api.artifact_collection(str(spec.artifact_type), path), entity


def _registry_scope(hook: WandbHook, spec: AutomationSpec, name: str) -> tuple[Any, str]:
    with hook.translate_errors(f"read the registry {name!r}"):
        known = hook.get_conn().registries(
            hook.connection.organization, filter={"name": f"{PROJECT_PREFIX}{name}"}
        )
        registry = next(iter(known), None)
        if registry is None:
            raise WandbNotFoundError(
                f"There is no registry {name!r}, or this key cannot see it ({hook.connection}). Check the name and the "
                "connection's organization."
            )
        entity = str(registry.entity)
        if spec.collection is None:
            return registry, entity
        found = next(iter(registry.collections(filter={"name": spec.collection})), None)
    if found is None:
        raise WandbNotFoundError(
            f"The registry {name!r} has no collection {spec.collection!r} ({hook.connection}). Link a version into it "
            "first, or leave collection out to watch the whole registry."
        )
    return found, entity


def _event(wanted: Any, spec: AutomationSpec, scope: Any) -> Any:
    if spec.event == "artifact_created":
        return wanted.OnCreateArtifact(scope=scope)
    if spec.event in ("alias_added", "artifact_linked"):
        kind = wanted.OnAddArtifactAlias if spec.event == "alias_added" else wanted.OnLinkArtifact
        if spec.alias is None:
            return kind(scope=scope)
        return kind(scope=scope, filter=wanted.ArtifactEvent.alias.eq(spec.alias))
    kind = wanted.OnRunMetric if spec.event == "run_metric" else wanted.OnRunState
    condition = (
        _metric(wanted, spec) if spec.event == "run_metric" else wanted.RunEvent.state.in_(spec.states)
    )
    if spec.run_name is not None:
        condition = condition & wanted.RunEvent.name.contains(spec.run_name)
    return kind(scope=scope, filter=condition)


def _metric(wanted: Any, spec: AutomationSpec) -> Any:
    given = spec.metric
    assert given is not None
    value = wanted.RunEvent.metric(given.metric)
    if given.window > 1:
        value = getattr(value, given.aggregate)(given.window)
    name, limit = given.limit
    if name in ("above", "below"):
        return value.gt(limit) if name == "above" else value.lt(limit)
    return getattr(value, name)(**{"frac" if given.relative else "diff": limit})


def _action(hook: WandbHook, wanted: Any, spec: AutomationSpec) -> Any:
    if spec.action == "nothing":
        return wanted.DoNothing()
    api, entity = hook.get_conn(), spec.entity or hook.entity
    if spec.action == "webhook":
        known: Iterable[Any] = api.webhook_integrations(entity)
        webhook = _integration(hook, spec, entity, [(item.name, item) for item in known])
        payload = dict(spec.payload) if spec.payload is not None else webhook_payload()
        return wanted.SendWebhook.from_integration(webhook, payload=payload)
    known = api.slack_integrations(entity=entity)
    slack = _integration(
        hook, spec, entity, [(f"{item.team_name}/{item.channel_name}", item) for item in known]
    )
    return wanted.SendNotification.from_integration(
        slack, title=spec.title or "", text=spec.message or "", level=spec.severity.upper()
    )


def _integration(hook: WandbHook, spec: AutomationSpec, entity: str, known: list[tuple[str, Any]]) -> Any:
    found = [item for name, item in known if name == spec.integration]
    if len(found) == 1:
        return found[0]
    kind = "webhook" if spec.action == "webhook" else "Slack channel (workspace/channel)"
    if found:
        raise WandbConfigurationError(f"Team {entity!r} has {len(found)} {kind}s named {spec.integration!r}.")
    raise WandbNotFoundError(
        f"Team {entity!r} has no {kind} named {spec.integration!r}; it has {sorted(name for name, _ in known)} "
        f"({hook.connection}). A team admin adds one in W&B's team settings; the SDK cannot."
    )


def _differences(saved: Any, event: Any, action: Any, spec: AutomationSpec) -> list[str]:
    """Return what the saved automation has otherwise than it is wanted."""
    pairs = {
        "description": (saved.description or "", spec.description or ""),
        "enabled": (saved.enabled, spec.enabled),
        "event": (saved.event.event_type, event.event_type),
        "filter": (_filter_of(saved.event), _filter_of(event)),
        "action": (_action_of(saved.action), _action_of(action)),
    }
    return [name for name, (have, want) in pairs.items() if have != want]


def _filter_of(event: Any) -> Any:
    """Return a condition as plain values; what W&B has saved is nested one level deeper than what is sent."""
    found = _plain(event.model_dump()["filter"])
    return found["filter"] if isinstance(found, dict) and set(found) == {"filter"} else found


def _action_of(action: Any) -> Any:
    """Return an action as plain values; what W&B has saved holds the integration, what is sent names it."""
    found = _plain(action.model_dump())
    integration = getattr(action, "integration_id", None) or getattr(
        getattr(action, "integration", None), "id", None
    )
    kept = ("requestPayload", "title", "message", "severity")
    told = {name: found[name] for name in kept if found.get(name) not in (None, "")}
    return {"type": action.action_type, "integration": integration, **told}


def _plain(value: Any) -> Any:
    """Return a value with the JSON in its strings read, and nothing where there is nothing."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        return _plain(json.loads(value))
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list) else value
