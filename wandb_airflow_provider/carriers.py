"""How each operator that starts a process takes environment variables, and what of a secret others can see there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.kubernetes_secret import KubernetesSecret

__all__ = ["Carrier", "KeyCarrier", "KubernetesSecret", "SecretCarrier", "carrier_of"]

_PLACE = ("WANDB_ENTITY", "WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_BASE_URL")
_KEY = "WANDB_API_KEY"


class Carrier(ABC):
    """
    Gives variables to an operator whose templates are rendered, so that Airflow neither stores nor shows them.

    :cvar on_worker: The process runs on the worker's machine and can read a file there.
    """

    on_worker: ClassVar[bool] = False

    def __init__(self, task: Any) -> None:
        self.task = task

    @property
    @abstractmethod
    def given(self) -> Mapping[str, Any]:
        """The variables that the DAG's author gave the operator."""

    @property
    def inherits(self) -> bool:
        """Whether the process also sees the worker's environment."""
        return False

    @abstractmethod
    def give(self, variables: Mapping[str, str]) -> None:
        """Add variables to the operator's."""

    def merge(self, variables: Mapping[str, str]) -> dict[str, str]:
        """
        Return the variables without those that the author set otherwise.

        :raises WandbConfigurationError: the author's would send the run somewhere else than its task's place.
        """
        given = self.given
        for name in _PLACE:
            if name in given and name in variables and given[name] != variables[name]:
                raise WandbConfigurationError(
                    f"Task {self.task.task_id!r}: {name} is {given[name]!r} in the operator's environment, and "
                    f"{variables[name]!r} for the task's run. Remove it there, and pass entity= or project= to "
                    "WandbChildRun if the run belongs elsewhere."
                )
        return {name: value for name, value in variables.items() if name not in given}


class KeyCarrier(Carrier):
    """Its operator has a place for a secret value that Airflow never shows."""

    @abstractmethod
    def give_key(self, api_key: str) -> str:
        """Pass the key there, and say who else can see it."""


class SecretCarrier(Carrier):
    """Its process can get a variable from a Kubernetes secret."""

    @abstractmethod
    def give_secret(self, secret: KubernetesSecret) -> None:
        """Pass the key by naming the secret that holds it."""


class _Bash(Carrier):
    on_worker = True

    @property
    def given(self) -> Mapping[str, Any]:
        return self.task.env or {}

    @property
    def inherits(self) -> bool:
        return self.task.env is None or self.task.append_env

    def give(self, variables: Mapping[str, str]) -> None:
        self.task.append_env = self.inherits
        self.task.env = {**(self.task.env or {}), **variables}


class _Virtualenv(Carrier):
    on_worker = True

    @property
    def given(self) -> Mapping[str, Any]:
        return self.task.env_vars or {}

    @property
    def inherits(self) -> bool:
        return bool(self.task.inherit_env)

    def give(self, variables: Mapping[str, str]) -> None:
        self.task.env_vars = {**(self.task.env_vars or {}), **variables}


class _Docker(KeyCarrier):
    @property
    def given(self) -> Mapping[str, Any]:
        return {**self.task.environment, **self.task._private_environment}

    def give(self, variables: Mapping[str, str]) -> None:
        self.task.environment = {**self.task.environment, **variables}

    def give_key(self, api_key: str) -> str:
        # The constructor keeps `private_environment` here, outside of the template fields.
        self.task._private_environment = {**self.task._private_environment, _KEY: api_key}
        return "whoever may run `docker inspect` on its host"


class _Kubernetes(SecretCarrier):
    @property
    def given(self) -> Mapping[str, Any]:
        variables = self.task.env_vars or []
        if isinstance(variables, Mapping):
            return variables
        return {variable.name: variable.value for variable in variables}

    def give(self, variables: Mapping[str, str]) -> None:
        from kubernetes.client import models

        self._extend([models.V1EnvVar(name=name, value=value) for name, value in variables.items()])

    def give_secret(self, secret: KubernetesSecret) -> None:
        from kubernetes.client import models

        selector = models.V1SecretKeySelector(name=secret.name, key=secret.key)
        source = models.V1EnvVarSource(secret_key_ref=selector)
        self._extend([models.V1EnvVar(name=_KEY, value_from=source)])

    def _extend(self, added: list[Any]) -> None:
        from kubernetes.client import models

        variables = self.task.env_vars or []
        if isinstance(variables, Mapping):
            variables = [models.V1EnvVar(name=name, value=value) for name, value in variables.items()]
        self.task.env_vars = [*variables, *added]


class _Ssh(Carrier):
    @property
    def given(self) -> Mapping[str, Any]:
        return self.task.environment or {}

    def give(self, variables: Mapping[str, str]) -> None:
        self.task.environment = {**(self.task.environment or {}), **variables}


# By name: a package whose operator is not used need not be installed.
_CARRIERS: Mapping[str, type[Carrier]] = {
    "BashOperator": _Bash,
    "_BasePythonVirtualenvOperator": _Virtualenv,
    "DockerOperator": _Docker,
    "KubernetesPodOperator": _Kubernetes,
    "SSHOperator": _Ssh,
}
_NAMES = (
    "BashOperator, PythonVirtualenvOperator, ExternalPythonOperator, DockerOperator, KubernetesPodOperator and "
    "SSHOperator, with their decorators and subclasses"
)


def carrier_of(task: Any) -> Carrier:
    """
    Return how this operator takes variables.

    :raises WandbConfigurationError: it is none of the known ones.
    """
    for kind in type(task).__mro__:
        if kind.__name__ in _CARRIERS:
            return _CARRIERS[kind.__name__](task)
    raise WandbConfigurationError(
        f"Task {task.task_id!r}: WandbChildRun does not know how a {task.task_type} takes environment variables. It "
        f"knows {_NAMES}. For others pass wandb_environment(context) or the template {{{{ macros.wandb.environment() "
        "}} yourself."
    )
