"""What README and docs say is what the code does: quoted examples, links, and defaults in tables."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from airflow.sdk import BaseSensorOperator, Connection

import wandb_airflow_provider
from wandb_airflow_provider import (
    WandbArtifactSensor,
    WandbReconcileOperator,
    WandbRegistryAliasSensor,
    WandbRegistryAliasTrigger,
    WandbRunSensor,
    wandb_alias_asset,
    wandb_pipeline,
)
from wandb_airflow_provider.cli.trace import parser as trace_parser
from wandb_airflow_provider.cli.why import parser as why_parser
from wandb_airflow_provider.connection import EXTRA_FIELDS, WandbConnection
from wandb_airflow_provider.devserver.cli import _parser as devserver_parser
from wandb_airflow_provider.sensors.waiting import WandbWaitSensor
from wandb_airflow_provider.settings import OPTIONS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]

_QUOTE = re.compile(r"<!-- example: (\S+) (\w+) -->\n```python\n(.*?)```", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def example(name: str, marker: str) -> str:
    """Return the text between the markers of a shipped DAG, without its common indentation."""
    source = (ROOT / "dags" / name).read_text("utf-8")
    found = re.search(rf"# \[START {marker}\]\n(.*?)[ ]*# \[END {marker}\]", source, re.DOTALL)
    assert found is not None, f"dags/{name} has no part {marker!r}"
    return textwrap.dedent(found[1]).strip() + "\n"


def block(page: Path, mark: str, language: str) -> str:
    """Return the fenced block that follows a mark."""
    text = page.read_text("utf-8")
    pattern = rf"^( *)<!-- {re.escape(mark)} -->\n *```{language}\n(.*?)^ *```"
    found = re.search(pattern, text, re.DOTALL | re.MULTILINE)
    assert found is not None, f"{page.name} has no block {mark!r}"
    return textwrap.dedent(found[2]).strip() + "\n"


def table(page: str, *header: str) -> dict[str, list[str]]:
    """Return the rows of the table with this header by their first cell, without code marks."""
    lines = (DOCS / page).read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if cells(line)[: len(header)] == list(header))
    rows: dict[str, list[str]] = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        first, *rest = cells(line)
        rows[first] = rest
    return rows


def cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]


def defaults(function: Any) -> dict[str, Any]:
    """Return the default of each parameter that has one."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def test_readme_quotes_the_quickstart_that_the_tests_run() -> None:
    assert block(ROOT / "README.md", "quickstart", "python") == example("example_quickstart.py", "quickstart")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_quoted_examples_equal_the_shipped_dags(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.count("<!-- example: ") == len(_QUOTE.findall(text))
    for name, marker, quoted in _QUOTE.findall(text):
        assert quoted == example(name, marker), f"{page.name}: {name} {marker}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    for target in _LINK.findall(page.read_text("utf-8")):
        if "://" not in target:
            path, _, fragment = unquote(target).partition("#")
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), f"{page.name} links to {target}"
            assert not fragment or fragment in anchors(linked), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_are_python(page: Path) -> None:
    for code in re.findall(r"^ *```python\n(.*?)^ *```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        ast.parse(textwrap.dedent(code))


def test_each_page_is_reached_from_the_index() -> None:
    linked = set(_LINK.findall((DOCS / "index.md").read_text("utf-8")))
    assert {page.name for page in DOCS.glob("*.md")} - linked == {"index.md"}


def test_names_of_the_package_that_the_docs_use_exist() -> None:
    from wandb_airflow_provider import exceptions
    from wandb_airflow_provider.operators import base

    known = {*wandb_airflow_provider.__all__, *exceptions.__all__, *base.__all__}
    for page in PAGES:
        named = set(re.findall(r"\bWandb[A-Z]\w+", page.read_text("utf-8")))
        assert named - known == set(), page.name


def test_connection_fields_and_defaults_are_those_of_the_code() -> None:
    rows = table("connection.md", "Field", "In the form", "Default")
    assert set(rows) == {"password", "host", *EXTRA_FIELDS}
    for name, spec in EXTRA_FIELDS.items():
        assert rows[name][0] == spec["label"]
    fields = WandbConnection("any", "key")
    assert float(rows["timeout"][1]) == fields.timeout
    assert json.loads(rows["allow_project_creation"][1]) is fields.allow_project_creation


@pytest.mark.parametrize(
    ("kind", "host"), [("json", "https://wandb.example.com"), ("uri", "https://wandb.example.com:8443")]
)
def test_connection_examples_are_understood(kind: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, assignment = shlex.split(block(DOCS / "connection.md", f"connection:{kind}", "sh"))
    name, _, value = assignment.partition("=")
    assert name == "AIRFLOW_CONN_WANDB_DEFAULT"
    given = (
        Connection.from_json(value, conn_id="wandb_default")
        if kind == "json"
        else Connection.from_uri(value, conn_id="wandb_default")
    )
    read = WandbConnection.from_airflow(given)
    assert (read.host, read.entity, len(str(read.api_key))) == (host, "ml-team", 40)


def test_connection_with_an_identity_token_names_the_file_that_the_deployment_mounts() -> None:
    _, assignment = shlex.split(block(DOCS / "connection.md", "connection:federated", "sh"))
    given = Connection.from_json(assignment.partition("=")[2], conn_id="wandb_default")
    read = WandbConnection.from_airflow(given)
    assert (read.api_key, read.entity) == (None, "ml-team")
    values = (DOCS.parent / "deploy" / "helm-values.yaml").read_text("utf-8")
    assert read.identity_token_file == re.findall(r"WANDB_IDENTITY_TOKEN_FILE\n\s+value: (\S+)", values)[0]


def test_pipeline_defaults_are_those_of_the_code() -> None:
    rows = table("pipeline.md", "Argument", "Default")
    assert {name: row[0] for name, row in rows.items()} == {
        name: str(value) for name, value in defaults(wandb_pipeline).items()
    }


def test_reconciler_defaults_are_those_of_the_code() -> None:
    text = (DOCS / "pipeline.md").read_text("utf-8").split("## Runs that nobody closed")[1]
    code = defaults(WandbReconcileOperator.__init__)
    for name in ("quiet_for", "created_within", "close_unknown", "dry_run"):
        assert f"| `{name}` | `{code[name]}` |" in text


def test_sensor_defaults_are_those_of_the_code() -> None:
    shared = table("registry-watching.md", "Argument", "Default")
    code = defaults(WandbWaitSensor.__init__)
    for name in ("wandb_conn_id", "start_from_trigger"):
        assert shared[name][0] == str(code[name])
    inherited = defaults(BaseSensorOperator.__init__)
    assert {"poke_interval", "timeout", "soft_fail"} <= inherited.keys()
    assert not {"poke_interval", "timeout", "soft_fail"} & code.keys()
    for sensor in (WandbRegistryAliasSensor, WandbArtifactSensor, WandbRunSensor):
        rows = table("registry-watching.md", sensor.__name__, "Default")
        told = {
            name.strip(" `"): cells[0]
            for names, cells in rows.items()
            for name in names.split(",")
            if cells[0] != "required"
        }
        assert told == {name: str(value) for name, value in defaults(sensor.__init__).items()}


def test_asset_and_trigger_defaults_are_those_of_the_code() -> None:
    text = (DOCS / "registry-watching.md").read_text("utf-8").split("## Asset")[1]
    for function in (wandb_alias_asset, WandbRegistryAliasTrigger.__init__):
        code = defaults(function)
        for name in ("wandb_conn_id", "poll_interval", "first"):
            assert f"| `{name}` | `{code[name]}` |" in text


def test_dev_server_options_are_those_of_the_command() -> None:
    rows = table("devserver.md", "Option", "Default")
    options = {action.option_strings[-1]: action.default for action in devserver_parser()._actions}
    assert set(rows) == set(options) - {"--help"}
    assert [rows[name][0] for name in ("--host", "--port", "--data")] == [
        str(options[name]) for name in ("--host", "--port", "--data")
    ]


def test_options_of_the_tree_s_command_and_tab_are_those_of_the_code() -> None:
    options = {
        option: action.default for action in trace_parser()._actions for option in action.option_strings
    }
    rows = table("ui.md", "Option", "Default", "Meaning")
    named = {name.strip(" `") for cell in rows for name in cell.split(",")}
    assert named == {option for option in options if option.startswith("--")} - {"--help"}
    assert rows["--conn-id"][0] == options["--conn-id"]
    panel = table("ui.md", "Option in `[wandb]", "Default")
    assert panel["dag_run_panel"][0] == OPTIONS["dag_run_panel"]["default"]


def test_options_of_the_audit_are_those_of_the_code() -> None:
    options = {option: action.default for action in why_parser()._actions for option in action.option_strings}
    rows = table("promotion.md", "Option", "Default", "Meaning")
    assert set(rows) == {option for option in options if option.startswith("--")} - {"--help"}
    assert rows["--conn-id"][0] == options["--conn-id"]
    setting = table("promotion.md", "Option in `[wandb]", "Default")
    assert {name: row[0] for name, row in setting.items()} == {
        "audit_project": OPTIONS["audit_project"]["default"],
        "deployment": OPTIONS["deployment"]["default"],
    }


def test_quoted_test_of_a_team_is_the_one_that_is_run() -> None:
    source = (ROOT / "tests" / "dags" / "test_team_example.py").read_text("utf-8")
    found = re.search(r"# \[START team_test\]\n(.*?)# \[END team_test\]", source, re.DOTALL)
    assert found is not None
    run = found[1].replace("  # type: ignore[no-untyped-def]", "").strip() + "\n"
    assert block(DOCS / "devserver.md", "test: team_test", "python") == run


def test_list_of_operations_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "devserver_operations.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_dev_server_example_runs(tmp_path: Path) -> None:
    code = block(DOCS / "devserver.md", "executed", "python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_parameters_of_the_weekly_workflow_are_those_of_the_dag() -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(ROOT / "dags" / "weekly_retraining.py", bundle_name="dags-folder")
    rows = table("weekly-retraining.md", "Parameter", "Default")
    params = bag.dags["weekly_retraining"].params
    assert {name: row[0] for name, row in rows.items()} == {name: str(params[name]) for name in params}
