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

installed = Path(package.__file__).parent
assert "site-packages" in installed.parts, installed
files = distribution(DISTRIBUTION).files or ()
# Beside the package itself: metadata, and the command in the environment's bin.
tops = {file.parts[0] for file in files}
assert tops == {"..", "wandb_airflow_provider", f"wandb_airflow_provider-{package.__version__}.dist-info"}, (
    tops
)
assert (installed / "py.typed").is_file()
for name in package.__all__:
    getattr(package, name)


def printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def listed(*command: str) -> list[dict[str, str]]:
    """What a command of Airflow lists."""
    text = printed(sys.executable, "-W", "ignore", "-m", "airflow", *command, "--output", "json")
    rows: list[dict[str, str]] = json.loads(text[text.index("[{") :])
    return rows


providers = listed("providers", "list")
assert [row["version"] for row in providers if row["package_name"] == DISTRIBUTION] == [package.__version__]
(plugin,) = [row for row in listed("plugins") if row["name"] == "wandb"]
assert DISTRIBUTION in plugin["source"], plugin
assert "devserver" in printed(str(Path(sys.executable).parent / "wandb-airflow"), "--help")

from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService  # noqa: E402
from airflow.providers_manager import ProvidersManager  # noqa: E402

from wandb_airflow_provider.provider_info import get_provider_info  # noqa: E402

(form,) = [hook for hook in HookMetaService.hook_meta_data() if hook.connection_type == "wandb"]
assert {"entity", "project", "timeout"} <= set(form.extra_fields or {}), form.extra_fields
manager = ProvidersManager()
links = set(get_provider_info()["extra-links"])
assert links
assert links <= set(manager.extra_links_class_names), links
manager.initialize_providers_taskflow_decorator()
assert "wandb" in dict(manager.taskflow_decorators)

from airflow.sdk import task  # noqa: E402

assert callable(task.wandb)
strangers = [
    file
    for name, module in sys.modules.items()
    if name.partition(".")[0] == package.__name__
    and (file := getattr(module, "__file__", None))
    and not Path(file).is_relative_to(installed)
]
assert not strangers, strangers
print(f"Airflow {version('apache-airflow')} finds provider, form, links and decorator.")
