"""Run a Python callable inside a W&B run."""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from wandb_airflow_provider.operators.base import WandbBaseOperator

if TYPE_CHECKING:
    import wandb
    from airflow.sdk import Context

__all__ = ["RUN_PARAMETER", "WandbPythonOperator", "without_run_parameter"]

RUN_PARAMETER = "wandb_run"
"""Parameter of a user's function that receives the open ``wandb.Run``."""


class WandbPythonOperator(WandbBaseOperator):
    """
    Call a Python function inside a W&B run of its own.

    A parameter named ``wandb_run`` receives the open ``wandb.Run``; parameters named like Airflow's context
    keys receive those. The function's return value lands in XCom as with ``PythonOperator``.

    :param python_callable: The function; a coroutine function is run to its end.
    :param op_args: Positional arguments. (templated)
    :param op_kwargs: Keyword arguments. (templated)
    """

    # Logs at the speed of the user's training; guarded when a redaction policy asks for it.
    runs_user_code: ClassVar[bool] = True
    template_fields: Sequence[str] = (*WandbBaseOperator.template_fields, "op_args", "op_kwargs")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **WandbBaseOperator.template_fields_renderers,
        "op_args": "py",
        "op_kwargs": "py",
    }
    shallow_copy_attrs: Sequence[str] = ("python_callable",)

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.python_callable = python_callable
        self.op_args = op_args or ()
        self.op_kwargs = op_kwargs or {}

    def execute_in_run(self, context: Context, wandb_run: wandb.Run) -> Any:
        """Call the function with its arguments, the run and the context keys that it names."""
        from airflow.providers.common.compat.sdk import context_merge, determine_kwargs

        context_merge(context, self.op_kwargs)
        function = without_run_parameter(self.python_callable)
        kwargs = determine_kwargs(function, self.op_args, context)
        result = call_with_run(self.python_callable, wandb_run, self.op_args, kwargs)
        return asyncio.run(result) if inspect.iscoroutine(result) else result


def without_run_parameter(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Return the function as a DAG author calls it: without its ``wandb_run`` parameter.

    Airflow binds a task's arguments when the DAG is parsed, long before there is a run to pass.
    """
    signature = inspect.signature(function)
    if RUN_PARAMETER not in signature.parameters:
        return function
    visible = [p for name, p in signature.parameters.items() if name != RUN_PARAMETER]

    def called_by_author(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    called_by_author.__signature__ = signature.replace(parameters=visible)  # type: ignore[attr-defined]
    return called_by_author


def call_with_run(
    function: Callable[..., Any], wandb_run: wandb.Run, args: Collection[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Call the function with the run in the place of its ``wandb_run`` parameter, wherever that stands."""
    signature = inspect.signature(function)
    if RUN_PARAMETER not in signature.parameters:
        return function(*args, **kwargs)
    visible = inspect.signature(without_run_parameter(function)).bind(*args, **kwargs)
    # Passed positionally up to the first gap, so every parameter before the run must have its value.
    visible.apply_defaults()
    bound = inspect.BoundArguments(signature, OrderedDict(visible.arguments, **{RUN_PARAMETER: wandb_run}))
    return function(*bound.args, **bound.kwargs)
