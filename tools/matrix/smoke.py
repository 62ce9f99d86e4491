"""Ask Airflow what it finds of the installed wheel. Run by each cell's interpreter, far from the checkout."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path

DISTRIBUTION = "wandb-airflow-provider"

import wandb_airflow_provider as package  # noqa: E402

logging.disable(logging.CRITICAL)

assert "site-packages" in Path(package.__file__).parts, package.__file__
files = [file.parts[0] for file in distribution(DISTRIBUTION).files or ()]
assert "airflow" not in files, "the wheel writes into Airflow's own package"
assert "tests" not in files, "the wheel holds tests"
for name in package.__all__:
    getattr(package, name)

listed = subprocess.run(
    [sys.executable, "-W", "ignore", "-m", "airflow", "providers", "list", "--output", "json"],
    capture_output=True,
    text=True,
    check=True,
    timeout=120,
)
rows = json.loads(listed.stdout[listed.stdout.index("[{") :])
assert [row["version"] for row in rows if row["package_name"] == DISTRIBUTION] == [package.__version__]

from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService  # noqa: E402
from airflow.providers_manager import ProvidersManager  # noqa: E402

(form,) = [hook for hook in HookMetaService.hook_meta_data() if hook.connection_type == "wandb"]
assert {"entity", "project", "timeout"} <= set(form.extra_fields or {}), form.extra_fields
manager = ProvidersManager()
assert any(link.startswith("wandb_airflow_provider.") for link in manager.extra_links_class_names)
manager.initialize_providers_taskflow_decorator()
assert "wandb" in dict(manager.taskflow_decorators)

from airflow.sdk import task  # noqa: E402

assert callable(task.wandb)
print(f"Airflow {version('apache-airflow')} finds provider, form, links and decorator.")
