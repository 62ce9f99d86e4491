"""``@wandb_flow``: a Metaflow flow that an Airflow task starts, and each of its steps, as runs below that task."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Generator
from typing import Any, TypeVar

from wandb_airflow_provider.integrations.flow_run import flow_run
from wandb_airflow_provider.integrations.step_run import StepRun
from wandb_airflow_provider.process_context import context_of

try:
    from metaflow import FlowMutator, current, user_step_decorator
except ImportError as error:
    raise ImportError(
        "wandb_airflow_provider.integrations.metaflow needs Metaflow 2.16 or newer where the flow runs: "
        "pip install 'wandb-airflow-provider[metaflow]'"
    ) from error

__all__ = ["wandb_flow", "wandb_step"]

_Flow = TypeVar("_Flow", bound=type)
_RUN_ARTIFACT = "wandb_run"
_RUNNING_COMMANDS = frozenset({"run", "resume"})


def wandb_flow(flow: _Flow) -> _Flow:
    """
    Give a flow a run below the task that started it, and each attempt of each step a run below the flow's.

    Decorates the class. ``wandb.init()`` in a step opens the step's run; a step that does not call it has one too.
    A step's run has the outcome of the step, the flow's that of ``python flow.py run`` or ``resume``, and a step that
    died is closed as failed. Started elsewhere than by an Airflow task, the flow is as without the decorator. What
    goes wrong with W&B is a warning, and never fails the flow.

    Each step keeps its run's ``entity/project/run_id`` as the artifact ``wandb_run``.
    """
    flow = _EveryStep()(flow)
    construct = flow.__init__  # type: ignore[misc]

    @functools.wraps(construct)
    def construct_in_run(self: Any, use_cli: bool = True) -> None:
        if not use_cli or _RUNNING_COMMANDS.isdisjoint(sys.argv[1:]):
            construct(self, use_cli)
            return
        with flow_run(flow.__name__, {"metaflow": {"flow": flow.__name__}}):
            construct(self, use_cli)

    flow.__init__ = construct_in_run  # type: ignore[misc]
    return flow


@user_step_decorator  # type: ignore[untyped-decorator]
def wandb_step(step_name: str, flow: Any, inputs: Any) -> Generator[None, None, None]:
    """Give one step a run; :func:`wandb_flow` applies it to all."""
    run = _run_of(step_name, flow, inputs)
    if run is None:
        yield
        return
    run.begin()
    setattr(flow, _RUN_ARTIFACT, run.path)
    try:
        yield
    except Exception as error:
        run.end(type(error).__name__)
        raise
    run.end()


class _EveryStep(FlowMutator):  # type: ignore[misc]
    def pre_mutate(self, mutable_flow: Any) -> None:
        for _, step in mutable_flow.steps:
            step.add_decorator(wandb_step, duplicates=step.IGNORE)


def _run_of(step_name: str, flow: Any, inputs: Any) -> StepRun | None:
    context = context_of(os.environ)
    if context is None:
        return None
    attempt = current.retry_count
    indexes = "".join(f"[{frame[0]}]" for frame in flow.foreach_stack() or [])
    return StepRun(
        context,
        key=f"{current.pathspec}/{attempt}",
        task=step_name,
        name=f"{step_name}{indexes}" + (f" · try {attempt + 1}" if attempt else ""),
        config={
            "metaflow": {
                "flow": current.flow_name,
                "run_id": current.run_id,
                "step": step_name,
                "task_id": current.task_id,
                "retry_count": attempt,
                "origin_run_id": current.origin_run_id,
            }
        },
        upstream=_upstream(flow, inputs),
        previous=f"{current.pathspec}/{attempt - 1}" if attempt else None,
    )


def _upstream(flow: Any, inputs: Any) -> list[str]:
    """Return the runs of the steps before, which left them as artifacts."""
    found = [getattr(before, _RUN_ARTIFACT, None) for before in (inputs if inputs is not None else [flow])]
    return [path for path in found if isinstance(path, str) and path.count("/") == 2]
