"""A task's place among the runs of its DAG, read off the DAG alone."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, task, task_group

from wandb_airflow_provider import wandb_pipeline
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.hierarchy import (
    Upstream,
    find_pipeline,
    nearest_runs,
    opens_run,
    runs_from_xcom,
    upstream_run_tasks,
)
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.provenance import TRIGGERED_BY


@task.wandb
def work(item: int = 0, wandb_run: Any = None) -> int:
    return item


def upstream_of(dag: DAG, task_id: str) -> list[str]:
    return [found.task_id for found in upstream_run_tasks(dag.task_dict[task_id])]


def test_tasks_without_a_run_are_looked_through() -> None:
    with DAG("chain", schedule=None) as dag:
        first = work.override(task_id="first")()
        last = work.override(task_id="last")()
        first >> EmptyOperator(task_id="one") >> EmptyOperator(task_id="two") >> last
    assert upstream_of(dag, "last") == ["first"]
    assert upstream_of(dag, "first") == []


def test_only_the_nearest_runs_precede_a_task() -> None:
    with DAG("diamond", schedule=None) as dag:
        a, b, c, d = (work.override(task_id=name)() for name in "abcd")
        a >> [b, c] >> d
        a >> d
    assert upstream_of(dag, "d") == ["a", "b", "c"]
    assert upstream_of(dag, "b") == ["a"]


def test_a_mapped_task_opens_runs_and_its_follower_comes_after_all_of_them() -> None:
    with DAG("mapped", schedule=None) as dag:
        mapped = work.override(task_id="mapped").expand(item=[1, 2])
        mapped >> work.override(task_id="after")()
    assert opens_run(dag.task_dict["mapped"])
    assert upstream_run_tasks(dag.task_dict["after"]) == [Upstream("mapped", same_map_index=False)]


def test_inside_a_mapped_group_only_the_same_index_precedes() -> None:
    with DAG("group", schedule=None) as dag:

        @task_group
        def each(item: int) -> None:
            work.override(task_id="second")(work.override(task_id="first")(item))

        each.expand(item=[1, 2]) >> work.override(task_id="after")()
    assert upstream_run_tasks(dag.task_dict["each.second"]) == [Upstream("each.first", same_map_index=True)]
    assert upstream_run_tasks(dag.task_dict["after"]) == [Upstream("each.second", same_map_index=False)]


def test_holes_of_skipped_tasks_are_no_runs() -> None:
    ref = RunRef("e", "p", "r")
    assert list(runs_from_xcom([None, ref.to_json(), None])) == [ref]
    assert list(runs_from_xcom(ref.to_json())) == [ref]
    assert list(runs_from_xcom(None)) == []


def test_the_pipeline_surrounds_the_tasks_defined_inside_it() -> None:
    with DAG("surrounded", schedule=None) as dag:
        outside = work.override(task_id="outside")()
        with wandb_pipeline(project="churn", tags=["a"], config={"lr": 1}) as settings:
            first, last = (work.override(task_id=name)() for name in ("first", "last"))
            first >> last
        outside >> first
    assert find_pipeline(dag) == settings
    opening, closing = dag.task_dict["wandb_pipeline_open"], dag.task_dict["wandb_pipeline_close"]
    assert (opening.is_setup, closing.is_teardown) == (True, True)
    assert opening.downstream_task_ids == {"first", "wandb_pipeline_close"}
    assert closing.upstream_task_ids == {"last", "wandb_pipeline_open"}
    assert upstream_of(dag, "first") == ["outside"]


def test_a_dag_without_a_pipeline_has_none() -> None:
    with DAG("bare", schedule=None) as dag:
        work()
    assert find_pipeline(dag) is None


def test_a_pipeline_outside_a_dag_is_refused() -> None:
    with pytest.raises(WandbConfigurationError, match="must be used inside a DAG"), wandb_pipeline():
        pass


def test_a_second_pipeline_is_refused() -> None:
    with (
        DAG("twice", schedule=None),
        wandb_pipeline(),
        pytest.raises(WandbConfigurationError, match="'twice' has a wandb_pipeline already"),
        wandb_pipeline(),
    ):
        pass


def test_a_wrong_retry_policy_is_refused() -> None:
    with (
        DAG("wrong", schedule=None),
        pytest.raises(WandbConfigurationError, match="wandb_retries is 'again'"),
        wandb_pipeline(wandb_retries="again"),  # type: ignore[arg-type]
    ):
        pass


def test_a_triggered_dag_learns_where_it_comes_from_beside_the_author_s_conf() -> None:
    conf = {"rows": 3}
    with DAG("parent", schedule=None), wandb_pipeline():
        trigger = TriggerDagRunOperator(task_id="trigger", trigger_dag_id="child", conf=conf)
    assert trigger.conf["rows"] == 3
    assert set(trigger.conf[TRIGGERED_BY]) == {"dag_id", "dag_run_id", "task_id", "run", "url"}
    assert conf == {"rows": 3}


def test_nearest_runs_are_asked_for_task_by_task_up_to_a_bound() -> None:
    with DAG("wide", schedule=None):
        last = EmptyOperator(task_id="last")
        middle = EmptyOperator(task_id="middle")
        [EmptyOperator(task_id=f"far_{number:02}") for number in range(60)] >> middle >> last
    asked: list[str] = []
    ref = RunRef("e", "p", "r")

    def runs_of(upstream: Upstream) -> list[RunRef]:
        asked.append(upstream.task_id)
        return [ref] if upstream.task_id == "far_03" else []

    assert nearest_runs(last, runs_of) == [ref]
    assert asked[:3] == ["middle", "far_00", "far_01"]
    assert len(asked) == 50


def test_a_skipped_task_that_would_have_opened_a_run_is_not_looked_through() -> None:
    with DAG("branches", schedule=None) as dag:
        start, taken, skipped, join = (
            work.override(task_id=name)() for name in ("start", "taken", "skipped", "join")
        )
        start >> EmptyOperator(task_id="branch") >> [taken, skipped] >> join
    runs = {"start": [RunRef("e", "p", "start")], "taken": [RunRef("e", "p", "taken")]}

    found = nearest_runs(dag.task_dict["join"], lambda upstream: runs.get(upstream.task_id, []))

    assert found == runs["taken"]
