"""Environment of every test: its own Airflow home, its own W&B folders, and no way to the real service."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# The plugin is also registered by the installed package, under the same name.
pytest_plugins = ["pytester", "wandb_airflow_provider.devserver.pytest_plugin"]

_HOME = Path(tempfile.mkdtemp(prefix="wandb-airflow-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

# Airflow and wandb read these when first imported, so they are set before any test module is.
os.environ.update(
    {
        "AIRFLOW_HOME": str(_HOME / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(_HOME / "dags"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(_HOME / "logs"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "WANDB_BASE_URL": "https://invalid",
        "WANDB_DIR": str(_HOME / "wandb"),
        "WANDB_ARTIFACT_DIR": str(_HOME / "artifacts"),
        "WANDB_CACHE_DIR": str(_HOME / "wandb-cache"),
        "WANDB_DATA_DIR": str(_HOME / "wandb-data"),
        "WANDB_CONFIG_DIR": str(_HOME / "wandb-config"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
        # Reading the metadata of two hundred distributions takes longer than all else that opening a run does.
        "WANDB_X_SAVE_REQUIREMENTS": "false",
        # The workers of the tests share the cores; more threads than cores make each other wait.
        "OPENBLAS_NUM_THREADS": "1",
    }
)
for _name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_ENTITY", "WANDB_PROJECT"):
    os.environ.pop(_name, None)
for _folder in ("airflow", "dags", "logs", "wandb", "wandb-cache", "wandb-data", "wandb-config"):
    (_HOME / _folder).mkdir(parents=True, exist_ok=True)
