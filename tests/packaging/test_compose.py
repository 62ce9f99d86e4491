"""``docker-compose.yaml`` and what it refers to, where no container engine runs."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from cryptography.fernet import Fernet

from tests.cluster.compose_file import (
    COMPOSE_FILE,
    ROOT,
    MissingVariableError,
    Service,
    generated_variables,
    put_in,
    read_services,
    variables_of,
)

TEXT = COMPOSE_FILE.read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
SERVICES = read_services(generated_variables())
AIRFLOW = {name: each for name, each in SERVICES.items() if each.command and each.command[0] == "airflow"}
WORKERS = ("worker-1", "worker-2")
BUILT = {"airflow": "airflow.Dockerfile", "devserver": "devserver.Dockerfile"}


def dockerfile(service: Service) -> str:
    """The recipe of an image that is built from this repository."""
    return (ROOT / service.settings["build"]["context"] / service.settings["build"]["dockerfile"]).read_text()


def instructions(text: str, name: str) -> list[str]:
    joined = re.sub(r" *\\\n *", " ", text)
    return re.findall(rf"^{name} (.+)$", joined, re.MULTILINE)


def test_the_image_holds_what_the_mounted_dags_use() -> None:
    (extras,) = re.findall(r"\.whl\)\[([\w,]+)\]", dockerfile(SERVICES["scheduler"]))
    assert {"s3", "dataframe", "sklearn", "statistics", "reports"} <= set(extras.split(","))


def test_the_file_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, str(COMPOSE_FILE)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_holds_the_services_of_several_machines() -> None:
    assert set(SERVICES) == {
        "postgres", "redis", "s3", "bucket", "devserver", "migrate",
        "api-server", "scheduler", "dag-processor", "triggerer", *WORKERS,
    }  # fmt: skip
    assert {SERVICES[name].environment["AIRFLOW__CORE__EXECUTOR"] for name in AIRFLOW} == {"CeleryExecutor"}


def test_every_variable_is_in_the_example_and_no_other() -> None:
    seen: set[str] = set()
    put_in(yaml.safe_load(TEXT), generated_variables(), seen)
    assert seen == set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", EXAMPLE, re.MULTILINE))


def test_neither_file_holds_a_secret() -> None:
    example = variables_of(EXAMPLE)
    assert set(example.values()) == {""}
    for name in example:
        assert re.findall(rf"\$\{{{name}([^}}]*)", TEXT)
        for default in re.findall(rf"\$\{{{name}([^}}]*)", TEXT):
            assert default.startswith(":?"), f"{name} has a value of its own in the file"
    named = re.findall(r"(?im)^ +\w*(?:password|secret|token|key|key_id|cli_auth): (.+)$", TEXT)
    assert named
    assert [value for value in named if not value.startswith("${")] == []
    # In URLs, and in the arguments of Redis.
    assert set(re.findall(r":([^\s:/@]+)@", re.sub(r"\$\{[^}]*\}", "$", TEXT))) == {"$"}
    assert SERVICES["redis"].command[-2] == "--requirepass"


@pytest.mark.parametrize("name", sorted(variables_of(EXAMPLE)))
def test_a_variable_that_is_not_set_is_asked_for(name: str) -> None:
    variables = {**generated_variables(), name: ""}
    with pytest.raises(MissingVariableError, match=f"{name}: run docker/generate_env.py"):
        read_services(variables)


def test_generated_secrets_are_new_each_time_and_of_the_right_form() -> None:
    one, other = generated_variables(), generated_variables()
    assert one.keys() == other.keys()
    assert not set(one.values()) & set(other.values())
    assert len(set(one.values())) == len(one)
    Fernet(one["AIRFLOW_FERNET_KEY"])
    assert len(one["DEVSERVER_API_KEY"]) >= 40
    text = runpy.run_path(str(ROOT / "docker" / "generate_env.py"))["generate"](EXAMPLE)
    assert re.sub(r"=.+", "=", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)) == re.sub(
        r"^#.*\n", "", EXAMPLE, flags=re.MULTILINE
    )


def test_ports_are_published_on_loopback_alone() -> None:
    published = {name: each.settings["ports"] for name, each in SERVICES.items() if "ports" in each.settings}
    assert published == {"devserver": ["127.0.0.1:8765:8765"], "api-server": ["127.0.0.1:8080:8080"]}
    for name, (port,) in published.items():
        assert port.rpartition(":")[2] in SERVICES[name].command
    assert not [name for name, each in SERVICES.items() if "network_mode" in each.settings]


def test_addresses_lead_to_services_on_the_ports_that_they_listen_on() -> None:
    listens = {"postgres": "5432", "redis": "6379", "s3": "5000", "devserver": "8765", "api-server": "8080"}
    for name, port in listens.items():
        # PostgreSQL's is the default of its image.
        assert name == "postgres" or port in SERVICES[name].command
    found = set()
    for service in SERVICES.values():
        values = [*service.environment.values(), json.dumps(service.settings.get("healthcheck", {}))]
        for host, port in re.findall(r"(?:@|://)([a-z0-9-]+):(\d+)\b(?!\w*@)", " ".join(values)):
            if host == "localhost":
                assert port in {"8080", "8974", listens.get(service.name)}
                continue
            assert listens[host] == port
            found.add(host)
    assert found == set(listens)


def test_nothing_runs_as_root_or_may_become_it() -> None:
    for service in SERVICES.values():
        user = str(service.settings["user"])
        assert user.split(":")[0] not in ("0", "root", "")
        assert service.settings["cap_drop"] == ["ALL"]
        assert service.settings["security_opt"] == ["no-new-privileges:true"]
        assert not service.settings.get("privileged")


def test_images_are_pinned_to_one_version() -> None:
    version = re.compile(r"^[a-z0-9./-]+:\d+\.\d+(\.\d+)?(-[a-z0-9.]+)*$")
    images = [service.settings["image"] for service in SERVICES.values()]
    for name in BUILT.values():
        images += [line.split()[0] for line in instructions((ROOT / "docker" / name).read_text(), "FROM")]
    assert [image for image in images if not version.match(image)] == []


def test_the_images_are_those_that_are_tested_here() -> None:
    airflow, moto = (importlib.metadata.version(name) for name in ("apache-airflow", "moto"))
    own = importlib.metadata.version("wandb-airflow-provider")
    assert f"FROM apache/airflow:{airflow}-python3.11" in dockerfile(SERVICES["scheduler"])
    assert SERVICES["scheduler"].settings["image"].endswith(f":{airflow}")
    assert SERVICES["devserver"].settings["image"].endswith(f":{own}")
    assert SERVICES["s3"].settings["image"].endswith(f":{moto}")


def test_every_file_that_is_copied_or_mounted_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in BUILT.values():
        for copied in instructions((ROOT / "docker" / name).read_text(), "COPY"):
            if copied.startswith("--from"):
                continue
            for source in copied.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source.split("/")[0] in kept, source
    volumes = {volume for each in SERVICES.values() for volume in each.settings.get("volumes", [])}
    named = set(yaml.safe_load(TEXT)["volumes"])
    for volume in volumes:
        source = volume.split(":")[0]
        assert (ROOT / source).is_dir() if source.startswith(".") else source in named
    assert {each.split(":", 1)[1] for each in volumes if each.startswith("./")} == {"/opt/airflow/dags:ro"}


def test_workers_share_no_disk() -> None:
    for name in WORKERS:
        assert SERVICES[name].settings["volumes"] == ["./dags:/opt/airflow/dags:ro"]
        assert SERVICES[name].settings["hostname"] == name


@pytest.mark.parametrize("name", AIRFLOW)
def test_the_command_of_every_airflow_service_exists(name: str) -> None:
    from airflow.cli.cli_parser import get_parser

    parsed = get_parser().parse_args(AIRFLOW[name].command[1:])
    assert isinstance(parsed, argparse.Namespace)
    assert callable(parsed.func)


def test_the_other_commands_exist() -> None:
    scripts = {entry.name for entry in importlib.metadata.entry_points(group="console_scripts")}
    assert SERVICES["devserver"].command[0] in scripts
    assert SERVICES["s3"].command[0] in scripts
    assert SERVICES["bucket"].command[:2] == ["python", "/opt/wandb/create_bucket.py"]
    copied = " ".join(instructions(dockerfile(SERVICES["bucket"]), "COPY"))
    assert "docker/create_bucket.py docker/missing_constraints.py /opt/wandb/" in copied
    checks = " ".join(json.dumps(each.settings.get("healthcheck", {})) for each in SERVICES.values())
    for module in re.findall(r"--app (\S+)\.app", checks):
        assert importlib.util.find_spec(module)
    for job in re.findall(r"--job-type (\w+)", checks):
        from airflow.cli.cli_parser import get_parser

        get_parser().parse_args(["jobs", "check", "--job-type", job, "--hostname", "x"])


def test_every_service_that_serves_says_whether_it_is_healthy_and_is_waited_for() -> None:
    once = {name for name, each in SERVICES.items() if each.settings["restart"] == "no"}
    assert once == {"migrate", "bucket"}
    assert {name for name, each in SERVICES.items() if "healthcheck" not in each.settings} == once
    for service in SERVICES.values():
        for other, how in service.settings.get("depends_on", {}).items():
            assert how == {
                "condition": "service_completed_successfully" if other in once else "service_healthy"
            }


def test_secrets_of_the_servers_are_not_given_to_workers() -> None:
    variables = generated_variables()
    services = read_services(variables)
    for name in WORKERS:
        given = " ".join(services[name].environment.values())
        for secret in ("POSTGRES_PASSWORD", "AIRFLOW_FERNET_KEY", "AIRFLOW_JWT_SECRET"):
            assert variables[secret] not in given
            assert variables[secret] in " ".join(services["api-server"].environment.values())


@pytest.mark.parametrize("name", [*WORKERS, "triggerer"])
def test_two_variables_lead_to_the_real_wandb(name: str) -> None:
    from airflow.sdk import Connection

    from wandb_airflow_provider.connection import WandbConnection

    def connection(**more: str) -> WandbConnection:
        services = read_services({**own, **more})
        value = services[name].environment["AIRFLOW_CONN_WANDB_DEFAULT"]
        return WandbConnection.from_airflow(Connection.from_json(value, conn_id="wandb_default"))

    own = generated_variables()
    local = connection()
    assert (local.host, local.api_key) == ("http://devserver:8765", own["DEVSERVER_API_KEY"])
    real = connection(WANDB_BASE_URL="https://api.wandb.ai", WANDB_API_KEY="k" * 40)
    assert (real.host, real.api_key) == ("https://api.wandb.ai", "k" * 40)


def test_settings_of_airflow_and_of_the_provider_exist() -> None:
    from airflow.configuration import conf

    from wandb_airflow_provider.xcom import settings

    for service in AIRFLOW.values():
        for variable, value in service.environment.items():
            if not variable.startswith("AIRFLOW__"):
                continue
            section, option = variable.removeprefix("AIRFLOW__").lower().split("__", 1)
            if section == settings.SECTION:
                assert option in settings.OPTIONS
            elif section != "celery_broker_transport_options":
                assert option in conf.configuration_description[section]["options"], variable
            if option == "xcom_backend":
                module, _, attribute = value.rpartition(".")
                assert hasattr(importlib.import_module(module), attribute)


def test_the_dev_server_runs_with_what_its_image_holds(tmp_path: Path) -> None:
    pinned = {
        re.split(r"[=; ]", line)[0].lower()
        for line in (ROOT / "docker" / "devserver.txt").read_text().splitlines()
        if "==" in line
    }
    locked = set(re.findall(r"^[\w.-]+==[^\s;]+", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    image = set(
        re.findall(r"^[\w.-]+==[^\s;]+", (ROOT / "docker" / "devserver.txt").read_text(), re.MULTILINE)
    )
    assert image <= locked
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key = "d" * 40
    command = [str(port) if part == "8765" else part for part in SERVICES["devserver"].command[1:]]
    command = ["127.0.0.1" if part == "0.0.0.0" else part for part in command]
    command = [str(tmp_path) if part == "/data" else part for part in command]
    # Exactly the packages of the image, and this one.
    script = f"""
import importlib.abc, importlib.metadata, re, sys

allowed = {sorted(pinned)!r}
known = importlib.metadata.packages_distributions()

class Image(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        found = [re.sub("[-_.]+", "-", each).lower() for each in known.get(name, [])]
        if found and name != "wandb_airflow_provider" and not set(found) & set(allowed):
            raise ModuleNotFoundError(f"{{name}} is not in the image", name=name)
        return None

sys.meta_path.insert(0, Image())
from wandb_airflow_provider.cli import main
sys.exit(main({command!r}))
"""
    environment = {**os.environ, "WANDB_DEVSERVER_API_KEY": key}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            printed = ""
            for line in process.stdout:
                printed += line
                if "Ctrl-C" in line:
                    break
            query = {"query": "{ viewer { username } }"}
            url = f"http://127.0.0.1:{port}"
            answer = httpx.post(f"{url}/graphql", json=query, auth=("api", key), trust_env=False)
            assert answer.json()["data"]["viewer"]["username"]
            assert httpx.get(f"{url}/", auth=("api", key), trust_env=False).status_code == 200
            query = {
                "query": 'mutation { upsertModel(input: {entityName: "local", name: "p"}) { inserted } }'
            }
            httpx.post(f"{url}/graphql", json=query, auth=("api", key), trust_env=False)
            found = httpx.get(f"{url}/local/p/runs?q=name", auth=("api", key), trust_env=False)
            assert found.status_code == 200
            assert key not in printed
        finally:
            process.terminate()


def test_an_image_keeps_its_packages_and_gets_only_what_it_lacks() -> None:
    merge = runpy.run_path(str(ROOT / "docker" / "missing_constraints.py"))["merge"]
    constraints = "numpy==2.4.6 ; python_full_version < '3.12'\ns3fs==2026.9.0\ntyping-extensions==4.16.0\n"
    freeze = "typing_extensions==4.15.0\nlocal @ file:///somewhere\nFlask==3.0\n"
    assert merge(constraints, freeze) == [
        "typing_extensions==4.15.0",
        "Flask==3.0",
        "numpy==2.4.6 ; python_full_version < '3.12'",
        "s3fs==2026.9.0",
    ]


@pytest.mark.slow
def test_the_bucket_is_created_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
            "NO_PROXY": "127.0.0.1",
        }
        for region in ("eu-central-1", "us-east-1"):
            command = [sys.executable, str(ROOT / "docker" / "create_bucket.py"), f"values-{region}"]
            for _ in range(2):
                made = subprocess.run(
                    command,
                    env={**environment, "AWS_DEFAULT_REGION": region},
                    capture_output=True,
                    text=True,
                )
                assert (made.returncode, made.stdout) == (0, f"The bucket 'values-{region}' is there.\n"), (
                    made.stderr
                )
    finally:
        server.stop()
