"""
What the listener adds to a task, each task in a process of its own.

A worker forks a process for each task from one that has imported Airflow's task runner already, and each such process
finds its listeners anew: so what is measured begins with that, and ends when the task has ended. Requests to Airflow's
API are answered at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from statistics import median

from benchmarks.figure import Figure, interleave, milliseconds

_TASK = """
import os, sys, time, uuid
from datetime import UTC, datetime
import structlog
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import DagRun, DagRunState, DagRunType, TIRunContext
from airflow.sdk.execution_time import task_runner
from airflow.sdk.listener import get_listener_manager
from airflow.sdk.plugins_manager import _get_plugins
from wandb_airflow_provider.plugin import WandbPlugin

class Supervisor:
    def send(self, msg):
        return None

task_runner.SUPERVISOR_COMMS = Supervisor()
now = datetime.now(UTC)
with DAG("plain", schedule=None) as dag:
    task = PythonOperator(task_id="work", python_callable=lambda: None)
dag_run = DagRun.model_construct(
    dag_id="plain", run_id="manual__1", logical_date=now, data_interval_start=now, data_interval_end=now,
    run_after=now, start_date=now, run_type=DagRunType.MANUAL, state=DagRunState.RUNNING, conf={},
    consumed_asset_events=[], team_name=None, partition_key=None, partition_date=None,
)
received = TIRunContext.model_construct(
    dag_run=dag_run, max_tries=0, task_reschedule_count=0, should_retry=False, next_method=None, next_kwargs=None,
    upstream_map_indexes={},
)
ti = task_runner.RuntimeTaskInstance.model_construct(
    id=uuid.uuid4(), task=task, task_id="work", dag_id="plain", run_id="manual__1", try_number=1, map_index=-1,
    max_tries=0, start_date=now, dag_version_id=uuid.uuid4(), queue="default", bundle_instance=None,
    is_mapped=False, _ti_context_from_server=received,
)
context = ti.get_template_context()
log = structlog.get_logger("task")
# Done for every task, with a listener and without. Here the option is off.
_get_plugins()
case = sys.argv[1]
if case == "dag imports wandb":
    import wandb
os.environ["AIRFLOW__WANDB__AUTO_INSTRUMENT"] = str(case != "off")
began = time.perf_counter()
WandbPlugin.on_load()
manager = get_listener_manager()
state, _, error = task_runner.run(ti, context, log)
task_runner.finalize(ti, state, context, log, error)
took = time.perf_counter() - began
assert state.value == "success", error
assert any(type(listener).__name__ == "WandbListener" for listener in manager.pm.get_plugins()) == (case != "off")
assert ("wandb" in sys.modules) == (case == "dag imports wandb")
print(took)
"""
_CASES = {
    "a task without a run, listener off": "off",
    "listener on": "on",
    "listener on, where the DAG file imports wandb": "dag imports wandb",
}
_BAR = 20.0


def measure(rounds: int) -> list[Figure]:
    """Return the time of a task that opens no run, without and with the listener, and the difference."""
    with tempfile.TemporaryDirectory() as home:
        environment = {
            # Without compiled files, each process would pay for the compiler.
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "WANDB_CONFIG_DIR": home,
        }
        cases = {name: partial(_task, case, environment) for name, case in _CASES.items()}
        seconds = interleave(cases, rounds)
    off, *on = (median(values) for values in seconds.values())
    return [
        *(milliseconds(name, values) for name, values in seconds.items()),
        *(
            Figure(f"added: {name}", (value - off) * 1e3, "ms", bar=_BAR)
            for name, value in zip(list(_CASES)[1:], on, strict=True)
        ),
    ]


def _task(case: str, environment: dict[str, str]) -> float:
    command = [sys.executable, "-W", "ignore", "-c", _TASK, case]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])
