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
    "carriers",
    "connection",
    "grouping",
    "hierarchy",
    "hooks.pipeline_run",
    "hooks.report_facts",
    "hooks.report_process",
    "hooks.runs",
    "hooks.stage",
    "operators.candidate",
    "operators.pipeline",
    "outage",
    "process_context",
    "promotion",
    "reconciling",
    "registry",
    "reports.sections",
    "retry_chain",
    "rules.units",
    "sdk",
    "started_process",
    "timeline",
    "waiting.decision",
    "waiting.run",
    "xcom.reference",
)
# All that a DAG file pays for which names every public name. Each further module costs a quarter of a millisecond at
# each parse, and each class whose code is generated as much again.
PUBLIC = {
    *(
        "artifacts",
        "assets",
        "automation",
        "child_process",
        "environment",
        "exceptions",
        "identity",
    ),
    *("kubernetes_secret", "macros", "pipeline", "quality_gate", "record", "redaction"),
    *("hooks", "hooks.alias_history", "hooks.artifacts", "hooks.run_tree", "hooks.wandb"),
    *("links", "links.run"),
    *("operators", "operators.alias", "operators.artifact", "operators.automation", "operators.base"),
    *("operators.demote", "operators.gate", "operators.promote", "operators.python"),
    *("operators.reconcile", "operators.report", "operators.rollback", "operators.sync", "operators.xcom"),
    *("rules", "rules.age", "rules.bounds", "rules.combination", "rules.comparison", "rules.evidence"),
    *("rules.metric", "rules.outcome", "rules.paired", "rules.parsing", "rules.rule", "rules.table"),
    "rules.verdict",
    *("sensors", "sensors.artifact", "sensors.registry", "sensors.run", "sensors.waiting"),
    *("triggers", "triggers.registry", "triggers.shared_poll"),
    *("watching", "watching.notice", "xcom.backend", "xcom.stored_value"),
}
# Airflow itself imports these, where it reads the metadata of providers.
METADATA = {"connection_form", "provider_info", "settings", "xcom", "xcom.settings"}
GENERATED = {
    *("ArtifactRef", "Figure", "News", "RunRef", "StoredValue", "Verdict"),
}


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


def test_what_only_a_running_task_needs_is_not_among_the_modules_of_public_names() -> None:
    assert all(find_spec(f"wandb_airflow_provider.{name}") for name in RUNNING)
    assert not PUBLIC.intersection(RUNNING)


@pytest.mark.slow
def test_importing_every_public_name_adds_these_modules_and_no_more_generated_code() -> None:
    code = f"""
import sys
import airflow.sdk
before = set(sys.modules)
import wandb_airflow_provider as package
for name in package.__all__: getattr(package, name)
prefix = package.__name__ + "."
own = {{name.removeprefix(prefix): module for name, module in sys.modules.items() if name.startswith(prefix)}}
assert set(own) - {METADATA!r} == {PUBLIC!r}, set(own) - {METADATA!r} ^ {PUBLIC!r}
others = {{name.partition(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)
assert others <= {{"airflow", "pydantic", package.__name__}}, others
classes = [
    kind for path, module in own.items() if path in {PUBLIC!r} for kind in vars(module).values()
    if isinstance(kind, type) and kind.__module__ == module.__name__
]
generated = {{
    kind.__name__ for kind in classes
    if "__dataclass_fields__" in vars(kind) or "__attrs_attrs__" in vars(kind)
    or hasattr(kind, "__members__") or hasattr(kind, "model_fields")
    or (issubclass(kind, tuple) and "__match_args__" in vars(kind))
}}
assert generated == {GENERATED!r}, generated ^ {GENERATED!r}
"""
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
