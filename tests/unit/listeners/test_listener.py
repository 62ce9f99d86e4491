"""Which tasks the listener follows, and what it costs the others."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowConfigException

from wandb_airflow_provider import WandbPythonOperator, settings
from wandb_airflow_provider.listeners import instrumented_task
from wandb_airflow_provider.listeners.listener import WandbListener, is_covered
from wandb_airflow_provider.plugin import WandbPlugin
from wandb_airflow_provider.provider_info import get_provider_info

OWN_OPTIONS = ("auto_instrument", "include", "exclude", "run_per_task", "wandb_conn_id")


def task(dag_id: str = "churn", task_id: str = "train") -> PythonOperator:
    with DAG(dag_id, schedule=None):
        return PythonOperator(task_id=task_id, python_callable=dict)


def test_the_options_have_the_defaults_that_airflow_documents() -> None:
    documented = get_provider_info()["config"]["wandb"]["options"]
    assert {name: documented[name]["default"] for name in OWN_OPTIONS} == {
        "auto_instrument": str(settings.auto_instrument()),
        "include": ", ".join(settings.include()),
        "exclude": ", ".join(settings.exclude()),
        "run_per_task": str(settings.run_per_task()),
        "wandb_conn_id": settings.wandb_conn_id(),
    }


def test_the_page_lists_the_options_with_their_defaults() -> None:
    page = (Path(__file__).parents[3] / "docs" / "auto-instrument.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|(?: `(.*?)`)? \|", page, re.MULTILINE)
    assert dict(rows) == {name: settings.OPTIONS[name]["default"] for name in OWN_OPTIONS}


def test_the_plugin_lists_a_listener_only_when_switched_on(configure: Callable[..., None]) -> None:
    WandbPlugin.on_load()
    assert WandbPlugin.listeners == []
    configure(auto_instrument=True)
    WandbPlugin.on_load()
    assert [type(listener) for listener in WandbPlugin.listeners] == [WandbListener]
    configure(auto_instrument="perhaps")
    with pytest.raises(AirflowConfigException, match="perhaps"):
        WandbPlugin.on_load()
    assert WandbPlugin.listeners == []


@pytest.mark.parametrize(
    ("include", "exclude", "covered"),
    [
        ("*", "", True),
        ("churn", "", True),
        ("ch*", "", True),
        ("churn.train", "", True),
        ("other, churn.tr*", "", True),
        ("other\n  *.train", "", True),
        ("train", "", False),
        ("Churn", "", False),
        ("", "", False),
        ("*", "churn", False),
        ("churn.train", "*.train", False),
        ("*", "churn.load other", True),
    ],
)
def test_patterns_choose_the_tasks(
    configure: Callable[..., None], include: str, exclude: str, covered: bool
) -> None:
    configure(include=include, exclude=exclude)
    assert is_covered(task()) is covered


def test_operators_of_the_package_are_left_alone(
    listening: Any, run_task: Callable[..., Any], hook: Any, account: Any
) -> None:
    def work(wandb_run: Any) -> list[str]:
        wandb_run.log({"loss": 1})
        return sorted(name for name in ("WANDB_RUN_GROUP", "WANDB_JOB_TYPE") if name in os.environ)

    with DAG("plain", schedule=None):
        operator = WandbPythonOperator(task_id="work", python_callable=work)
    assert not is_covered(operator)
    assert run_task(operator).xcom() == []
    run = account.run()
    assert (run.summary["airflow/state"], account.exit_code(run)) == ("success", 0)


def test_a_task_that_is_marked_in_the_ui_is_ignored_by_the_api_server() -> None:
    listener = WandbListener()
    marked = SimpleNamespace(id="1", task=None)
    listener.on_task_instance_success(previous_state=None, task_instance=marked)
    listener.on_task_instance_failed(previous_state=None, task_instance=marked, error="marked failed")
    listener.before_stopping(component=None)


def test_a_second_running_for_the_same_attempt_changes_nothing(
    do: Callable[..., Any], listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    begin = instrumented_task.InstrumentedTask.begin
    monkeypatch.setattr(
        instrumented_task.InstrumentedTask, "begin", lambda self: (begun.append(self), begin(self))
    )

    def work(ti: Any) -> None:
        listening.hook.on_task_instance_running(previous_state=None, task_instance=ti)

    do(work)
    assert len(begun) == 1


def test_the_listener_s_own_failure_is_one_warning(
    do: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(dag: Any) -> None:
        raise RuntimeError("no such DAG")

    monkeypatch.setattr(instrumented_task, "find_pipeline", fails)
    with caplog.at_level(logging.WARNING):
        finished = do(lambda: "done")
    assert (finished.state, finished.xcom()) == ("success", "done")
    (warning,) = [record for record in caplog.records if record.name.startswith("wandb_airflow_provider")]
    assert "RuntimeError: no such DAG" in warning.getMessage()


def test_a_signal_handler_that_the_task_sets_stays(do: Callable[..., Any]) -> None:
    def mine(number: int, frame: Any) -> None:
        """Handle it."""

    def work() -> None:
        signal.signal(signal.SIGTERM, mine)

    do(work)
    assert signal.getsignal(signal.SIGTERM) is mine


_PROCESS = """
import json, sys
from airflow.sdk.listener import get_listener_manager
manager = get_listener_manager()
names = [type(plugin).__name__ for plugin in manager.pm.get_plugins()]
imported = sorted(name for name in sys.modules if name.partition(".")[0] == "wandb")
ours = sorted(name for name in sys.modules if name.startswith("wandb_airflow_provider.listeners"))
print()
print(json.dumps([names, imported, ours]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("on", [False, True])
def test_airflow_finds_the_listener_by_the_entry_point_and_nothing_imports_wandb(on: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROCESS],
        env={**os.environ, "AIRFLOW__WANDB__AUTO_INSTRUMENT": str(on)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    names, wandb, ours = json.loads(done.stdout.splitlines()[-1])
    assert ("WandbListener" in names) is on
    assert wandb == []
    assert bool(ours) is on
