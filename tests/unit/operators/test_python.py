"""Functions as tasks: how the run, the arguments and Airflow's context reach them."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG, task

from wandb_airflow_provider import WandbPythonOperator
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.operators.python import RUN_PARAMETER, call_with_run, without_run_parameter


def run_first(wandb_run: Any, a: int, b: int = 2, *, c: int = 3) -> list[Any]:
    return [wandb_run, a, b, c]


def run_between(a: int, wandb_run: Any, b: int = 2, *, c: int = 3) -> list[Any]:
    return [wandb_run, a, b, c]


def run_last(a: int, b: int = 2, wandb_run: Any = None, *, c: int = 3) -> list[Any]:
    return [wandb_run, a, b, c]


def run_by_keyword(a: int, b: int = 2, *, wandb_run: Any, c: int = 3) -> list[Any]:
    return [wandb_run, a, b, c]


def run_before_the_rest(a: int, wandb_run: Any, b: int = 2, **more: int) -> list[Any]:
    return [wandb_run, a, b, more.get("c", 3)]


EVERYWHERE = [run_first, run_between, run_last, run_by_keyword, run_before_the_rest]


@pytest.mark.parametrize("function", EVERYWHERE)
@pytest.mark.parametrize(
    ("args", "kwargs", "values"),
    [
        ((1,), {}, [1, 2, 3]),
        ((1, 5), {}, [1, 5, 3]),
        ((1,), {"b": 5}, [1, 5, 3]),
        ((), {"a": 1, "b": 5, "c": 6}, [1, 5, 6]),
        ((1,), {"c": 6}, [1, 2, 6]),
    ],
)
def test_the_run_reaches_its_parameter_wherever_that_stands(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], values: list[Any]
) -> None:
    assert call_with_run(function, "the run", args, kwargs) == ["the run", *values]


def test_variable_arguments_stay_where_they_were() -> None:
    def function(wandb_run: Any, *args: int, **kwargs: int) -> list[Any]:
        return [wandb_run, args, kwargs]

    assert call_with_run(function, "the run", (1, 2), {"c": 3}) == ["the run", (1, 2), {"c": 3}]


def test_a_function_without_the_parameter_is_called_as_it_is() -> None:
    def function(a: int) -> int:
        return a

    assert without_run_parameter(function) is function
    assert call_with_run(function, "the run", (1,), {}) == 1


def test_a_dag_author_sees_the_function_without_the_run() -> None:
    assert RUN_PARAMETER not in inspect.signature(without_run_parameter(run_between)).parameters


@pytest.fixture
def run_operator(hook: WandbHook, run_task: Callable[..., Any]) -> Callable[..., Any]:
    def run(function: Callable[..., Any], **arguments: Any) -> Any:
        with DAG("python", schedule=None):
            operator = WandbPythonOperator(task_id="work", python_callable=function, **arguments)
        return run_task(operator)

    return run


def test_the_operator_passes_rendered_arguments_the_context_and_the_run(
    run_operator: Callable[..., Any], hook: WandbHook
) -> None:
    def work(first: str, wandb_run: Any, ds: str, ti: Any, *, lr: str, **context: Any) -> list[Any]:
        wandb_run.log({"loss": 0.5})
        return [first, ds, ti.task_id, lr, wandb_run.id, context["run_id"]]

    finished = run_operator(work, op_args=["{{ dag.dag_id }}"], op_kwargs={"lr": "{{ 1 / 4 }}"})
    ref = RunRef.from_json(finished.xcom("wandb_run"))
    assert finished.xcom() == ["python", "2026-03-01", "work", "0.25", ref.wandb_run_id, "manual__1"]
    assert hook.get_run(ref).summary["loss"] == 0.5


def test_a_coroutine_function_is_run_to_its_end(run_operator: Callable[..., Any]) -> None:
    async def work(wandb_run: Any) -> str:
        await asyncio.sleep(0)
        wandb_run.log({"loss": 0.5})
        return "awaited"

    assert run_operator(work).xcom() == "awaited"


def test_what_describes_the_run_may_be_templated(run_operator: Callable[..., Any], hook: WandbHook) -> None:
    finished = run_operator(
        lambda: None,
        project=f"{hook.project}-templated",
        job_type="train-{{ ds }}",
        run_name="{{ dag.dag_id }} by hand",
        tags=["{{ run_id }}", "t" * 100],
        wandb_config={"lr": "{{ 1 + 1 }}"},
    )
    record = hook.get_run(RunRef.from_json(finished.xcom("wandb_run")))
    assert record.ref.project == f"{hook.project}-templated"
    assert (record.job_type, record.name) == ("train-2026-03-01", "python by hand")
    assert {"python", "manual__1"} < set(record.tags)
    assert max(map(len, record.tags)) <= 64
    assert record.config["lr"] == "2"
    assert record.config["airflow"]["operator"] == "WandbPythonOperator"


@pytest.fixture
def run_decorated(hook: WandbHook, run_task: Callable[..., Any]) -> Callable[..., Any]:
    """``run_decorated(function, *args, **kwargs)`` calls a decorated function in a DAG and runs its task."""

    def run(function: Any, *args: Any, **kwargs: Any) -> Any:
        with DAG("decorated", schedule=None):
            called = function(*args, **kwargs)
        return run_task(called.operator)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("function", [run_first, run_between, run_last, run_by_keyword])
def test_a_decorated_function_gets_its_run_and_its_arguments(
    run_decorated: Callable[..., Any], function: Callable[..., Any]
) -> None:
    @functools.wraps(function)
    def work(*args: Any, **kwargs: Any) -> list[Any]:
        run, *values = function(*args, **kwargs)
        return [run.id, *values]

    finished = run_decorated(task.wandb(work), 1, c="{{ run_id }}")
    assert finished.state == "success"
    ref = RunRef.from_json(finished.xcom("wandb_run"))
    assert finished.xcom() == [ref.wandb_run_id, 1, 2, "manual__1"]


def test_a_decorated_function_may_name_context_keys_and_need_no_run(
    run_decorated: Callable[..., Any],
) -> None:
    @task.wandb
    def work(a: int, ti: Any = None, ds: str | None = None) -> list[Any]:
        return [a, ti.task_id, ds]

    finished = run_decorated(work, a=1)
    assert finished.xcom() == [1, "work", "2026-03-01"]
    assert RunRef.from_json(finished.xcom("wandb_run")).wandb_run_id.startswith("work-")


def test_several_outputs_become_several_xcoms(run_decorated: Callable[..., Any]) -> None:
    @task.wandb(multiple_outputs=True)
    def work(wandb_run: Any) -> dict[str, Any]:
        return {"loss": 0.5, "id": wandb_run.id}

    finished = run_decorated(work)
    assert finished.xcom("loss") == 0.5
    assert finished.xcom("id") == RunRef.from_json(finished.xcom("wandb_run")).wandb_run_id


def test_several_outputs_are_inferred_from_the_annotation(run_decorated: Callable[..., Any]) -> None:
    @task.wandb
    def work(wandb_run: Any) -> dict[str, float]:
        return {"loss": 0.5}

    assert run_decorated(work).xcom("loss") == 0.5


def test_a_decorated_coroutine_function_is_awaited(run_decorated: Callable[..., Any]) -> None:
    @task.wandb
    async def work(a: int, wandb_run: Any) -> int:
        return a + 1

    assert run_decorated(work, 1).xcom() == 2


def test_a_missing_or_unknown_argument_is_found_when_the_dag_is_parsed() -> None:
    with DAG("decorated", schedule=None):
        with pytest.raises(TypeError, match="'a'"):
            task.wandb(run_between)()
        with pytest.raises(TypeError, match="'d'"):
            task.wandb(run_between)(1, d=4)
