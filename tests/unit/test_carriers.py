"""Where each operator takes variables and the key, on operators with the attributes of the real ones."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import ExternalPythonOperator
from airflow.sdk import BaseOperator

from wandb_airflow_provider.carriers import KeyCarrier, KubernetesSecret, SecretCarrier, carrier_of
from wandb_airflow_provider.exceptions import WandbConfigurationError

VARIABLES = {"WANDB_PROJECT": "p", "WANDB_NAME": "train"}


class DockerOperator(BaseOperator):
    """The attributes of the Docker provider's operator."""

    template_fields = ("environment",)

    def __init__(self, environment: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.environment = environment or {}
        self._private_environment: dict[str, str] = {}


class KubernetesPodOperator(BaseOperator):
    """The attributes of the Kubernetes provider's operator."""

    template_fields = ("env_vars",)

    def __init__(self, env_vars: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.env_vars = env_vars or []


class SSHOperator(BaseOperator):
    """The attributes of the SSH provider's operator."""

    template_fields = ("environment",)

    def __init__(self, environment: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.environment = environment


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The records of the Kubernetes client that a pod's variables are made of; the operator brings the real ones."""

    def record(**fields: Any) -> SimpleNamespace:
        return SimpleNamespace(**{"value": None, "value_from": None, **fields})

    models = ModuleType("kubernetes.client.models")
    for name in ("V1EnvVar", "V1EnvVarSource", "V1SecretKeySelector"):
        setattr(models, name, record)
    client = ModuleType("kubernetes.client")
    client.models = models  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kubernetes", ModuleType("kubernetes"))
    monkeypatch.setitem(sys.modules, "kubernetes.client", client)


@pytest.mark.parametrize(
    ("given", "append", "inherits"),
    [(None, False, True), ({"A": "1"}, False, False), ({"A": "1"}, True, True)],
)
def test_bash_keeps_what_it_inherits_and_what_it_was_given(given: Any, append: bool, inherits: bool) -> None:
    task = BashOperator(task_id="t", bash_command="true", env=given, append_env=append)
    carrier = carrier_of(task)
    assert carrier.inherits is inherits
    carrier.give(VARIABLES)
    assert (task.env, task.append_env) == ({**(given or {}), **VARIABLES}, inherits)
    carrier.give({"NETRC": "/n"})
    assert (task.append_env, task.env["NETRC"]) == (inherits, "/n")


def work() -> None:
    """What another Python would run."""


def test_another_python_gets_them_beside_its_own() -> None:
    task = ExternalPythonOperator(
        task_id="t", python="python", python_callable=work, env_vars={"A": "1"}, inherit_env=False
    )
    carrier = carrier_of(task)
    carrier.give(VARIABLES)
    assert (task.env_vars, carrier.inherits, carrier.on_worker) == ({"A": "1", **VARIABLES}, False, True)


def test_docker_takes_the_key_where_airflow_never_looks() -> None:
    task = DockerOperator(task_id="t", environment={"A": "1"})
    carrier = carrier_of(task)
    assert isinstance(carrier, KeyCarrier)
    carrier.give(VARIABLES)
    assert "docker inspect" in carrier.give_key("secret")
    assert task.environment == {"A": "1", **VARIABLES}
    assert task._private_environment == {"WANDB_API_KEY": "secret"}
    assert not carrier.on_worker


@pytest.mark.parametrize("as_mapping", [True, False])
def test_a_pod_reads_the_key_from_a_secret(kubernetes: None, as_mapping: bool) -> None:
    own: Any = {"A": "1"} if as_mapping else [SimpleNamespace(name="A", value="1", value_from=None)]
    task = KubernetesPodOperator(task_id="t", env_vars=own)
    carrier = carrier_of(task)
    carrier.give(carrier.merge({**VARIABLES, "A": "2"}))
    assert isinstance(carrier, SecretCarrier)
    carrier.give_secret(KubernetesSecret("wandb"))
    *plain, key = task.env_vars
    assert [(variable.name, variable.value) for variable in plain] == [("A", "1"), *VARIABLES.items()]
    assert (key.name, key.value) == ("WANDB_API_KEY", None)
    reference = key.value_from.secret_key_ref
    assert (reference.name, reference.key) == ("wandb", "api-key")


def test_ssh_gets_the_variables_and_has_no_place_for_a_secret() -> None:
    task = SSHOperator(task_id="t")
    carrier = carrier_of(task)
    carrier.give(VARIABLES)
    assert task.environment == VARIABLES
    assert not isinstance(carrier, KeyCarrier | SecretCarrier)
    assert not carrier.on_worker


def test_the_author_s_variables_win_unless_they_would_move_the_run() -> None:
    task = BashOperator(task_id="t", bash_command="true", env={"WANDB_NAME": "mine", "WANDB_PROJECT": "p"})
    assert carrier_of(task).merge(VARIABLES) == {}
    task.env["WANDB_PROJECT"] = "elsewhere"
    with pytest.raises(
        WandbConfigurationError, match=r"WANDB_PROJECT is 'elsewhere'.* and 'p' for the task's run"
    ):
        carrier_of(task).merge(VARIABLES)


def test_an_operator_that_starts_no_known_process_is_refused() -> None:
    with pytest.raises(WandbConfigurationError, match="does not know how a EmptyOperator takes environment"):
        carrier_of(EmptyOperator(task_id="t"))
