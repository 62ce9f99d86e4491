"""Flows of other tools, started by tasks: each is a subtree of runs, whatever becomes of its steps."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

from tests.dags.conftest import Ledger
from tests.dags.test_examples import DAGS, load
from wandb_airflow_provider import WandbChildRun, wandb_pipeline

pytestmark = pytest.mark.slow

RunDag = Callable[..., Any]

METAFLOW = """
import os, signal
from metaflow import FlowSpec, current, retry, step
from wandb_airflow_provider.integrations.metaflow import wandb_flow

@wandb_flow
class Failing(FlowSpec):
    @step
    def start(self):
        self.parts = ["recovers", "dies"]
        self.next(self.part, foreach="parts")

    @retry(times=1, minutes_between_retries=0)
    @step
    def part(self):
        import wandb
        wandb.init().log({"attempt": current.retry_count})
        if self.input == "recovers" and current.retry_count == 0:
            raise ValueError("the secret of customer Kowalczyk-Lindqvist")
        if self.input == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        self.next(self.together)

    @step
    def together(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    Failing()
"""

KUBEFLOW = """
import sys
from kfp import dsl, local
from wandb_airflow_provider.integrations.kubeflow import wandb_flow

@dsl.component(base_image="python:3.11", install_kfp_package=False)
def part(number: int) -> int:
    import os, signal
    if number == 2:
        import wandb
        wandb.init().log({"x": 1})
        os.kill(os.getpid(), signal.SIGKILL)
    return number

@wandb_flow
@dsl.pipeline(name="failing")
def failing():
    with dsl.ParallelFor([1, 2]) as number:
        part(number=number)

local.init(runner=local.SubprocessRunner(use_venv=False), raise_on_error=False)
failing()
"""

# Stands for a flow of either tool, in the middle of a step: there its task's time is up.
OVER_TIME = """
import os, signal, subprocess, sys, time
from wandb_airflow_provider.integrations.flow_run import flow_run
from wandb_airflow_provider.integrations.step_run import StepRun
from wandb_airflow_provider.process_context import context_of

if sys.argv[2:] == ["step"]:
    StepRun(context_of(os.environ), key="1", task="fit", name="fit", config={}).begin()
    # By which Airflow's own timer ends the task.
    os.kill(int(sys.argv[1]), signal.SIGALRM)
    time.sleep(600)
else:
    with flow_run("Slow", {}):
        subprocess.run([sys.executable, __file__, sys.argv[1], "step"], check=True)
"""


@pytest.fixture(autouse=True)
def _own_datastore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(tmp_path))
    monkeypatch.setenv("METAFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("METAFLOW_USER", "tester")


def tree(runs: list[Any]) -> set[tuple[str, str, str, str, str]]:
    """Return parent, name, type, state and Airflow's state of each run."""
    names = {"/".join(run.path): run.name for run in runs}
    return {
        (
            names.get(run.config["airflow"].get("parent_run"), ""),
            run.name,
            run.job_type,
            run.state,
            run.summary["airflow/state"],
        )
        for run in runs
    }


def upstream(runs: list[Any], name: str) -> list[str]:
    """Return the names of the runs before the one of this name."""
    names = {"/".join(run.path): run.name for run in runs}
    (run,) = (run for run in runs if run.name == name)
    return sorted(names[path] for path in run.config["airflow"]["upstream_runs"])


def test_metaflow_example_is_a_subtree_of_its_task(ledger: Ledger, run_dag: RunDag, tmp_path: Path) -> None:
    dag = load(DAGS / "example_metaflow.py")
    dag.task_dict["retrain"].env["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = str(tmp_path)

    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    runs = list(ledger.api().runs("local/metaflow", lazy=False))
    root = f"example_metaflow · {dag_run.run_id}"
    assert tree(runs) == {
        ("", root, "pipeline", "finished", "success"),
        (root, "retrain", "training", "finished", "success"),
        ("retrain", "RetrainFlow", "flow", "finished", "success"),
        ("RetrainFlow", "start", "start", "finished", "success"),
        ("RetrainFlow", "fit[0]", "fit", "finished", "success"),
        ("RetrainFlow", "fit[1]", "fit", "finished", "success"),
        ("RetrainFlow", "choose", "choose", "finished", "success"),
        ("RetrainFlow", "end", "end", "finished", "success"),
    }
    assert len({run.group for run in runs}) == 1
    assert upstream(runs, "fit[1]") == ["start"]
    assert upstream(runs, "choose") == ["fit[0]", "fit[1]"]
    assert upstream(runs, "end") == ["choose"]
    fitted = {run.name: run for run in runs}["fit[1]"]
    assert (fitted.config["rate"], fitted.config["metaflow"]["step"]) == (0.2, "fit")
    assert fitted.config["airflow"]["task_id"] == "retrain"
    assert len(list(fitted.scan_history(["distance"]))) == 20


def test_metaflow_steps_that_fail_die_and_are_retried_end_as_they_did(
    ledger: Ledger, run_dag: RunDag, tmp_path: Path
) -> None:
    script = tmp_path / "failing.py"
    script.write_text(METAFLOW)
    with DAG("failing_metaflow", schedule=None) as dag, wandb_pipeline():
        BashOperator(
            task_id="flow", bash_command=f"{sys.executable} {script} run", pre_execute=WandbChildRun()
        )

    dag_run = run_dag(dag)

    assert dag_run.state == "failed"
    runs = list(ledger.api().runs(f"local/{ledger.project}", lazy=False))
    root = f"failing_metaflow · {dag_run.run_id}"
    assert tree(runs) == {
        ("", root, "pipeline", "failed", "failed"),
        (root, "flow", "flow", "failed", "failed"),
        ("flow", "Failing", "flow", "failed", "failed"),
        ("Failing", "start", "start", "finished", "success"),
        ("Failing", "part[0]", "part", "failed", "failed"),
        ("Failing", "part[0] · try 2", "part", "finished", "success"),
        ("Failing", "part[1]", "part", "failed", "failed"),
        ("Failing", "part[1] · try 2", "part", "failed", "failed"),
    }
    named = {run.name: run for run in runs}
    for part in ("part[0]", "part[1]"):
        assert named[f"{part} · try 2"].config["airflow"]["retry_of"] == "/".join(named[part].path)
    assert named["part[0]"].summary["airflow/reason"] == "ValueError"
    assert named["part[0] · try 2"].summary["attempt"] == 1
    assert (named["Failing"].summary["airflow/steps"], named["Failing"].summary["airflow/steps_failed"]) == (
        5,
        3,
    )
    received = b"".join(repr(request.variables).encode() for request in ledger.server.requests())
    assert b"Kowalczyk" not in received


def test_kubeflow_example_is_a_subtree_of_its_task(ledger: Ledger, run_dag: RunDag) -> None:
    dag_run = run_dag(load(DAGS / "example_kubeflow.py"))

    assert dag_run.state == "success"
    runs = list(ledger.api().runs("local/kubeflow", lazy=False))
    root = f"example_kubeflow · {dag_run.run_id}"
    assert tree(runs) == {
        ("", root, "pipeline", "finished", "success"),
        (root, "assess", "assess", "finished", "success"),
        ("assess", "score", "flow", "finished", "success"),
        ("score", "fit", "fit", "finished", "success"),
        ("score", "check", "check", "finished", "success"),
    }
    assert upstream(runs, "check") == ["fit"]
    fitted = {run.name: run for run in runs}["fit"]
    assert (fitted.config["rate"], fitted.config["kubeflow"]["task"]) == (0.1, "fit")
    assert len(list(fitted.scan_history(["distance"]))) == 20


def test_kubeflow_pipeline_has_failed_when_a_step_died_even_if_the_runner_says_nothing(
    ledger: Ledger, run_dag: RunDag, tmp_path: Path
) -> None:
    script = tmp_path / "failing.py"
    script.write_text(KUBEFLOW)
    with DAG("failing_kubeflow", schedule=None) as dag:
        BashOperator(task_id="work", bash_command=f"{sys.executable} {script}", pre_execute=WandbChildRun())

    dag_run = run_dag(dag)

    assert dag_run.state == "success"
    runs = list(ledger.api().runs(f"local/{ledger.project}", lazy=False))
    assert tree(runs) == {
        ("", "work", "work", "finished", "success"),
        ("work", "failing", "flow", "failed", "failed"),
        ("failing", "part[0]", "part", "finished", "success"),
        ("failing", "part[1]", "part", "failed", "failed"),
    }
    named = {run.name: run for run in runs}
    assert named["part[1]"].summary["airflow/reason"] == "The step was ended by signal SIGKILL."
    assert named["failing"].summary["airflow/reason"] == "A step failed."


def test_a_flow_that_is_stopped_as_its_task_takes_too_long_leaves_no_step_running(
    ledger: Ledger, run_dag: RunDag, tmp_path: Path
) -> None:
    script = tmp_path / "slow.py"
    script.write_text(OVER_TIME)
    stopped: list[Any] = []

    class Stopped(BashOperator):
        """Keeps the process that Airflow leaves to itself when the time is up."""

        def on_kill(self) -> None:
            super().on_kill()
            stopped.append(self.subprocess_hook.sub_process)

    with DAG("slow_flow", schedule=None) as dag:
        Stopped(
            task_id="work",
            bash_command=f"{sys.executable} {script} {os.getpid()}",
            pre_execute=WandbChildRun(),
            execution_timeout=timedelta(minutes=10),
        )

    dag_run = run_dag(dag)

    (process,) = stopped
    process.stdout.close()
    process.wait(timeout=60)
    assert dag_run.state == "failed"
    runs = list(ledger.api().runs(f"local/{ledger.project}", lazy=False))
    assert tree(runs) == {
        ("", "work", "work", "failed", "failed"),
        ("work", "Slow", "flow", "failed", "killed"),
        ("Slow", "fit", "fit", "failed", "killed"),
    }
    reasons = {run.name: run.summary.get("airflow/reason") for run in runs}
    assert reasons["work"].startswith("AirflowTaskTimeout")
    assert reasons["Slow"] == "The flow was stopped from outside (SIGTERM)."


def test_a_kubeflow_pipeline_of_a_task_that_went_offline_records_nothing_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from wandb_airflow_provider.integrations.kubeflow import wandb_flow

    class Pipeline:
        """What ``@dsl.pipeline`` makes, as far as it matters here."""

        name = "score"

        @staticmethod
        def pipeline_func() -> None:
            """Compose the steps."""

        def __call__(self) -> str:
            return os.environ["WANDB_MODE"]

    place = {"WANDB_LAUNCH": "true", "WANDB_ENTITY": "e", "WANDB_PROJECT": "p", "WANDB_RUN_ID": "task"}
    for name, value in {**place, "WANDB_CONFIG": '{"airflow": {}}', "WANDB_MODE": "offline"}.items():
        monkeypatch.setenv(name, value)

    assert wandb_flow(Pipeline())() == "disabled"
    assert os.environ["WANDB_MODE"] == "offline"
    assert "W&B is unavailable: nothing of the flow 'score' is recorded." in caplog.text
