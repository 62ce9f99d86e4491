"""Which DAGs may keep all their tasks in one W&B run: decided from the DAG alone, when it is parsed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task, task_group

from wandb_airflow_provider import WandbPythonOperator, wandb_pipeline
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.hierarchy import find_pipeline
from wandb_airflow_provider.identity import TaskIdentity


@task.wandb
def work(item: int = 0, wandb_run: Any = None) -> int:
    return item


def step(task_id: str, **arguments: Any) -> Any:
    return work.override(task_id=task_id, **arguments)()


def plain(task_id: str, **arguments: Any) -> EmptyOperator:
    return EmptyOperator(task_id=task_id, **arguments)


def build(shape: Callable[[], object], **arguments: Any) -> DAG:
    with DAG("shape", schedule=None) as dag, wandb_pipeline(strategy="single", **arguments):
        shape()
    return dag


def chain() -> None:
    step("a") >> plain("between") >> step("b") >> step("c")


def after_branches_without_runs() -> None:
    step("a") >> [plain("left"), plain("right")] >> step("b", trigger_rule="none_failed")


def one_upstream_done() -> None:
    step("a") >> step("b", trigger_rule="one_done")


def one_of_two_that_both_wait() -> None:
    step("a") >> [plain("left"), plain("right")] >> step("b", trigger_rule="one_success")


def mapped_in_turn() -> None:
    work.override(task_id="a", max_active_tis_per_dagrun=1).expand(item=[1, 2])


@pytest.mark.parametrize(
    "shape",
    [chain, after_branches_without_runs, one_upstream_done, one_of_two_that_both_wait, mapped_in_turn],
)
def test_tasks_that_run_in_turn_share_the_run(shape: Callable[[], object]) -> None:
    dag = build(shape)
    settings = find_pipeline(dag)
    assert settings is not None
    assert settings.stages == {"a", "b", "c"} & set(dag.task_dict)


def side_by_side() -> None:
    [step("a"), step("b")]


def two_branches() -> None:
    plain("start") >> [step("a"), step("b")] >> plain("end")


def starts_always() -> None:
    step("a") >> step("b", trigger_rule="always")


def overtakes_through_a_failure() -> None:
    # When a fails, join is upstream_failed at once, and b starts while slow still works.
    first, slow, join = step("a"), step("slow", trigger_rule="all_done"), plain("join")
    first >> slow
    [first, slow] >> join
    join >> step("b", trigger_rule="all_done")


def either_of_two_different_ends() -> None:
    first, second = step("a"), step("b")
    first >> second
    [first, second] >> step("c", trigger_rule="one_done")


@pytest.mark.parametrize(
    ("shape", "pair"),
    [
        (side_by_side, ("a", "b")),
        (two_branches, ("a", "b")),
        (starts_always, ("a", "b")),
        (overtakes_through_a_failure, ("slow", "b")),
        (either_of_two_different_ends, ("b", "c")),
    ],
)
def test_tasks_that_could_write_at_the_same_time_are_refused_by_name(
    shape: Callable[[], object], pair: tuple[str, str]
) -> None:
    with pytest.raises(WandbConfigurationError) as refused:
        build(shape)
    message = str(refused.value)
    assert f"the tasks {pair[0]!r} and {pair[1]!r} could write to it at the same time" in message
    assert "strategy='nested'" in message
    assert "shared=True" in message


def mapped() -> None:
    work.override(task_id="a").expand(item=[1, 2])


def mapped_group() -> None:
    @task_group
    def each(item: int) -> None:
        work.override(task_id="a", max_active_tis_per_dagrun=1)(item)

    each.expand(item=[1, 2])


@pytest.mark.parametrize(("shape", "task_id"), [(mapped, "a"), (mapped_group, "each.a")])
def test_mapped_tasks_are_refused_by_the_names_of_two_instances(
    shape: Callable[[], object], task_id: str
) -> None:
    with pytest.raises(WandbConfigurationError) as refused:
        build(shape)
    assert f"'{task_id}[0]' and '{task_id}[1]'" in str(refused.value)
    assert ("max_active_tis_per_dagrun=1" in str(refused.value)) is (shape is mapped)


@pytest.mark.parametrize("shape", [side_by_side, mapped, mapped_group])
def test_shared_mode_lets_them_write_together(shape: Callable[[], object]) -> None:
    settings = find_pipeline(build(shape, shared=True))
    assert settings is not None
    assert settings.shared


def test_a_task_may_not_ask_for_what_only_a_run_of_its_own_has() -> None:
    with pytest.raises(WandbConfigurationError, match="task 'a' sets project='other'"):
        build(lambda: step("a", project="other"))
    with pytest.raises(WandbConfigurationError, match="task 'a' sets run_name='mine'"):
        build(
            lambda: WandbPythonOperator.partial(task_id="a", python_callable=print, run_name="mine").expand(
                op_args=[[1]]
            )
        )


def test_a_task_named_like_the_retry_of_another_is_refused() -> None:
    with pytest.raises(WandbConfigurationError, match="a retry of 'a' and those of the task 'a_try2'"):
        build(lambda: step("a") >> step("a_try2"))


def test_a_task_outside_the_pipeline_keeps_a_run_of_its_own() -> None:
    with DAG("shape", schedule=None) as dag:
        outside = step("outside")
        with wandb_pipeline(strategy="single"):
            inside = step("inside")
        outside >> inside
    settings = find_pipeline(dag)
    assert settings is not None
    assert settings.stages == {"inside"}


def test_the_pipeline_is_closed_only_after_each_task_that_writes_to_its_run() -> None:
    dag = build(chain)
    assert dag.task_dict["wandb_pipeline_close"].upstream_task_ids >= {"a", "b", "c"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "flat"}, "strategy is 'flat'; expected 'nested' or 'single'"),
        ({"shared": True}, "needs strategy='single'"),
    ],
)
def test_a_wrong_strategy_is_refused(arguments: dict[str, Any], message: str) -> None:
    with (
        DAG("shape", schedule=None),
        pytest.raises(WandbConfigurationError, match=message),
        wandb_pipeline(**arguments),
    ):
        pass


@pytest.mark.parametrize(
    ("identity", "new", "resumed"),
    [
        (TaskIdentity("d", "r", "train"), "train", "train"),
        (TaskIdentity("d", "r", "group.train", 3), "group/train/3", "group/train/3"),
        (TaskIdentity("d", "r", "train", -1, 2), "train_try2", "train"),
        (TaskIdentity("d", "r", "train", 0, 12), "train/0_try12", "train/0"),
    ],
)
def test_a_stage_is_named_by_its_task_its_index_and_its_try(
    identity: TaskIdentity, new: str, resumed: str
) -> None:
    assert (identity.stage(), identity.stage("resume")) == (new, resumed)
