"""What an automation of W&B shall be: its event, where it watches, and what it does. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from wandb_airflow_provider.artifacts import PROJECT_PREFIX, validate_alias, validate_artifact_name
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.record import Record

__all__ = ["Action", "AutomationSpec", "Event", "MetricCondition", "check_automation"]

Event: TypeAlias = Literal["alias_added", "artifact_linked", "artifact_created", "run_metric", "run_state"]
Action: TypeAlias = Literal["webhook", "notification", "nothing"]

ARTIFACT_EVENTS: tuple[Event, ...] = ("alias_added", "artifact_linked", "artifact_created")
RUN_STATES = ("running", "finished", "failed")
SEVERITIES = ("INFO", "WARN", "ERROR")
_LONGEST_NAME = 255
_LIMITS = ("above", "below", "increases_by", "decreases_by", "changes_by")


class MetricCondition(Record):
    """
    When a metric of a run fires an automation: exactly one of the five limits.

    :param metric: Name of the metric, as it is logged.
    :param above: Fires when the value is greater.
    :param below: Fires when the value is less.
    :param increases_by: Fires when the value rises by this much from one window to the next; ``decreases_by`` and
        ``changes_by`` likewise.
    :param relative: Whether those three are fractions, 0.1 for 10 %, rather than differences.
    :param window: How many logged values are taken together.
    :param aggregate: How: ``mean``, ``min`` or ``max``.
    """

    metric: str
    above: float | None = None
    below: float | None = None
    increases_by: float | None = None
    decreases_by: float | None = None
    changes_by: float | None = None
    relative: bool = True
    window: int = 1
    aggregate: Literal["mean", "min", "max"] = "mean"

    @property
    def limit(self) -> tuple[str, float]:
        """
        The name of the limit and its value.

        :raises WandbConfigurationError: none is given, or several, or one that is no number.
        """
        given = {name: getattr(self, name) for name in _LIMITS if getattr(self, name) is not None}
        if len(given) != 1:
            raise WandbConfigurationError(
                f"The condition on the metric {self.metric!r} needs exactly one of {', '.join(_LIMITS)}; it has "
                f"{sorted(given) or 'none'}."
            )
        ((name, value),) = given.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise WandbConfigurationError(
                f"The condition on the metric {self.metric!r}: {name} is {value!r}; expected a number."
            )
        if name.endswith("_by") and value <= 0:
            raise WandbConfigurationError(
                f"The condition on the metric {self.metric!r}: {name} is {value!r}; expected more than 0."
            )
        return name, float(value)


class AutomationSpec(Record):
    """
    An automation, its names rendered.

    :param name: Unique in its entity; what makes creating it idempotent.
    :param registry: The registry that is watched, without the prefix of its project; None watches a project.
    :param entity: Owner of the project, and of the integrations. Default: the connection's.
    :param project: The project that is watched; default: the connection's.
    :param collection: The one collection that is watched; None watches all of the registry or project.
    :param artifact_type: Type of the collection in a project.
    """

    name: str
    event: Event
    action: Action
    description: str | None = None
    enabled: bool = True
    registry: str | None = None
    entity: str | None = None
    project: str | None = None
    collection: str | None = None
    artifact_type: str | None = None
    alias: str | None = None
    metric: MetricCondition | None = None
    states: tuple[str, ...] = ()
    run_name: str | None = None
    integration: str | None = None
    payload: Mapping[str, Any] | None = None
    title: str | None = None
    message: str | None = None
    severity: str = "INFO"


def check_automation(spec: AutomationSpec) -> None:
    """
    Refuse what cannot be: an unknown event or action, or arguments that it has no use for or lacks.

    :raises WandbConfigurationError: what is wrong. Nothing has been sent.
    """
    if not spec.name.strip() or len(spec.name) > _LONGEST_NAME:
        raise WandbConfigurationError(
            f"An automation needs a name of at most {_LONGEST_NAME} characters, not {spec.name[:40]!r}."
        )
    _one_of(spec, "event", spec.event, get_args(Event))
    _one_of(spec, "action", spec.action, get_args(Action))
    if spec.event in ARTIFACT_EVENTS:
        _check_artifact_event(spec)
    else:
        _check_run_event(spec)
    _check_action(spec)


def _check_artifact_event(spec: AutomationSpec) -> None:
    _useless(spec, metric=spec.metric, states=spec.states, run_name=spec.run_name)
    if spec.collection is not None:
        validate_artifact_name(spec.collection)
    if spec.registry is not None:
        validate_artifact_name(spec.registry.removeprefix(PROJECT_PREFIX))
        _useless(spec, artifact_type=spec.artifact_type, project=spec.project)
    elif spec.collection is not None and not spec.artifact_type:
        raise WandbConfigurationError(
            f"Automation {spec.name!r}: the collection {spec.collection!r} of a project needs its artifact_type."
        )
    if spec.event == "artifact_created":
        if spec.registry is not None or spec.collection is None:
            raise WandbConfigurationError(
                f"Automation {spec.name!r}: W&B watches for created versions in one collection of a project; in a "
                "registry versions are linked: use event='artifact_linked'."
            )
        _useless(spec, alias=spec.alias)
    elif spec.alias is not None:
        validate_alias(spec.alias)


def _check_run_event(spec: AutomationSpec) -> None:
    _useless(
        spec,
        registry=spec.registry,
        collection=spec.collection,
        artifact_type=spec.artifact_type,
        alias=spec.alias,
    )
    if spec.event == "run_metric":
        _useless(spec, states=spec.states)
        if spec.metric is None:
            raise WandbConfigurationError(f"Automation {spec.name!r}: event='run_metric' needs metric=.")
        _ = spec.metric.limit
        _one_of(spec, "aggregate", spec.metric.aggregate, ("mean", "min", "max"))
        if isinstance(spec.metric.window, bool) or not isinstance(spec.metric.window, int):
            raise WandbConfigurationError(f"Automation {spec.name!r}: window is {spec.metric.window!r}.")
        if spec.metric.window < 1:
            raise WandbConfigurationError(f"Automation {spec.name!r}: window must be at least 1.")
        return
    _useless(spec, metric=spec.metric)
    if not spec.states:
        raise WandbConfigurationError(
            f"Automation {spec.name!r}: event='run_state' needs states= out of {', '.join(RUN_STATES)}."
        )
    for state in spec.states:
        _one_of(spec, "states", state, RUN_STATES)


def _check_action(spec: AutomationSpec) -> None:
    if spec.action == "webhook":
        _useless(spec, title=spec.title, message=spec.message)
        if spec.payload is None and spec.event not in ARTIFACT_EVENTS:
            raise WandbConfigurationError(
                f"Automation {spec.name!r}: Airflow's own endpoint receives events of artifacts only; give a webhook "
                f"for event={spec.event!r} the payload that its receiver expects."
            )
    elif spec.action == "notification":
        _useless(spec, payload=spec.payload)
        _one_of(spec, "severity", spec.severity.upper(), SEVERITIES)
    else:
        _useless(
            spec, integration=spec.integration, payload=spec.payload, title=spec.title, message=spec.message
        )
        return
    if not spec.integration:
        raise WandbConfigurationError(
            f"Automation {spec.name!r}: action={spec.action!r} needs integration=, the name that W&B's team "
            "settings show."
        )


def _one_of(spec: AutomationSpec, argument: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise WandbConfigurationError(
            f"Automation {spec.name!r}: {argument} is {value!r}; expected one of {', '.join(known)}."
        )


def _useless(spec: AutomationSpec, **arguments: object) -> None:
    given = sorted(name for name, value in arguments.items() if value)
    if given:
        raise WandbConfigurationError(
            f"Automation {spec.name!r}: event={spec.event!r} with action={spec.action!r} has no use for "
            f"{', '.join(given)}."
        )
