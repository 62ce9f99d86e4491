"""The files in ``deploy``, where no cluster runs: Airflow renders them, and their settings exist."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from wandb_airflow_provider.devserver import DevServer

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
VALUES = yaml.safe_load((DEPLOY / "helm-values.yaml").read_text())


@pytest.fixture(scope="module")
def pod() -> Any:
    """The pod of a mapped task, as the KubernetesExecutor makes it of the template."""
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    template = PodGenerator.deserialize_model_file(str(DEPLOY / "pod-template.yaml"))
    return PodGenerator.construct_pod(
        dag_id="weekly_retraining",
        task_id="train",
        pod_id="weekly-retraining-train-1",
        try_number=1,
        kube_image="registry.example.com/airflow-wandb:3.3.2",
        date=datetime(2026, 11, 23, tzinfo=UTC),
        args=["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string", "{}"],
        pod_override_object=None,
        base_worker_pod=template,
        namespace="airflow",
        scheduler_job_id="1",
        run_id="scheduled__2026-11-23",
        map_index=3,
    )


def test_the_template_becomes_the_pod_of_a_task(pod: Any) -> None:
    (container,) = pod.spec.containers
    assert container.name == "base"
    assert container.image == "registry.example.com/airflow-wandb:3.3.2"
    assert container.args[:2] == ["python", "-m"]
    assert pod.metadata.namespace == "airflow"
    assert pod.metadata.labels["task_id"] == "train"
    assert pod.metadata.annotations["map_index"] == "3"
    assert pod.spec.restart_policy == "Never"


def test_the_pod_is_not_root_and_gets_the_key_by_reference(pod: Any) -> None:
    (container,) = pod.spec.containers
    assert (pod.spec.security_context.run_as_non_root, pod.spec.security_context.run_as_user) == (True, 50000)
    assert container.security_context.allow_privilege_escalation is False
    environment = {variable.name: variable for variable in container.env}
    connection = environment["AIRFLOW_CONN_WANDB_DEFAULT"]
    assert connection.value is None
    found = connection.value_from.secret_key_ref
    (secret,) = VALUES["secret"]
    assert (found.name, found.key) == (secret["secretName"], secret["secretKey"])
    assert secret["envName"] == "AIRFLOW_CONN_WANDB_DEFAULT"


def test_every_mount_of_the_pod_has_its_volume(pod: Any) -> None:
    (container,) = pod.spec.containers
    assert {mount.name for mount in container.volume_mounts} == {volume.name for volume in pod.spec.volumes}


def test_the_identity_token_is_a_file_in_workers_and_in_pods_of_tasks(pod: Any) -> None:
    (volume,) = VALUES["volumes"]
    (mount,) = VALUES["volumeMounts"]
    assert mount["name"] == volume["name"]
    (of_pod,) = [each for each in pod.spec.volumes if each.name == volume["name"]]
    (source,) = of_pod.projected.sources
    (projected,) = volume["projected"]["sources"]
    token = projected["serviceAccountToken"]
    assert source.service_account_token.path == token["path"]
    assert source.service_account_token.audience == token["audience"]
    (mounted,) = [each for each in pod.spec.containers[0].volume_mounts if each.name == volume["name"]]
    assert mounted.mount_path == mount["mountPath"]
    path = f"{mount['mountPath']}/{token['path']}"
    assert VALUES["env"] == [{"name": "WANDB_IDENTITY_TOKEN_FILE", "value": path}]
    environment = {variable.name: variable.value for variable in pod.spec.containers[0].env}
    assert environment["WANDB_IDENTITY_TOKEN_FILE"] == path


def test_settings_in_the_values_exist() -> None:
    from airflow.configuration import conf

    from wandb_airflow_provider import settings
    from wandb_airflow_provider.xcom import settings as xcom_settings
    from wandb_airflow_provider.xcom.backend import WandbXComBackend

    known = {settings.SECTION: settings.OPTIONS, xcom_settings.SECTION: xcom_settings.OPTIONS}
    for section, options in VALUES["config"].items():
        for option in options:
            assert option in known.get(section, conf.configuration_description[section]["options"])
    assert {"wandb", "wandb_xcom"} <= VALUES["config"].keys()
    backend = f"{WandbXComBackend.__module__}.{WandbXComBackend.__name__}"
    assert VALUES["config"]["core"]["xcom_backend"] == backend


def test_the_commented_secrets_backend_is_valid_when_it_is_used() -> None:
    lines = (DEPLOY / "helm-values.yaml").read_text().splitlines()
    start = lines.index("  # secrets:")
    text = "\n".join(line.replace("  # ", "", 1) for line in lines[start : start + 3])
    section = yaml.safe_load(text)["secrets"]
    assert section["backend"].startswith("airflow.providers.")
    assert "connections_path" in json.loads(section["backend_kwargs"])


def test_the_image_is_that_of_the_compose_file() -> None:
    from airflow import __version__

    image = VALUES["images"]["airflow"]
    assert {VALUES["airflowVersion"], VALUES["defaultAirflowTag"], image["tag"]} == {__version__}


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer() as running:
        yield running


@pytest.mark.slow
def test_code_of_a_task_logs_in_with_the_projected_token_and_the_key_of_a_connection_beside_it(
    server: DevServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(server.issue_identity_token("dev"))
    script = """
import sys
import wandb
quiet = {"console": "off", "silent": True}
with wandb.init(entity="local", project="federated", settings=wandb.Settings(**quiet)) as run:
    run.log({"loss": 0.5})
wandb.teardown()
with wandb.init(entity="local", project="connected", settings=wandb.Settings(api_key=sys.argv[1], **quiet)) as run:
    run.log({"loss": 0.25})
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "WANDB_DIR": str(tmp_path)}
    environment |= {"WANDB_BASE_URL": server.url, "WANDB_IDENTITY_TOKEN_FILE": str(token)}
    environment |= {"WANDB_CREDENTIALS_FILE": str(tmp_path / "credentials.json")}
    ran = subprocess.run(
        [sys.executable, "-c", script, server.api_key], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    for project, loss in (("federated", 0.5), ("connected", 0.25)):
        (run,) = server.runs(project)
        assert (run.state, run.summary["loss"]) == ("finished", loss)
