"""
What a DAG file costs the DAG processor: with ``@task.wandb``, with plain tasks, and with wandb imported at its top.

As in the DAG processor, a process that has imported Airflow and what the file imports of it forks another one for each
file, which parses and serialises it. Processor time, which parsing consists of wholly.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure, milliseconds, repeat

_TASKS = """
    for number in range(TASKS):
        @DECORATOR
        def work(ARGUMENT):
            return 1

        work.override(task_id=f"work_{number}")()
"""
_PLAIN = """
from airflow.sdk import DAG, task

with DAG("plain", schedule=None):
""" + _TASKS.replace("DECORATOR", "task").replace("ARGUMENT", "")
_BY_HAND = _PLAIN.replace("from airflow", "import wandb\nfrom airflow", 1).replace('"plain"', '"by_hand"')
_PROVIDER = """
from airflow.sdk import DAG, task
from wandb_airflow_provider import wandb_pipeline

with DAG("provider", schedule=None), wandb_pipeline(project="churn"):
""" + _TASKS.replace("DECORATOR", "task.wandb").replace("ARGUMENT", "wandb_run")
_FILES = {
    "plain tasks": _PLAIN,
    "@task.wandb": _PROVIDER,
    "plain tasks and import wandb": _BY_HAND,
}
_PROCESSOR = """
import json, os, sys, time
import airflow.dag_processing.processor
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization

def parse(path):
    began = time.process_time()
    bag = BundleDagBag(dag_folder=path, bundle_path=os.path.dirname(path), bundle_name="files", load_op_links=False)
    for dag in bag.dags.values():
        DagSerialization.to_dict(dag)
    seconds = time.process_time() - began
    assert len(bag.dags) == 1 and not bag.import_errors, bag.import_errors
    return seconds

for line in sys.stdin:
    receiving, sending = os.pipe()
    if os.fork() == 0:
        os.write(sending, repr(parse(line.strip())).encode())
        os._exit(0)
    os.close(sending)
    print("seconds:", os.read(receiving, 64).decode(), flush=True)
    os.close(receiving)
    os.wait()
"""
_MOST_OF_WANDB = 0.5


def measure(rounds: int, *, tasks: int = 10) -> list[Figure]:
    """
    Return the time that each file takes, and their ratios.

    :param tasks: How many tasks the DAG has.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, text in _FILES.items():
            paths[name] = Path(folder, f"{len(paths)}.py")
            paths[name].write_text(text.replace("TASKS", str(tasks)), encoding="utf-8")
        with _processor(folder) as process:
            seconds = repeat(lambda: {name: _parse(process, path) for name, path in paths.items()}, rounds)
            process.communicate()
    plain, provider, by_hand = (median(values) for values in seconds.values())
    return [
        *(milliseconds(f"{name}, {tasks} of them", values) for name, values in seconds.items()),
        Figure("@task.wandb / plain tasks", provider / plain, "x"),
        Figure(
            "added by @task.wandb / by importing wandb",
            (provider - plain) / (by_hand - plain),
            "x",
            bar=_MOST_OF_WANDB if tasks <= 10 else None,
        ),
    ]


def _processor(home: str) -> subprocess.Popen[str]:
    environment = {
        # Without compiled files, each import would pay for the compiler.
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "WANDB_CONFIG_DIR": home,
    }
    pipe = subprocess.PIPE
    command = [sys.executable, "-W", "ignore", "-c", _PROCESSOR]
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)


def _parse(process: subprocess.Popen[str], path: Path) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{path}\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("seconds: "):
            return float(json.loads(line.removeprefix("seconds: ")))
    raise RuntimeError(f"The process that parses DAG files ended with exit code {process.wait()}.")
