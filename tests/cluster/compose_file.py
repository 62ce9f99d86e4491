"""``docker-compose.yaml`` as Compose reads it: variables put in, and what each service runs."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yaml"


class MissingVariableError(ValueError):
    """A variable that has to be set is not."""


@dataclass
class Service:
    """One container."""

    name: str
    command: list[str]
    environment: dict[str, str]
    settings: Mapping[str, Any] = field(repr=False)


def generated_variables() -> dict[str, str]:
    """The variables that ``docker/generate_env.py`` gives to a new installation."""
    script = runpy.run_path(str(ROOT / "docker" / "generate_env.py"))
    return variables_of(script["generate"](script["EXAMPLE"].read_text()))


def variables_of(text: str) -> dict[str, str]:
    """Read an ``.env`` file."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def read_services(variables: Mapping[str, str]) -> dict[str, Service]:
    """Every service, with its variables put in."""
    services = put_in(yaml.safe_load(COMPOSE_FILE.read_text()), variables)["services"]
    return {
        name: Service(
            name,
            [*settings.get("entrypoint", []), *settings.get("command", [])],
            {key: str(value) for key, value in settings.get("environment", {}).items()},
            settings,
        )
        for name, settings in services.items()
    }


def put_in(value: Any, variables: Mapping[str, str], seen: set[str] | None = None) -> Any:
    """
    Put variables into every text, as Compose does.

    :param seen: Collects the name of each variable that is asked for, chosen or not.
    :raises MissingVariableError: one that has to be set is not.
    """
    if isinstance(value, str):
        return _text(value, variables, set() if seen is None else seen)
    if isinstance(value, list):
        return [put_in(each, variables, seen) for each in value]
    if isinstance(value, dict):
        return {key: put_in(each, variables, seen) for key, each in value.items()}
    return value


def _text(text: str, variables: Mapping[str, str], seen: set[str]) -> str:
    out, rest = "", text
    while True:
        before, dollar, rest = rest.partition("$")
        out += before
        if not dollar:
            return out
        if rest.startswith("$"):
            out, rest = out + "$", rest[1:]
            continue
        if not rest.startswith("{"):
            raise ValueError(f"a lone dollar sign in {text!r}")
        inside, rest = _braces(rest)
        out += _variable(inside, variables, seen)


def _braces(text: str) -> tuple[str, str]:
    depth = 0
    for index, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[1:index], text[index + 1 :]
    raise ValueError(f"unclosed brace in {text!r}")


def _variable(inside: str, variables: Mapping[str, str], seen: set[str]) -> str:
    name, operator, rest = inside, "", ""
    for candidate in (":-", ":?"):
        if candidate in inside and (not operator or inside.index(candidate) < len(name)):
            name, operator, rest = inside[: inside.index(candidate)], candidate, inside.split(candidate, 1)[1]
    seen.add(name)
    # Read in any case, so that every variable is seen.
    alternative = _alternative(rest, variables, seen) if operator == ":-" else None
    if value := variables.get(name, ""):
        return value
    if operator == ":?":
        raise MissingVariableError(f"{name}: {rest}")
    if isinstance(alternative, MissingVariableError):
        raise alternative
    return alternative or ""


def _alternative(rest: str, variables: Mapping[str, str], seen: set[str]) -> str | MissingVariableError:
    try:
        return _text(rest, variables, seen)
    except MissingVariableError as error:
        return error
