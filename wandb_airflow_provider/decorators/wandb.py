"""``@task.wandb``: a Python function as a task inside a W&B run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import DecoratedOperator, task_decorator_factory

from wandb_airflow_provider.operators.python import WandbPythonOperator, without_run_parameter

if TYPE_CHECKING:
    from airflow.sdk.bases.decorator import TaskDecorator

__all__ = ["wandb_task"]


class _WandbDecoratedOperator(DecoratedOperator, WandbPythonOperator):
    """
    The task behind ``@task.wandb``.

    Airflow binds the arguments of a decorated function when the DAG is parsed. The function is shown to it
    without ``wandb_run``, and called with it when the task runs.
    """

    custom_operator_name = "@task.wandb"
    template_fields: Sequence[str] = WandbPythonOperator.template_fields
    template_fields_renderers: ClassVar[dict[str, str]] = WandbPythonOperator.template_fields_renderers

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        arguments: dict[str, Any] = {"op_args": op_args, "op_kwargs": op_kwargs}
        super().__init__(
            python_callable=without_run_parameter(python_callable),
            kwargs_to_upstream={"python_callable": python_callable, **arguments},
            **arguments,
            **kwargs,
        )
        self.python_callable = python_callable


def wandb_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """
    Turn a function into a task that runs inside a W&B run of its own.

    A parameter named ``wandb_run`` receives the open ``wandb.Run``; do not pass it when calling the task.

    :param python_callable: The function to decorate.
    :param multiple_outputs: Unroll a returned dict into one XCom per key.
    :param kwargs: Arguments of :class:`~wandb_airflow_provider.operators.python.WandbPythonOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_WandbDecoratedOperator,
        **kwargs,
    )
