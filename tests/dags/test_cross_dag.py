"""DAG runs that start each other: both sides say so in W&B, and neither undoes what the other writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task

from tests.dags.conftest import Ledger
from wandb_airflow_provider import read_run_tree, wandb_pipeline
from wandb_airflow_provider.identity import TaskIdentity
from wandb_airflow_provider.provenance import TRIGGERED_BY

pytestmark = pytest.mark.slow

RunDag = Callable[..., Any]


def one_task(dag_id: str) -> Any:
    """Return a DAG of one task with a run, in a pipeline."""
    with DAG(dag_id, schedule=None) as dag, wandb_pipeline():

        @task.wandb
        def work(wandb_run: Any) -> None:
            wandb_run.summary["done"] = 1

        work()
    return dag


def links(run: Any, folder: Path) -> list[dict[str, Any]]:
    """Return what a run's files say of the DAG runs that it started."""
    found = []
    for file in run.files():
        if file.name.startswith("airflow/triggered/"):
            with file.download(folder, replace=True) as content:
                found.append(json.load(content))
    return found


def cause(dag_run: Any, root: Any, **changes: str) -> dict[str, Any]:
    """Return what ``wandb_pipeline`` puts into the conf of a TriggerDagRunOperator."""
    said = {
        "dag_id": dag_run.dag_id,
        "dag_run_id": dag_run.run_id,
        "task_id": "trigger",
        "run": "/".join(root.path),
    }
    return {TRIGGERED_BY: {**said, "url": root.url, **changes}}


def test_started_dag_runs_and_the_one_that_started_them_lead_to_each_other(
    ledger: Ledger, run_dag: RunDag, tmp_path: Path
) -> None:
    above = run_dag(one_task("cross_above"))
    root = ledger.runs()[f"cross_above · {above.run_id}"]
    config, summary = dict(root.config), dict(root.summary_metrics)

    below = [run_dag(one_task(dag_id), run_conf=cause(above, root)) for dag_id in ("cross_one", "cross_two")]

    runs = ledger.runs()
    started = [runs[f"{dag_run.dag_id} · {dag_run.run_id}"] for dag_run in below]
    for run in started:
        (source,) = run.config["airflow"]["triggered_by"]
        assert (source["run"], source["url"]) == ("/".join(root.path), root.url)
        assert TaskIdentity("cross_above", above.run_id, "").triggered_tag in run.tags
    root = runs[root.name]
    named = sorted(links(root, tmp_path), key=lambda link: link["dag_id"])
    assert [(link["run"], link["url"]) for link in named] == [
        ("/".join(run.path), run.url) for run in started
    ]
    assert named[0]["dag_run_id"] == below[0].run_id
    assert (dict(root.config), dict(root.summary_metrics)) == (config, summary)

    (tree,) = read_run_tree("cross_above", above.run_id)
    assert [child.name for child in tree.children] == ["work", started[0].name, started[1].name]
    assert [child.name for child in tree.children[1].children] == ["work"]


def test_a_conf_that_names_a_run_of_another_dag_run_gets_nothing_written_there(
    ledger: Ledger, run_dag: RunDag, tmp_path: Path
) -> None:
    victim = run_dag(one_task("cross_victim"))
    root = ledger.runs()[f"cross_victim · {victim.run_id}"]
    confs = [
        cause(victim, root, dag_run_id="another"),
        cause(victim, root, run="local/nowhere/nothing"),
        {TRIGGERED_BY: {"dag_id": "cross_victim"}},
    ]

    ended = [run_dag(one_task("cross_forger"), run_conf=conf) for conf in confs]

    assert {str(dag_run.state) for dag_run in ended} == {"success"}
    assert links(ledger.runs()[root.name], tmp_path) == []
