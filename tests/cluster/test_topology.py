"""On several machines, some of which are lost, W&B holds what it holds after a run on one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import closing
from typing import Any

import boto3
import pytest

from tests.cluster import machine
from tests.cluster.dags.many_runs import NUMBERS, STEPS
from tests.cluster.history import History
from tests.cluster.portrait import Portrait, differences, portraits
from tests.cluster.topology import WORKERS, Topology
from tests.cluster.workflow import PROJECTS
from tests.run_trees import path

# The first test waits for the whole history.
pytestmark = pytest.mark.timeout(1300)

WEEKLY = {
    "prepare_data": set(),
    "train": {"prepare_data"},
    "evaluate": {"prepare_data", "train"},
    "gate": {"evaluate", "train"},
    "report": {"gate"},
    "promote": {"gate", "report"},
}


def history_of(run: Any) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.startswith("_")} for row in run.scan_history()
    ]


@pytest.mark.parametrize("dag_id", PROJECTS)
def test_every_dag_run_ends_well_and_so_does_its_root(history: History, dag_id: str) -> None:
    assert history.dag_runs[dag_id].state == "success", history.failures(dag_id)
    assert history.root(dag_id).state == "finished"
    assert history.root(dag_id).summary["airflow/state"] == "success"


def test_both_workers_ran_tasks_and_wrote_only_on_their_own_disk(history: History) -> None:
    logs = {name: history.topology.task_logs(name) for name in WORKERS}
    for name in WORKERS:
        assert logs[name]
    tries = [
        file.relative_to(history.topology.machine(name)) for name, files in logs.items() for file in files
    ]
    # A try that waits for a person may go on elsewhere than it began.
    begun = [file for file in tries if "task_id=approve" not in file.parts]
    assert len(begun) == len(set(begun))
    for name in ("scheduler", "api-server", "triggerer", "dag-processor"):
        assert history.topology.task_logs(name) == []


def last_tries(history: History) -> dict[str, str]:
    """The label of each task that has a W&B run, to the name of the run of its last try."""
    return {
        task.label: task.label if task.try_number == 1 else f"{task.label} · try {task.try_number}"
        for task in history.tasks["many_runs"]
        if not task.task_id.startswith("wandb_pipeline")
    }


def test_a_lost_worker_costs_a_try_of_what_ran_on_it_and_nothing_else(history: History) -> None:
    squares = [task for task in history.tasks["many_runs"] if task.task_id == "square"]
    again = {task.map_index for task in squares if task.try_number > 1}
    assert sorted(task.map_index for task in squares) == list(range(NUMBERS))
    assert {task.state for task in squares} == {"success"}
    assert history.lost is not None
    assert history.lost.map_index in again
    # As many as ran on it at a time.
    assert len(again) <= int(
        history.topology.services[history.lost_worker].environment["AIRFLOW__CELERY__WORKER_CONCURRENCY"]
    )


def test_mapped_runs_are_there_once_each_with_all_that_they_logged(history: History) -> None:
    names = set(last_tries(history).values())
    runs = [run for run in history.children("many_runs") if run.name in names]
    squares = names - {"total"}
    assert len(runs) == len(names) == NUMBERS + 1
    assert {run.state for run in runs} == {"finished"}
    assert history.tree("many_runs", runs) == {**{name: set() for name in squares}, "total": squares}
    for run in runs:
        if run.name != "total":
            number = run.config["airflow"]["map_index"]
            assert history_of(run) == [{"number": number, "step": step} for step in range(STEPS)]
            assert run.summary["square"] == number**2
    total = history.child("many_runs", "total").summary
    assert (total["count"], total["total"]) == (NUMBERS, sum(n**2 for n in range(NUMBERS)))


def test_runs_of_lost_tries_are_named_by_the_tries_that_followed(history: History) -> None:
    names = set(last_tries(history).values())
    children = history.children("many_runs")
    lost = {path(run) for run in children if run.name not in names}
    followed = {run.config["airflow"].get("retry_of") for run in children}
    assert history.lost is not None
    cut_short = history.child("many_runs", history.lost.label)
    assert path(cut_short) in lost
    assert cut_short.state == "failed"
    assert path(cut_short) in {closed["run"] for closed in history.reconciled}
    assert "Airflow starts when one has failed" in cut_short.summary["airflow/reconciled"]["source"]
    number = history.lost.map_index
    assert history_of(cut_short) == [{"number": number, "step": step} for step in range(STEPS)]
    assert "square" not in cut_short.summary
    assert followed - {None} <= lost
    assert path(cut_short) in followed
    # A try that was lost between opening its run and telling Airflow so is not known to the next.
    assert [each for each in children if path(each) in lost - followed and history_of(each)] == []


@pytest.mark.parametrize("dag_id", ["weekly_retraining", "deploy_on_promotion", "example_xcom"])
def test_hierarchy_and_data_equal_those_of_one_machine(
    expected: dict[str, dict[str, Portrait]], history: History, dag_id: str
) -> None:
    assert differences(portraits(history, dag_id), expected[dag_id]) == []


def test_mapped_tasks_hold_what_they_hold_on_one_machine(
    expected: dict[str, dict[str, Portrait]], history: History
) -> None:
    alone, found = expected["many_runs"], portraits(history, "many_runs")
    tries = last_tries(history)
    assert alone.keys() == {*tries, "many_runs"}
    at_once = [name for name, run in tries.items() if name == run and name != "total"]
    assert differences({name: found[name] for name in at_once}, {name: alone[name] for name in at_once}) == []
    # The others say which try they are, and so does what mentions them.
    first = re.sub(r" · try \d+(?=>)", "", json.dumps(found[tries["total"]], ensure_ascii=False))
    assert differences(json.loads(first), alone["total"]) == []


def test_the_weekly_tree_is_that_of_its_tasks(history: History) -> None:
    assert history.tree("weekly_retraining") == WEEKLY
    assert {run.state for run in history.children("weekly_retraining")} == {"finished"}


def test_a_promotion_that_no_triggerer_saw_is_deployed_once(history: History) -> None:
    api = history.topology.api
    promoted = api.xcom("weekly_retraining", history.dag_runs["weekly_retraining"].dag_run_id, "promote")
    deploy = history.child("deploy_on_promotion", "build_index")
    assert history.deployed_while_away == 0
    assert len(api.dag_runs("deploy_on_promotion")) == 1
    (index,) = [artifact for artifact in deploy.logged_artifacts() if artifact.type == "index"]
    assert index.metadata["digest"] == promoted["current"]["digest"]
    assert history.tree("deploy_on_promotion") == {"build_index": set()}


def test_values_pass_between_workers_through_the_object_store(history: History) -> None:
    topology = history.topology
    run = history.dag_runs["example_xcom"]
    assert topology.api.xcom("example_xcom", run.dag_run_id, "read") == "LogisticRegression: 1.000"
    assert history.tree("example_xcom") == {
        "prepare": set(),
        "train": {"prepare"},
        "evaluate": {"train", "prepare"},
        "choose": {"train", "evaluate"},
    }
    with closing(boto3.client("s3", **topology.storage)) as client:
        keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="wandb-xcom")["Contents"]]
    logged = [artifact for each in history.group("example_xcom") for artifact in each.logged_artifacts()]
    values = [artifact for artifact in logged if artifact.name.startswith("example_xcom.")]
    assert len(values) == len({artifact.name for artifact in values}) >= 3
    for artifact in values:
        references = [entry.ref for entry in artifact.manifest.entries.values()]
        assert references
        for reference in references:
            assert reference.removeprefix("s3://wandb-xcom/") in keys


def test_a_worker_holds_no_secret_of_the_servers(topology: Topology) -> None:
    secrets = {
        topology.variables[name] for name in ("POSTGRES_PASSWORD", "AIRFLOW_FERNET_KEY", "AIRFLOW_JWT_SECRET")
    }
    for name in WORKERS:
        given = " ".join(topology.services[name].environment.values())
        assert not [secret for secret in secrets if secret in given]


def test_a_machine_of_its_own_reaches_what_is_relayed_and_nothing_else(topology: Topology) -> None:
    reach = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"
    command = [sys.executable, "-I", machine.__file__]
    if topology.own_networks:
        command += ["--name", "worker-3", "--relay", str(topology.ports["redis"])]
    codes = {
        name: subprocess.run(
            [*command, "--", sys.executable, "-c", reach, str(topology.ports[name])], capture_output=True
        ).returncode
        for name in ("redis", "postgres")
    }
    assert codes == {"redis": 0, "postgres": 1 if topology.own_networks else 0}
