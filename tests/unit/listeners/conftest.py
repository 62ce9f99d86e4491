"""Tasks run by Airflow's own task runner to the very end, with the listener that the plugin registers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

# How a process finds the wandb service that it has started.
_SERVICE = "WANDB_SERVICE"


@pytest.fixture(autouse=True)
def _own_sigterm_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``configure(include="a*")`` sets options of the section ``[wandb]``."""

    def configure(**options: object) -> None:
        for name, value in options.items():
            monkeypatch.setenv(f"AIRFLOW__WANDB__{name.upper()}", str(value))

    return configure


@pytest.fixture
def listening(configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Switch the listener on, and let Airflow's task runner end its tasks as it does in a worker."""
    from airflow.sdk._shared.listeners.listener import ListenerManager
    from airflow.sdk._shared.listeners.spec import lifecycle, taskinstance
    from airflow.sdk.execution_time import task_runner

    from wandb_airflow_provider.plugin import WandbPlugin

    configure(auto_instrument=True)
    WandbPlugin.on_load()
    manager = ListenerManager()
    manager.add_hookspecs(lifecycle)
    manager.add_hookspecs(taskinstance)
    for listener in WandbPlugin.listeners:
        manager.add_listener(listener)
    run_only = task_runner.run

    def run(ti: Any, context: Any, log: Any) -> Any:
        state, message, error = run_only(ti, context, log)
        context["exception"] = error
        task_runner.finalize(ti, state, context, log, error)
        return state, message, error

    monkeypatch.setattr(task_runner, "run", run)
    monkeypatch.setattr(task_runner, "get_listener_manager", lambda: manager)
    return manager


@dataclass
class Account:
    """How a user's own code logs in, as it would through its environment."""

    server: Any
    project: str
    folder: Path

    def init(self, **arguments: Any) -> Any:
        """Call ``wandb.init`` as user code does."""
        import wandb

        settings = wandb.Settings(
            base_url=self.server.url,
            api_key=self.server.api_key,
            console="off",
            silent=True,
            disable_git=True,
        )
        given = {"entity": "local", "project": self.project, "settings": settings, **arguments}
        return wandb.init(dir=self.folder, **given)

    def runs(self) -> list[Any]:
        """Return the project's runs, oldest first."""
        import wandb

        from wandb_airflow_provider import sdk

        api = wandb.Api(api_key=self.server.api_key, overrides={"base_url": self.server.url})
        try:
            return list(api.runs(f"local/{self.project}", order="+created_at", lazy=False))
        finally:
            sdk.release()

    def run(self) -> Any:
        """Return the project's only run."""
        (run,) = self.runs()
        return run

    def exit_code(self, run: Any) -> int | None:
        """Return the exit code that the run was finished with."""
        with self.server.backend.store.read() as rows:
            (code,) = rows.execute(
                "SELECT exit_code FROM runs WHERE name = ? AND project = ?", (run.id, self.project)
            ).fetchone()
        return code


@pytest.fixture
def account(server: Any, unique: str, tmp_path: Path) -> Account:
    return Account(server, unique, tmp_path)


@pytest.fixture
def do(listening: Any, run_task: Callable[..., Any]) -> Callable[..., Any]:
    """``do(function)`` runs a function as a plain Python task ``work`` of the DAG ``plain``."""

    def do(function: Callable[..., Any], *, try_number: int = 1, **arguments: Any) -> Any:
        with DAG("plain", schedule=None):
            task = PythonOperator(task_id="work", python_callable=function, **arguments)
        return run_task(task, try_number=try_number)

    return do


@pytest.fixture(autouse=True)
def _process_is_left_as_it_was() -> Iterator[None]:
    """Whatever a task did: environment, import system and signal handler are as before it."""

    def ours() -> list[str]:
        return [
            type(finder).__module__
            for finder in sys.meta_path
            if "airflow_provider" in type(finder).__module__
        ]

    def variables() -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}

    before = variables()
    yield
    after = variables()
    # An SDK service that an earlier test left running may have been ended meanwhile.
    if _SERVICE not in after:
        before.pop(_SERVICE, None)
    assert after == before
    assert ours() == []
    wandb = sys.modules.get("wandb")
    assert wandb is None or not hasattr(wandb.init, "__wrapped__")
