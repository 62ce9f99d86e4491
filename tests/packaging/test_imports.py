"""What importing the package and parsing DAGs costs: nothing of wandb or of the scientific stack."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import wandb_airflow_provider
from wandb_airflow_provider import _HOMES

ROOT = Path(__file__).parents[2]
HEAVY = ("wandb", "numpy", "pandas", "scipy", "sklearn", "torch", "plotly", "graphql")
RUNNING = (
    "connection",
    "grouping",
    "hooks.pipeline_run",
    "hooks.report_facts",
    "hooks.report_process",
    "hooks.runs",
    "hooks.stage",
    "operators.pipeline",
    "promotion",
    "reconciling",
    "reports.sections",
    "retry_chain",
    "sdk",
    "timeline",
    "waiting.decision",
)


def modules_after(code: str) -> set[str]:
    """The heavy modules that a fresh interpreter holds after the code."""
    tell = f"""
import json, sys
print()
print(json.dumps([name for name in sys.modules if name.partition(".")[0] in {HEAVY!r}]))
"""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code + tell],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    return set(json.loads(found.stdout.splitlines()[-1]))


def test_importing_every_public_name_imports_nothing_heavy() -> None:
    assert (
        modules_after(
            "import wandb_airflow_provider as package\n"
            "for name in package.__all__: getattr(package, name)\n"
            "import wandb_airflow_provider.plugin, wandb_airflow_provider.provider_info\n"
            "import wandb_airflow_provider.decorators.wandb, wandb_airflow_provider.operators.pipeline"
        )
        == set()
    )


def test_importing_every_public_name_leaves_out_what_only_a_running_task_needs() -> None:
    code = (
        "import sys\nimport wandb_airflow_provider as package\n"
        "for name in package.__all__: getattr(package, name)\n"
        f"loaded = [name for name in {RUNNING!r} if f'wandb_airflow_provider.{{name}}' in sys.modules]\n"
        "assert not loaded, loaded"
    )
    assert all(find_spec(f"wandb_airflow_provider.{name}") for name in RUNNING)
    assert modules_after(code) == set()


def test_importing_the_package_imports_no_airflow() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nimport wandb_airflow_provider\n"
        "assert not [m for m in set(sys.modules) - before if m.startswith('airflow')], sorted(sys.modules)"
    )
    assert modules_after(code) == set()


def test_the_processes_of_flows_need_no_airflow() -> None:
    code = (
        "import sys\n"
        "from wandb_airflow_provider.integrations import flow_run, kubeflow_step, process_sdk, step_run\n"
        "found = [name for name in sys.modules if name.partition('.')[0] in ('airflow', 'metaflow', 'kfp')]\n"
        "assert not found, found"
    )
    assert modules_after(code) == set()


@pytest.mark.parametrize("tool", ["metaflow", "kubeflow"])
def test_a_flow_without_its_tool_is_told_the_extra(tool: str) -> None:
    package = {"metaflow": "metaflow", "kubeflow": "kfp"}[tool]
    code = (
        f"import sys\nsys.modules[{package!r}] = None\n"
        f"try:\n    import wandb_airflow_provider.integrations.{tool}\n"
        f"except ImportError as error:\n    assert 'wandb-airflow-provider[{tool}]' in str(error)\n"
        "else:\n    raise AssertionError"
    )
    assert modules_after(code) == set()


def test_parsing_the_dags_imports_nothing_heavy() -> None:
    files = sorted(
        path for folder in (ROOT / "dags", ROOT / "tests" / "system" / "dags") for path in folder.glob("*.py")
    )
    assert files
    code = (
        "import sys\n"
        "try: from airflow.dag_processing.dagbag import DagBag\n"
        "except ModuleNotFoundError: from airflow.models.dagbag import DagBag\n"
        f"sys.path.insert(0, {str(ROOT / 'dags')!r})\n"
        f"for path in {[str(path) for path in files]!r}:\n"
        "    bag = DagBag(path)\n"
        "    assert not bag.import_errors, bag.import_errors\n"
    )
    assert modules_after(code) == set()


def test_the_lazy_names_are_the_public_ones() -> None:
    assert wandb_airflow_provider.__all__ == sorted([*_HOMES, "__version__"])
    assert dir(wandb_airflow_provider) == wandb_airflow_provider.__all__


@pytest.mark.parametrize("name", sorted(_HOMES))
def test_each_public_name_is_public_where_it_lives(name: str) -> None:
    home = import_module(f"wandb_airflow_provider.{_HOMES[name]}")
    assert getattr(wandb_airflow_provider, name) is getattr(home, name)
    assert name in home.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'WandbNothing'"):
        _ = wandb_airflow_provider.WandbNothing
