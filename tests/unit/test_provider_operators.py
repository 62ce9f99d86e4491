"""WandbChildRun on the real operators: what the pod, the container and the remote machine are given, and what shows."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import asyncssh
import pytest
from airflow.sdk import DAG, Connection
from airflow.sdk.execution_time.task_runner import _serialize_rendered_fields
from kubernetes.client import ApiClient

import docker
from wandb_airflow_provider import KubernetesSecret, WandbChildRun, wandb_environment_templates
from wandb_airflow_provider.identity import TaskIdentity

with warnings.catch_warnings():
    # The providers import from places that Airflow 3.3 has moved.
    warnings.simplefilter("ignore")
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from airflow.providers.docker.operators.docker import DockerOperator
    from airflow.providers.ssh.operators.ssh import SSHOperator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RUN_ID = TaskIdentity("processes", "manual__1", "work").wandb_run_id()


def task_of(kind: Any, **arguments: Any) -> Any:
    with DAG("processes", schedule=None):
        return kind(task_id="work", **arguments)


def warned(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


def shown(task: Any, supervisor: Any) -> str:
    """Return all that Airflow stores or could store of a task: its fields as they are in the end, and its messages."""
    told = [message for message in supervisor.sent if type(message).__name__ != "MaskSecret"]
    return f"{_serialize_rendered_fields(task)!r} {told!r} {supervisor.xcoms!r}"


class Watched(WandbChildRun):
    """Keeps the copy of the task that Airflow executes."""

    task: Any = None

    def __call__(self, context: Any) -> None:
        super().__call__(context)
        self.task = context["task"]


class BuiltPod(KubernetesPodOperator):
    """Builds the specification of its pod, and starts none."""

    def execute(self, context: Any) -> None:
        built = ApiClient().sanitize_for_serialization(self.build_pod_request_obj(context))
        context["ti"].xcom_push(key="pod", value=built)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kubeconfig for a cluster that nothing is sent to."""
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "none", "user": "nobody"}}],
                "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
                "users": [{"name": "nobody", "user": {}}],
            }
        )
    )
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", "kubernetes://")
    return str(path)


@pytest.mark.parametrize("given", [{"A": "{{ run_id }}"}, None])
def test_a_pod_reads_the_key_by_a_reference_to_its_secret(
    server: Any,
    hook: Any,
    run_task: Callable[..., Any],
    cluster: str,
    supervisor: Any,
    caplog: pytest.LogCaptureFixture,
    given: Any,
) -> None:
    task = task_of(
        BuiltPod,
        image="trainer:1",
        namespace="ml",
        env_vars=given,
        config_file=cluster,
        pre_execute=Watched(secrets=KubernetesSecret("wandb", "api-key")),
    )
    finished = run_task(task)

    assert finished.state == "success", finished.error
    (container,) = finished.xcom("pod")["spec"]["containers"]
    variables = {variable["name"]: variable for variable in container["env"]}
    assert variables["WANDB_API_KEY"] == {
        "name": "WANDB_API_KEY",
        "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "api-key"}},
    }
    assert variables["WANDB_RUN_ID"]["value"] == RUN_ID
    assert variables["WANDB_BASE_URL"]["value"] == server.url
    assert json.loads(variables["WANDB_CONFIG"]["value"])["airflow"]["task_id"] == "work"
    assert ("A" in variables) is (given is not None)
    if given is not None:
        assert variables["A"]["value"] == "manual__1"
    assert not {"NETRC", "WANDB_DIR"} & variables.keys(), "they would name places on the worker"
    assert server.api_key not in json.dumps(finished.xcom("pod"))
    assert server.api_key not in shown(task._pre_execute_hook.task, supervisor)
    assert "key" not in warned(caplog)


def test_a_pod_without_a_secret_gets_no_key_and_a_warning(
    server: Any, hook: Any, run_task: Callable[..., Any], cluster: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = task_of(BuiltPod, image="trainer:1", namespace="ml", config_file=cluster, pre_execute=Watched())
    finished = run_task(task)
    assert finished.state == "success", finished.error
    assert "WANDB_API_KEY" not in json.dumps(finished.xcom("pod"))
    assert "pass secrets=KubernetesSecret(...) for a pod" in warned(caplog)


def test_a_pod_takes_the_variables_as_templates(
    server: Any, hook: Any, run_task: Callable[..., Any], cluster: str
) -> None:
    task = task_of(
        BuiltPod,
        image="trainer:1",
        namespace="ml",
        config_file=cluster,
        env_vars=wandb_environment_templates(job_type="score"),
    )
    finished = run_task(task)
    assert finished.state == "success", finished.error
    (container,) = finished.xcom("pod")["spec"]["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert (variables["WANDB_RUN_ID"].startswith("work-"), variables["WANDB_JOB_TYPE"]) == (True, "score")
    assert json.loads(variables["WANDB_CONFIG"])["airflow"]["operator"] == "BuiltPod"


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """Docker's client, in whose containers all goes well."""
    client: mock.Mock = mock.create_autospec(docker.APIClient, instance=True)
    client.images.return_value = [{"Id": "image"}]
    client.create_container.return_value = {"Id": "container"}
    client.attach.return_value = iter([b"done"])
    client.wait.return_value = {"StatusCode": 0}
    monkeypatch.setattr(DockerOperator, "cli", client)
    return client


def test_a_container_gets_the_key_privately_and_the_log_says_who_sees_it(
    server: Any,
    hook: Any,
    run_task: Callable[..., Any],
    daemon: mock.Mock,
    supervisor: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = task_of(
        DockerOperator,
        image="trainer:1",
        environment={"A": "{{ run_id }}"},
        private_environment={"OTHER": "private"},
        pre_execute=Watched(),
    )
    finished = run_task(task)

    assert finished.state == "success", finished.error
    seen = daemon.create_container.call_args.kwargs["environment"]
    assert (seen["A"], seen["OTHER"], seen["WANDB_API_KEY"]) == ("manual__1", "private", server.api_key)
    assert (seen["WANDB_RUN_ID"], seen["WANDB_BASE_URL"]) == (RUN_ID, server.url)
    assert not {"NETRC", "WANDB_DIR"} & seen.keys(), "they would name places on the worker"
    assert "Task 'work': the W&B API key is visible to whoever may run `docker inspect`" in warned(caplog)
    assert server.api_key not in warned(caplog)
    assert server.api_key not in shown(task._pre_execute_hook.task, supervisor)


def test_a_key_in_a_container_s_shown_environment_is_warned_of(
    hook: Any, run_task: Callable[..., Any], daemon: mock.Mock, caplog: pytest.LogCaptureFixture
) -> None:
    environment = {"WANDB_API_KEY": "x" * 40}
    run_task(task_of(DockerOperator, image="trainer:1", environment=environment, pre_execute=Watched()))
    assert "WANDB_API_KEY is in the operator's environment, which Airflow stores" in warned(caplog)
    assert "x" * 40 not in warned(caplog)


class _AnyUser(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, dict[str, str]]]]:
    """An SSH server on this machine; the commands it was given, each with its environment."""
    seen: list[tuple[str, dict[str, str]]] = []

    def command(process: asyncssh.SSHServerProcess[str]) -> None:
        seen.append((str(process.command), dict(process.env)))
        process.exit(0)

    loop = asyncio.new_event_loop()
    serving = threading.Thread(target=loop.run_forever)
    serving.start()
    key = asyncssh.generate_private_key("ssh-ed25519")

    async def start() -> Any:
        return await asyncssh.create_server(
            _AnyUser, "127.0.0.1", 0, server_host_keys=[key], process_factory=command
        )

    listener = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    connection = Connection(
        conn_id="remote",
        conn_type="ssh",
        host="127.0.0.1",
        port=listener.get_port(),
        login="anyone",
        password="unused",
        extra=json.dumps({"no_host_key_check": True, "look_for_keys": False, "allow_agent": False}),
    )
    monkeypatch.setenv("AIRFLOW_CONN_REMOTE", connection.get_uri())
    yield seen

    async def stop() -> None:
        listener.close()
        await listener.wait_closed()

    asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    serving.join(30)
    loop.close()


@pytest.mark.slow
def test_a_remote_command_gets_the_place_and_no_key(
    server: Any,
    hook: Any,
    run_task: Callable[..., Any],
    remote: list[tuple[str, dict[str, str]]],
    supervisor: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = task_of(SSHOperator, ssh_conn_id="remote", command="train", pre_execute=Watched())
    finished = run_task(task)

    assert finished.state == "success", finished.error
    ((command, seen),) = remote
    assert (command, seen["WANDB_RUN_ID"], seen["WANDB_BASE_URL"]) == ("train", RUN_ID, server.url)
    assert json.loads(seen["WANDB_CONFIG"])["airflow"]["task_id"] == "work"
    assert not {"WANDB_API_KEY", "NETRC", "WANDB_DIR"} & seen.keys()
    assert server.api_key not in repr(seen) + shown(task._pre_execute_hook.task, supervisor)
    assert "no W&B credentials were passed, because they would be visible" in warned(caplog)

    caplog.clear()
    run_task(task_of(SSHOperator, ssh_conn_id="remote", command="train", pre_execute=Watched(secrets="none")))
    assert "W&B" not in warned(caplog)
