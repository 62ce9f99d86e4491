"""Twelve shapes of DAG on a real Airflow: the tree of runs in W&B is the DAG's, node by node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.run_trees import RunTrees, Tree, path
from tests.system.conftest import WANDB_ENTITY, WANDB_PROJECT
from wandb_airflow_provider.demo.airflow_process import AirflowCluster
from wandb_airflow_provider.demo.devserver_process import DevServerProcess

SHAPES: dict[str, Tree] = {
    "shape_linear": {"a": set(), "b": {"a"}, "c": {"b"}},
    "shape_fan": {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}},
    "shape_mapped": {
        "before": set(),
        "work[0]": {"before"},
        "work[1]": {"before"},
        "work[2]": {"before"},
        "after": {"work[0]", "work[1]", "work[2]"},
    },
    "shape_mapped_group": {
        "each.first[0]": set(),
        "each.first[1]": set(),
        "each.second[0]": {"each.first[0]"},
        "each.second[1]": {"each.first[1]"},
        "last": {"each.second[0]", "each.second[1]"},
    },
    "shape_branch": {"start": set(), "taken": {"start"}, "join": {"taken"}},
    "shape_retried": {"flaky": set(), "flaky · try 2": set(), "after": {"flaky · try 2"}},
    "shape_cleared": {
        "a": set(),
        "b": {"a"},
        "c": {"b"},
        "b · try 2": {"a"},
        "c · try 2": {"b · try 2"},
    },
    "shape_parent": {"before": set(), "after": {"before"}},
    "shape_child": {"inner": set()},
    "shape_producer": {"produce": set()},
    "shape_consumer": {"consume": set()},
    "shape_setup": {"own_setup": set(), "inside": {"own_setup"}, "own_teardown": {"own_setup", "inside"}},
    "shape_sensor": {"before": set(), "after": {"before"}},
    "shape_undated": {"a": set(), "b": {"a"}},
}
STARTED_BY_ANOTHER = ("shape_child", "shape_consumer")


@pytest.fixture(scope="module")
def shapes(airflow_cluster: AirflowCluster, wandb_server: DevServerProcess) -> Iterator[RunTrees]:
    import wandb

    api = airflow_cluster.api
    for dag_id in SHAPES:
        airflow_cluster.wait_for_dag(dag_id)
        api.unpause(dag_id)
    started = {dag_id: api.trigger(dag_id) for dag_id in SHAPES if dag_id not in STARTED_BY_ANOTHER}
    for dag_id in STARTED_BY_ANOTHER:
        started[dag_id] = airflow_cluster.wait_for_new_run(dag_id, timeout=240)
    ended = {
        dag_id: airflow_cluster.wait_for_run(dag_id, run.dag_run_id, timeout=240)
        for dag_id, run in started.items()
    }
    cleared = ended["shape_cleared"].dag_run_id
    api.clear("shape_cleared", cleared, ["b"], downstream=True)
    ended["shape_cleared"] = airflow_cluster.wait_for_run("shape_cleared", cleared)
    client = wandb.Api(api_key=wandb_server.api_key, overrides={"base_url": wandb_server.url})
    found = client.runs(f"{WANDB_ENTITY}/{WANDB_PROJECT}", order="+created_at", per_page=500, lazy=False)
    yield RunTrees(ended, {path(run): run for run in found})
    wandb.teardown()


@pytest.mark.parametrize("dag_id", SHAPES)
def test_the_tree_in_wandb_equals_the_dag(shapes: RunTrees, dag_id: str) -> None:
    assert shapes.dag_runs[dag_id].state == "success"
    assert shapes.tree(dag_id) == SHAPES[dag_id]
    assert shapes.root(dag_id).summary["airflow/state"] == "success"
    assert shapes.root(dag_id).state == "finished"


def test_every_run_but_the_failed_try_is_recorded_as_finished(shapes: RunTrees) -> None:
    states = {path(run): run.state for dag_id in SHAPES for run in shapes.group(dag_id)}
    failed = path(shapes.child("shape_retried", "flaky"))
    assert states.pop(failed) == "failed"
    assert set(states.values()) == {"finished"}


def test_a_retry_names_the_try_before(shapes: RunTrees) -> None:
    first, second = shapes.child("shape_retried", "flaky"), shapes.child("shape_retried", "flaky · try 2")
    assert second.config["airflow"]["retry_of"] == path(first)
    assert first.summary["airflow/reason"] == "ValueError: the first try fails"


def test_a_triggered_dag_hangs_below_the_run_that_triggered_it(shapes: RunTrees) -> None:
    provenance = shapes.root("shape_child").config["airflow"]
    assert provenance["parent_run"] == path(shapes.root("shape_parent"))
    assert provenance["triggered_by"][0]["task_id"] == "trigger"
    assert provenance["triggered_by"][0]["url"] == shapes.root("shape_parent").url


def test_a_dag_started_by_an_asset_hangs_below_the_run_that_produced_it(shapes: RunTrees) -> None:
    provenance = shapes.root("shape_consumer").config["airflow"]
    assert provenance["parent_run"] == path(shapes.child("shape_producer", "produce"))
    assert provenance["triggered_by"][0]["dag_run_id"] == shapes.dag_runs["shape_producer"].dag_run_id
    assert provenance["triggered_by"][0]["url"] == shapes.child("shape_producer", "produce").url


def test_the_runs_that_started_another_dag_name_it_among_their_files(shapes: RunTrees) -> None:
    for source, dag_id in (
        (shapes.root("shape_parent"), "shape_child"),
        (shapes.child("shape_producer", "produce"), "shape_consumer"),
    ):
        names = [file.name for file in source.files() if file.name.startswith("airflow/")]
        assert names == [f"airflow/triggered/{shapes.root(dag_id).id}.json"]


def test_the_root_counts_the_skipped_side_of_a_branch(shapes: RunTrees) -> None:
    summary = shapes.root("shape_branch").summary
    assert summary["airflow/tasks/skipped"] == 1
    assert summary["airflow/runs"] == 3


def test_a_run_without_a_logical_date_says_so(shapes: RunTrees) -> None:
    provenance = shapes.child("shape_undated", "a").config["airflow"]
    assert provenance["logical_date"] is None
    assert provenance["run_type"] == "manual"
    assert provenance["run_after"] is not None
