"""Runs that nobody closed, and what the reconciler makes of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time import comms

from wandb_airflow_provider import WandbReconcileOperator
from wandb_airflow_provider.exceptions import WandbPermanentError
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef, TaskIdentity

HERE = "http://localhost:8080"
DAG_RUN = "scheduled__1"

# A worker that forks a process for each task, as Airflow's do, and their end: by SIGKILL, in the middle of their work.
WORKER = """
import json, os, signal, sys
import wandb
from wandb_airflow_provider import WandbHook
from wandb_airflow_provider.sdk import RunSpec

def work(spec):
    session = WandbHook().open_run(RunSpec(**spec)).__enter__()
    for step in range(50):
        session.task_run.log({"metric": step})
    print("logged", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)

working = set()
for spec in json.loads(sys.argv[1]):
    if not (pid := os.fork()):
        work(spec)
    working.add(pid)
while working:
    pid, status = os.wait()
    working.remove(pid)
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        for other in working:
            os.kill(other, signal.SIGKILL)
        sys.exit("a task has not lived until it was killed")
"""


class Airflow:
    """What Airflow knows of one DAG run."""

    def __init__(self, supervisor: Any) -> None:
        self.dag_run: str | None = "running"
        self.tasks: dict[str, str] = {}
        supervisor.answers.update(
            {
                "GetDRCount": lambda msg: comms.DRCount(count=int(self.dag_run is not None)),
                "GetDagRunState": lambda msg: comms.DagRunStateResult(state=self.dag_run),
                "GetTaskStates": lambda msg: comms.TaskStatesResult(task_states={DAG_RUN: self.tasks}),
                "GetTaskBreadcrumbs": lambda msg: comms.TaskBreadcrumbsResult(
                    breadcrumbs=[
                        {"task_id": name, "map_index": -1, "state": state, "operator": "x", "duration": 1.5}
                        for name, state in self.tasks.items()
                        if state not in ("running", "none")
                    ]
                ),
            }
        )


@pytest.fixture
def airflow(supervisor: Any) -> Airflow:
    return Airflow(supervisor)


@pytest.fixture
def reconcile(hook: WandbHook, run_task: Callable[..., Any]) -> Callable[..., Any]:
    """``reconcile()`` runs the operator, and returns what it closed by run id."""

    def reconcile(**arguments: Any) -> dict[str, Any]:
        with DAG("maintenance", schedule=None):
            operator = WandbReconcileOperator(task_id="reconcile", **{"quiet_for": 0, **arguments})
        finished = run_task(operator)
        assert finished.state == "success", finished.error
        return {entry["run"].rpartition("/")[2]: entry for entry in finished.xcom()}

    return reconcile


def provenance(task_id: str | None, try_number: int = 1, airflow_at: str = HERE) -> dict[str, Any]:
    return {
        "dag_id": "weekly",
        "dag_run_id": DAG_RUN,
        "task_id": task_id,
        "map_index": -1,
        "try_number": try_number,
        "log_url": f"{airflow_at}/dags/weekly/runs/{DAG_RUN}/tasks/{task_id}",
    }


def spec(project: str, identity: TaskIdentity, **arguments: Any) -> dict[str, Any]:
    return {
        "wandb_run_id": identity.wandb_run_id(),
        "name": identity.display_name,
        "group": identity.group,
        "job_type": identity.task_id,
        "entity": "local",
        "project": project,
        "tags": ["kept"],
        "config": {"lr": 0.1, "airflow": provenance(identity.task_id, identity.try_number)},
        **arguments,
    }


def root(project: str, identity: TaskIdentity, **arguments: Any) -> dict[str, Any]:
    return spec(
        project,
        identity,
        wandb_run_id=identity.root_wandb_run_id(),
        name=identity.root_name,
        job_type="pipeline",
        config={"airflow": provenance(None)},
        **arguments,
    )


def killed_while_working(*specs: dict[str, Any]) -> None:
    """Let a process per spec open its run, log 50 rows, and be killed when W&B has got them."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WORKER, json.dumps(specs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdin is not None
        for _ in specs:
            while "logged" not in (line := worker.stdout.readline()):
                assert line, "the worker has ended"
        # Each reads its line, or sees the end of the input.
        worker.stdin.write("\n")
        worker.stdin.close()
        assert worker.wait(30) == 0


def opened(hook: WandbHook, values: dict[str, Any], state: str = "running") -> None:
    """Open a run and finish it as the opening task does, with the state that its summary keeps."""
    from wandb_airflow_provider.sdk import RunSpec

    with hook.open_run(RunSpec(**values)) as session:
        session.state_on_success = state


@pytest.mark.slow
def test_a_run_whose_task_was_killed_is_closed_as_airflow_says_and_says_how_that_is_known(
    hook: WandbHook, airflow: Airflow, reconcile: Callable[..., Any], unique: str
) -> None:
    first, second = TaskIdentity("weekly", DAG_RUN, "train"), TaskIdentity("weekly", DAG_RUN, "train", -1, 2)
    working = TaskIdentity("weekly", DAG_RUN, "evaluate")
    killed_while_working(*(spec(unique, one) for one in (first, second, working)))
    airflow.tasks = {"train": "failed", "evaluate": "running"}

    would = reconcile(dry_run=True)
    assert set(would) == {first.wandb_run_id(), second.wandb_run_id()}
    assert reconcile(quiet_for=3600) == {}
    closed = reconcile()

    assert closed == would
    before, after = (hook.get_run(RunRef("local", unique, one.wandb_run_id())) for one in (first, second))
    assert (before.state, after.state) == ("failed", "failed")
    assert before.summary["airflow/state"] == after.summary["airflow/state"] == "failed"
    assert "try 2" in before.summary["airflow/reconciled"]["source"]
    assert after.summary["airflow/reconciled"]["source"] == "Airflow says that the task instance is 'failed'."
    assert after.summary["airflow/reconciled"]["at"]
    assert after.summary["airflow/reason"].startswith("The task ended without closing its run.")
    assert (after.name, after.job_type, after.tags) == ("train · try 2", "train", ("kept",))
    assert after.config["lr"] == 0.1
    assert after.config["airflow"]["try_number"] == 2
    still = hook.get_run(RunRef("local", unique, working.wandb_run_id()))
    assert "airflow/reconciled" not in still.summary
    assert reconcile() == {}


@pytest.mark.slow
def test_a_pipeline_run_whose_closing_task_never_ran_gets_its_end_and_its_timeline(
    hook: WandbHook, airflow: Airflow, reconcile: Callable[..., Any], unique: str
) -> None:
    done = TaskIdentity("weekly", DAG_RUN, "prepare")
    opened(hook, root(unique, done))
    opened(hook, spec(unique, done), "success")
    airflow.tasks = {"prepare": "success", "train": "skipped", "wandb_pipeline_close": "running"}
    airflow.dag_run = "failed"
    assert reconcile() == {}, "the closing task is at work"

    airflow.tasks["wandb_pipeline_close"] = "skipped"
    assert set(reconcile()) == {done.root_wandb_run_id()}

    record = hook.get_run(RunRef("local", unique, done.root_wandb_run_id()))
    assert (record.state, record.summary["airflow/state"]) == ("failed", "failed")
    assert "the DAG run is 'failed'" in record.summary["airflow/reason"]
    assert "its closing task is 'skipped'" in record.summary["airflow/reconciled"]["source"]
    assert record.summary["airflow/tasks/skipped"] == 1
    assert record.summary["airflow/tasks/success"] == 1
    assert record.summary["airflow/runs"] == 1
    assert record.summary["timeline"]["nrows"] == 2
    assert reconcile() == {}


@pytest.mark.slow
def test_the_stages_of_a_shared_run_get_their_end_too(
    hook: WandbHook, airflow: Airflow, reconcile: Callable[..., Any], unique: str
) -> None:
    identity = TaskIdentity("weekly", DAG_RUN, "train")
    opened(hook, root(unique, identity))
    stage = root(unique, identity, stage="train") | {"config": {"train/airflow": provenance("train")}}
    killed_while_working(stage)
    airflow.tasks = {"train": "failed", "wandb_pipeline_close": "skipped"}
    assert reconcile() == {}, "the DAG run is at work, and its next task continues the run"

    airflow.dag_run = "failed"
    reconcile()

    record = hook.get_run(RunRef("local", unique, identity.root_wandb_run_id()))
    assert (record.state, record.summary["airflow/state"]) == ("failed", "failed")
    assert record.summary["train/airflow/state"] == "failed"
    assert record.summary["timeline"]["nrows"] == 1


@pytest.mark.slow
def test_runs_of_another_airflow_and_of_deleted_dag_runs_are_left_alone(
    hook: WandbHook, airflow: Airflow, reconcile: Callable[..., Any], unique: str
) -> None:
    identity = TaskIdentity("weekly", DAG_RUN, "train")
    theirs = TaskIdentity("weekly", DAG_RUN, "theirs")
    opened(hook, spec(unique, identity))
    opened(
        hook, spec(unique, theirs, config={"airflow": provenance("theirs", airflow_at="http://other:8080")})
    )
    opened(hook, spec(unique, theirs, wandb_run_id="by-hand", config={}))
    airflow.dag_run = None

    assert reconcile() == {}
    assert set(reconcile(close_unknown=True)) == {identity.wandb_run_id()}

    record = hook.get_run(RunRef("local", unique, identity.wandb_run_id()))
    assert (record.state, record.summary["airflow/state"]) == ("failed", "unknown")


@pytest.mark.slow
def test_a_run_that_cannot_be_closed_keeps_no_other_open(
    hook: WandbHook, airflow: Airflow, supervisor: Any, run_task: Callable[..., Any], unique: str
) -> None:
    first, gone, last = (TaskIdentity("weekly", DAG_RUN, name) for name in ("first", "gone", "last"))
    for one in (first, gone, last):
        opened(hook, spec(unique, one))
    nobodys = {name: value for name, value in provenance("x").items() if name != "try_number"}
    opened(hook, spec(unique, TaskIdentity("weekly", DAG_RUN, "x"), config={"airflow": nobodys}))
    airflow.tasks = dict.fromkeys(("first", "gone", "last"), "success")

    def deleted_meanwhile(msg: Any) -> Any:
        hook.get_conn().run(f"local/{unique}/{gone.wandb_run_id()}").delete()
        return comms.TaskStatesResult(task_states={DAG_RUN: airflow.tasks})

    supervisor.answers["GetTaskStates"] = deleted_meanwhile
    with DAG("maintenance", schedule=None):
        operator = WandbReconcileOperator(task_id="reconcile", quiet_for=0)
    finished = run_task(operator)

    assert isinstance(finished.error, WandbPermanentError)
    assert "1 runs could not be closed (2 others were)" in str(finished.error)
    assert gone.wandb_run_id() in str(finished.error)
    for one in (first, last):
        record = hook.get_run(RunRef("local", unique, one.wandb_run_id()))
        assert (record.state, record.summary["airflow/state"]) == ("finished", "success")


@pytest.mark.slow
def test_lost_runs_of_one_dag_run_are_listed_once(
    server: Any, hook: WandbHook, airflow: Airflow, reconcile: Callable[..., Any], unique: str
) -> None:
    def listed(count: int) -> int:
        dag_run = f"scheduled__{count}"
        for number in range(count):
            one = TaskIdentity("weekly", DAG_RUN, f"lost{count}", number)
            values = {**provenance(one.task_id), "map_index": number}
            opened(hook, spec(unique, one, group=dag_run, config={"airflow": values}))
            airflow.tasks[f"{one.task_id}_{number}"] = "running"
        before = len(server.requests("Runs"))
        assert reconcile() == {}
        return len(server.requests("Runs")) - before

    alone = listed(1)
    # Both groups, whatever their size.
    assert listed(3) == alone + 1
