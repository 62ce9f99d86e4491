"""How a process that a task started knows its place among W&B runs: variables, read and written without Airflow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

__all__ = ["ProcessContext", "config_variables", "context_of", "is_cut_off", "put_in_place"]

_PROVENANCE = "airflow"
_CONFIG = "WANDB_CONFIG"
# Linux refuses a process of which one variable is longer than 128 KiB.
_MAX_VARIABLE = 100_000
_OWN = frozenset({"WANDB_RUN_ID", "WANDB_NAME", "WANDB_RESUME"})


class ProcessContext(NamedTuple):
    """
    Where the runs of a process belong.

    :param parent: ``entity/project/run_id`` of the run that they are below; None without one.
    :param config: What each of them has in its config, the provenance of the task included.
    """

    entity: str
    project: str
    parent: str | None
    config: Mapping[str, Any]

    def path(self, wandb_run_id: str) -> str:
        """Return ``entity/project/run_id`` of a run here."""
        return f"{self.entity}/{self.project}/{wandb_run_id}"

    def config_of(self, own: Mapping[str, Any], **place: Any) -> dict[str, Any]:
        """
        Return the config of a run below the parent.

        :param own: Further keys.
        :param place: Further keys of the provenance, such as ``upstream_runs``.
        """
        provenance = {**self.config[_PROVENANCE], "parent_run": self.parent, "retry_of": None, **place}
        return {**self.config, **own, _PROVENANCE: provenance}

    def below(self, wandb_run_id: str) -> ProcessContext:
        """Return the place below a run that is here itself."""
        config = {**self.config, _PROVENANCE: {**self.config[_PROVENANCE], "upstream_runs": []}}
        return self._replace(parent=self.path(wandb_run_id), config=config)


def context_of(environment: Mapping[str, str]) -> ProcessContext | None:
    """
    Return the place that a task gave a process, by ``wandb_environment`` or ``WandbChildRun``.

    :return: None for a process that no task started, or that shall record nothing now because W&B is away.
    """
    if environment.get("WANDB_LAUNCH") != "true" or environment.get("WANDB_MODE", "online") != "online":
        return None
    config = _config_from(environment)
    entity, project = environment.get("WANDB_ENTITY"), environment.get("WANDB_PROJECT")
    if not entity or not project or not isinstance(config.get(_PROVENANCE), dict):
        return None
    own_run = environment.get("WANDB_RUN_ID")
    parent = f"{entity}/{project}/{own_run}" if own_run else config[_PROVENANCE].get("parent_run")
    return ProcessContext(entity, project, parent, config)


def is_cut_off(environment: Mapping[str, str]) -> bool:
    """Say whether a task gave the process a place, but no W&B to send anything to (``on_unavailable="offline"``)."""
    online = {**environment, "WANDB_MODE": "online"}
    return environment.get("WANDB_MODE") == "offline" and context_of(online) is not None


def put_in_place(
    environment: MutableMapping[str, str], config: Mapping[str, Any], variables: Mapping[str, str]
) -> None:
    """
    Make ``wandb.init()`` of this process and its children open another run than before.

    :param config: The run's config.
    :param variables: What else says which run it is; without ``WANDB_RUN_ID`` each ``wandb.init()`` makes its own.
    """
    for name in [name for name in environment if name in _OWN or _is_config(name)]:
        del environment[name]
    environment.update(variables)
    environment.update(config_variables(config))


def config_variables(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the variables that carry the config of a run: one, or several where it is long."""
    text = json.dumps(dict(config), default=str)
    if len(text) <= _MAX_VARIABLE:
        yield _CONFIG, text
        return
    for number, start in enumerate(range(0, len(text), _MAX_VARIABLE)):
        yield f"{_CONFIG}_{number}", text[start : start + _MAX_VARIABLE]


def _config_from(environment: Mapping[str, str]) -> dict[str, Any]:
    text = environment.get(_CONFIG)
    if text is None:
        parts = sorted((int(name.rpartition("_")[2]), name) for name in environment if _is_config(name))
        text = "".join(environment[name] for _, name in parts)
    try:
        config = json.loads(text)
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def _is_config(name: str) -> bool:
    return name == _CONFIG or (name.startswith(f"{_CONFIG}_") and name.rpartition("_")[2].isdecimal())
