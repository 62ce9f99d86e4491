"""Rules from their JSON values and from YAML. Pure: no network, no clock, no wandb."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.rules.age import AgeRule
from wandb_airflow_provider.rules.combination import AllOf, AnyOf
from wandb_airflow_provider.rules.metric import MetricRule
from wandb_airflow_provider.rules.paired import PairedRule
from wandb_airflow_provider.rules.rule import Rule
from wandb_airflow_provider.rules.table import TableRule

__all__ = ["has_templates", "load_rules", "parse_rule", "parse_rules", "rules_schema", "shorten"]

_KINDS: dict[str, type[Rule]] = {
    kind.kind: kind for kind in (MetricRule, TableRule, AgeRule, PairedRule, AllOf, AnyOf)
}
_FILE_KEYS = {"rules", "$schema"}


def parse_rule(value: Any) -> Rule:
    """
    Return one rule, given as a rule or as its JSON value, whose ``kind`` is ``metric`` by default.

    :raises WandbConfigurationError: not a mapping, an unknown kind or option, or a wrong rule.
    """
    if isinstance(value, Rule):
        return value
    if not isinstance(value, Mapping):
        raise WandbConfigurationError(f"Expected a rule as a mapping of its options, got {shorten(value)}.")
    name = value.get("kind", "metric")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise WandbConfigurationError(
            f"The rule {shorten(value)} is of the unknown kind {name!r}; known are {list(_KINDS)}."
        )
    return kind.from_dict(value)


def parse_rules(rules: Any) -> tuple[Rule, ...]:
    """
    Return the rules of a gate, given as rules, as their JSON values, or as YAML text of these.

    :raises WandbConfigurationError: none, not a list, a wrong rule, or none that could stop a candidate. A gate
        without such a rule would pass everything.
    """
    rules = _list_of(rules)
    if isinstance(rules, Rule):
        rules = (rules,)
    if isinstance(rules, str | Mapping) or not isinstance(rules, Iterable):
        raise WandbConfigurationError(f"Expected a list of rules, got {shorten(rules)}.")
    parsed = tuple(parse_rule(rule) for rule in rules)
    if not parsed:
        raise WandbConfigurationError("A gate needs at least one rule: without one, everything would pass.")
    if all(rule.severity == "warn" for rule in parsed):
        raise WandbConfigurationError(
            "Every rule of the gate only warns: without one of severity 'block', everything would pass."
        )
    return parsed


def load_rules(path: str | PathLike[str]) -> list[dict[str, Any]]:
    """
    Read the rules of a YAML or JSON file, a list or a mapping with the key ``rules``.

    Where no templates are in it, the rules are checked, so that a wrong file is an error of the DAG that loads it.

    :param path: Relative to the working directory, which is not the DAG's: ``Path(__file__).with_name(...)``.
    :raises WandbConfigurationError: no such file, not YAML, or wrong rules.
    """
    file = Path(fspath(path))
    try:
        found = _list_of(file.read_text("utf-8"))
        if not isinstance(found, list):
            raise WandbConfigurationError(f"Expected a list of rules, got {shorten(found)}.")
        if not has_templates(found):
            parse_rules(found)
    except (OSError, UnicodeDecodeError, WandbConfigurationError) as error:
        raise WandbConfigurationError(f"The file of rules {str(file)!r} cannot be used: {error}") from error
    return found


def rules_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a file of rules, as the package ships it in ``rules/schema.json``."""
    import json

    schema: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text("utf-8"))
    return schema


def has_templates(value: Any) -> bool:
    """Whether something in the value is known only when the task runs."""
    if isinstance(value, Mapping):
        return any(has_templates(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(has_templates(item) for item in value)
    return (isinstance(value, str) and ("{{" in value or "{%" in value)) or hasattr(value, "resolve")


def _list_of(value: Any) -> Any:
    """Return what YAML text holds, and of a file's mapping the list."""
    if isinstance(value, str):
        value = _read_yaml(value)
    if isinstance(value, Mapping) and "rules" in value and set(value) <= _FILE_KEYS:
        return value["rules"]
    return value


def _read_yaml(text: str) -> Any:
    """Read YAML. Of an option given twice YAML would take the last: the rule before a forgotten dash would be lost."""
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            given: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in given:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"{key.value!r} is given twice in one mapping", key.start_mark
                        )
                    given.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506 -- a safe loader
    except yaml.YAMLError as error:
        raise WandbConfigurationError(f"The rules are not YAML: {error}") from error


def shorten(value: Any) -> str:
    """Return a value as an error message shows it."""
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
