"""Airflow's configuration for one machine and one person, as environment variables."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.fernet import Fernet

from wandb_airflow_provider.demo.processes import inherited_environment

__all__ = ["airflow_environment"]


def airflow_environment(home: Path, dags_folder: Path, url: str, *, parallelism: int) -> dict[str, str]:
    """
    Return the complete environment of Airflow's processes, tuned to react within a second.

    :param home: Becomes ``AIRFLOW_HOME``. The keys of its database are made on first use.
    :param url: Where the API server will listen.
    :param parallelism: Most tasks at the same time.
    """
    keys = _keys(home / "secrets.json")
    options: dict[tuple[str, str], str] = {
        ("core", "dags_folder"): str(dags_folder),
        ("core", "plugins_folder"): str(home / "plugins"),
        ("core", "load_examples"): "False",
        ("core", "executor"): "LocalExecutor",
        ("core", "parallelism"): str(parallelism),
        ("core", "fernet_key"): keys["fernet_key"],
        ("core", "execution_api_server_url"): f"{url}/execution/",
        ("core", "simple_auth_manager_all_admins"): "True",
        ("core", "min_serialized_dag_update_interval"): "1",
        ("api", "base_url"): url,
        ("api", "port"): str(urlsplit(url).port),
        ("api", "secret_key"): keys["secret_key"],
        ("api_auth", "jwt_secret"): keys["jwt_secret"],
        # The API server would refuse to start while another process creates the database.
        ("database", "check_migrations"): "False",
        # The processes wait for each other longer than SQLite's five seconds when the disk is slow. Where the API
        # server waits for itself, as it can, only this ends it: before others take it for dead, after 30 seconds.
        ("database", "sql_alchemy_conn"): f"sqlite:///{home / 'airflow.db'}?timeout=12",
        ("scheduler", "scheduler_idle_sleep_time"): "0.2",
        ("scheduler", "scheduler_heartbeat_sec"): "1",
        ("scheduler", "trigger_timeout_check_interval"): "2",
        ("triggerer", "job_heartbeat_sec"): "2",
        ("dag_processor", "min_file_process_interval"): "30",
        ("dag_processor", "bundle_refresh_check_interval"): "1",
        ("dag_processor", "refresh_interval"): "5",
        ("logging", "colored_console_log"): "False",
        ("usage_data_collection", "enabled"): "False",
    }
    env = inherited_environment()
    env |= {f"AIRFLOW__{section}__{key}".upper(): value for (section, key), value in options.items()}
    env["AIRFLOW_HOME"] = str(home)
    return env | _wandb_environment(home / "wandb")


def _wandb_environment(folder: Path) -> dict[str, str]:
    """Keep W&B's own files in the folder, and the account of the person at the keyboard out of it."""
    folders = {
        "WANDB_DIR": folder / "runs",
        "WANDB_CACHE_DIR": folder / "cache",
        "WANDB_CONFIG_DIR": folder / "config",
        "WANDB_DATA_DIR": folder / "data",
    }
    for path in folders.values():
        path.mkdir(parents=True, exist_ok=True)
    env = {name: str(path) for name, path in folders.items()}
    return {**env, "NETRC": str(folder / "netrc"), "WANDB_ERROR_REPORTING": "false"}


def _keys(path: Path) -> dict[str, str]:
    """Return the stored keys: a database that is used again can be read only with its own."""
    if not path.exists():
        made = {
            "fernet_key": Fernet.generate_key().decode(),
            "secret_key": secrets.token_urlsafe(32),
            "jwt_secret": secrets.token_urlsafe(48),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(made), encoding="utf-8")
    keys: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return keys
