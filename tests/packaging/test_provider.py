"""What Airflow discovers of the installed package."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points, metadata, version
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from packaging.utils import canonicalize_name

import wandb_airflow_provider
from wandb_airflow_provider.connection_form import EXTRA_FIELDS
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.plugin import WandbPlugin
from wandb_airflow_provider.provider_info import get_provider_info

DISTRIBUTION = "wandb-airflow-provider"


def loaded(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize(
    ("group", "name", "target"),
    [
        ("apache_airflow_provider", "provider_info", get_provider_info),
        ("airflow.plugins", "wandb", WandbPlugin),
    ],
)
def test_each_entry_point_leads_to_its_object(group: str, name: str, target: Any) -> None:
    (found,) = [e for e in entry_points(group=group, name=name) if e.dist and e.dist.name == DISTRIBUTION]
    assert found.load() is target


def test_the_command_line_is_installed() -> None:
    (found,) = entry_points(group="console_scripts", name="wandb-airflow")
    assert callable(found.load())


def test_the_version_is_the_package_s() -> None:
    assert version(DISTRIBUTION) == wandb_airflow_provider.__version__


def test_the_provider_info_fits_airflow_s_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_provider_info_names_the_distribution_as_airflow_compares_it() -> None:
    name = get_provider_info()["package-name"]
    assert name == canonicalize_name(name) == canonicalize_name(metadata(DISTRIBUTION)["Name"])


def test_everything_that_the_provider_info_names_exists() -> None:
    info = get_provider_info()
    (connection,) = info["connection-types"]
    assert loaded(connection["hook-class-name"]) is WandbHook
    assert connection["connection-type"] == WandbHook.conn_type
    assert connection["hook-name"] == WandbHook.hook_name
    for dotted in (
        *info["extra-links"],
        *(decorator["class-name"] for decorator in info["task-decorators"]),
        *(uri["handler"] for uri in info["asset-uris"]),
    ):
        assert callable(loaded(dotted))


def test_both_descriptions_of_the_connection_form_agree() -> None:
    (connection,) = get_provider_info()["connection-types"]
    assert set(connection["conn-fields"]) == set(EXTRA_FIELDS)
    from_class = WandbHook.get_ui_field_behaviour()
    assert {
        key.replace("-", "_"): value for key, value in connection["ui-field-behaviour"].items()
    } == from_class


def test_airflow_finds_the_connection_form() -> None:
    from airflow.providers_manager import ProvidersManager

    hooks: Any
    try:
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

        hooks = ProvidersManagerTaskRuntime().hooks
    except ModuleNotFoundError:  # before Airflow 3.2
        hooks = ProvidersManager().hooks
    hook = hooks["wandb"]
    assert hook is not None
    assert (hook.hook_name, hook.connection_id_attribute_name) == ("Weights & Biases", "wandb_conn_id")


FORM = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(form,) = [hook for hook in HookMetaService.hook_meta_data() if hook.connection_type == "wandb"]
print(json.dumps(form.model_dump(mode="json")))
"""


@pytest.mark.slow
def test_the_api_server_has_the_fields_of_the_connection_form() -> None:
    # A process of its own, as before Airflow 3.2 what is found depends on who asked first.
    asked = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORM], capture_output=True, text=True, check=True, timeout=120
    )
    form = json.loads(asked.stdout.splitlines()[-1])
    assert set(form["extra_fields"]) == set(EXTRA_FIELDS)
    titles = {name: field["title"] for name, field in form["standard_fields"].items() if field is not None}
    assert (titles["host"], titles["password"]) == ("API URL", "API key")


@pytest.mark.slow
def test_airflow_lists_the_provider() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "airflow", "providers", "list", "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    providers = json.loads(listed.stdout[listed.stdout.index("[{") :])
    (found,) = [row for row in providers if row["package_name"] == DISTRIBUTION]
    assert found["version"] == wandb_airflow_provider.__version__
    assert found["description"].startswith("Every DAG run becomes")
