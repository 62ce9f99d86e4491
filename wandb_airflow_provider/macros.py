"""Template macros: ``{{ macros.wandb.environment() }}`` and what is made of it. None holds a secret."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, cast

from jinja2 import pass_context
from jinja2.runtime import Context as Names

__all__ = ["environment", "exports", "wandb_environment_templates"]

_VARIABLES = (
    "WANDB_ENTITY",
    "WANDB_PROJECT",
    "WANDB_RUN_GROUP",
    "WANDB_JOB_TYPE",
    "WANDB_TAGS",
    "WANDB_BASE_URL",
    "WANDB_CONSOLE",
    "WANDB_LAUNCH",
    "WANDB_RUN_ID",
    "WANDB_NAME",
    "WANDB_RESUME",
    "WANDB_CONFIG",
)
# One environment is twelve templates; each would read the upstream runs again.
_last: dict[Any, dict[str, str]] = {}


@pass_context
def environment(names: Names, **arguments: Any) -> dict[str, str]:
    """
    Return the variables of :func:`~wandb_airflow_provider.environment.wandb_environment` for the task that renders.

    :param arguments: Its arguments, without ``secrets``: Airflow stores rendered templates and shows them.
    :raises WandbConfigurationError: ``secrets`` was passed, ``WANDB_CONFIG`` is asked for and the config is
        too large for one variable, or as for the function.
    """
    from wandb_airflow_provider.environment import wandb_environment
    from wandb_airflow_provider.exceptions import WandbConfigurationError

    if "secrets" in arguments:
        raise WandbConfigurationError(
            "A template cannot hold a secret: Airflow stores rendered templates and shows them. Use WandbChildRun as "
            "pre_execute, or what the operator has for secrets."
        )
    asked = (str(names["ti"].id), repr(sorted(arguments.items())))
    if asked not in _last:
        _last.clear()
        _last[asked] = wandb_environment(cast("Any", names), **arguments)
    return _Variables(_last[asked])


class _Variables(dict[str, str]):
    def __missing__(self, name: str) -> str:
        from wandb_airflow_provider.exceptions import WandbConfigurationError

        if name != "WANDB_CONFIG":
            raise KeyError(name)
        raise WandbConfigurationError(
            "The config of this task's run is too large for one variable, which a template stands for. "
            "Use WandbChildRun as pre_execute, which sets all of them, or macros.wandb.exports()."
        )


@pass_context
def exports(names: Names, **arguments: Any) -> str:
    """Return the variables as shell commands, one ``export`` a line, for the start of a script."""
    found: Mapping[str, str] = environment(names, **arguments)
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in found.items())


def wandb_environment_templates(**arguments: Any) -> dict[str, str]:
    """
    Return the variables as templates, for the templated environment of any operator.

    :param arguments: As for :func:`~wandb_airflow_provider.environment.wandb_environment`, as text or None.
    """
    call = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    left_out = (
        {"WANDB_RUN_ID", "WANDB_NAME", "WANDB_RESUME"} if arguments.get("run_id", "") is None else set()
    )
    return {
        name: f"{{{{ macros.wandb.environment({call}).{name} }}}}"
        for name in _VARIABLES
        if name not in left_out
    }
