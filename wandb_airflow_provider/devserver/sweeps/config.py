"""A sweep's configuration: YAML text as clients send it, checked, as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from wandb_airflow_provider.devserver.graphql.registry import GraphQLError
from wandb_airflow_provider.devserver.sweeps.search import Inspection, inspect

METHODS = ("grid", "random", "bayes")


@dataclass(frozen=True)
class SweepConfig:
    """
    A checked configuration.

    :param values: All of it, as JSON values.
    :param inspection: What the search says of it.
    """

    values: dict[str, Any]
    inspection: Inspection

    @property
    def expected_runs(self) -> int | None:
        """How many runs the sweep ends after: the points of its grid, or its ``run_cap``; None if it has no end."""
        points = self.inspection.points
        ends = [self.values.get("run_cap"), None if points is None else len(points)]
        return min((end for end in ends if end is not None), default=None)


def read_config(text: str) -> SweepConfig:
    """
    Return the configuration in YAML or JSON text.

    :raises GraphQLError: 400 with what is wrong: not YAML, no known method, no parameters, nothing to search.
    """
    values = _parse(text)
    method = values.get("method")
    if method not in METHODS:
        raise GraphQLError(
            f"invalid sweep config: the method is {method!r}; it can be {', '.join(METHODS)}. The dev server runs the"
            " search itself, so that a sweep with a scheduler of its own (method custom) cannot run here."
        )
    controller = values.get("controller")
    if isinstance(controller, dict) and controller.get("type", "cloud") != "cloud":
        raise GraphQLError(
            f"invalid sweep config: the controller is of type {controller['type']!r}. The dev server runs the search"
            " itself; leave the controller out."
        )
    if not isinstance(values.get("parameters"), dict) or not values["parameters"]:
        raise GraphQLError("invalid sweep config: 'parameters' must name at least one parameter.")
    _check_limits(values)
    inspection = inspect(values)
    if inspection.error is not None:
        raise GraphQLError(f"invalid sweep config: {inspection.error}")
    return SweepConfig(values, inspection)


def _check_limits(values: dict[str, Any]) -> None:
    cap = values.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or isinstance(cap, bool) or cap < 1):
        raise GraphQLError(f"invalid sweep config: run_cap is {cap!r}; it must be a whole number from 1 on.")
    metric = values.get("metric")
    if metric is not None and (not isinstance(metric, dict) or not isinstance(metric.get("name"), str)):
        raise GraphQLError(f"invalid sweep config: metric is {metric!r}; it needs a 'name' (text).")


def _parse(text: str) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            # A few nested aliases can stand for gigabytes.
            if self.check_event(yaml.AliasEvent):
                raise GraphQLError("invalid sweep config: YAML aliases are not supported; write values out.")
            return super().compose_node(parent, index)

    try:
        values = yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise GraphQLError(f"invalid sweep config: it is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise GraphQLError(f"invalid sweep config: it must be a mapping, not {type(values).__name__}.")
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain
