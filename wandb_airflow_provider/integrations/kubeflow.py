"""``@wandb_flow``: a Kubeflow pipeline that an Airflow task runs locally, and each of its steps, as runs below it."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from wandb_airflow_provider.integrations.flow_run import flow_run, in_flow
from wandb_airflow_provider.process_context import context_of

try:
    from kfp import components, dsl
except ImportError as error:
    raise ImportError(
        "wandb_airflow_provider.integrations.kubeflow needs kfp 2.13 or newer where the pipeline is started: "
        "pip install 'wandb-airflow-provider[kubeflow]'"
    ) from error

__all__ = ["wandb_flow"]

_STEP_MODULE = "wandb_airflow_provider.integrations.kubeflow_step"


def wandb_flow(pipeline: Any) -> Callable[..., Any]:
    """
    Give a pipeline a run below the task that started it, and each of its steps a run below the pipeline's.

    Decorates what ``@dsl.pipeline`` made, above it; the components need no change. Called, it runs the pipeline with
    the local runner that ``kfp.local.init`` chose, which must be ``SubprocessRunner(use_venv=False)``.
    ``wandb.init()`` in a component opens the step's run; a step that does not call it has one too. A step's run has
    the outcome of its process, the pipeline's has failed when a step has, also with ``raise_on_error=False``. Started
    elsewhere than by an Airflow task, the pipeline is as without the decorator. What goes wrong with W&B is a
    warning, and never fails the pipeline.

    :return: A function of the pipeline's parameters, by keyword. Its attribute ``__wrapped__`` is the pipeline, for
        a compiler or a client.
    """

    @functools.wraps(pipeline.pipeline_func)
    def run(**arguments: Any) -> Any:
        has_runs = context_of(os.environ) is not None and not in_flow()
        with flow_run(pipeline.name, {"kubeflow": {"pipeline": pipeline.name}}, lenient=True):
            return (_with_runs(pipeline) if has_runs else pipeline)(**arguments)

    run.__wrapped__ = pipeline
    return run


def _with_runs(pipeline: Any) -> Any:
    """Return the pipeline with each step started by the module that gives it a run."""
    from google.protobuf import json_format

    spec = json_format.MessageToDict(pipeline.pipeline_spec)
    upstream = dict(_upstream_of_executors(spec))
    for label, executor in spec["deploymentSpec"]["executors"].items():
        if "container" in executor:
            # The local runner puts its own interpreter in place of `python3`.
            start = [
                "python3",
                "-m",
                _STEP_MODULE,
                dsl.PIPELINE_TASK_NAME_PLACEHOLDER,
                dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
                ",".join(upstream.get(label, ())),
            ]
            executor["container"]["command"] = [*start, *executor["container"]["command"]]
    return components.load_component_from_text(json.dumps(spec))


def _upstream_of_executors(spec: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the executors of all steps, nested ones too, with the steps that each waits for."""
    for graph in (spec["root"], *spec.get("components", {}).values()):
        for task in graph.get("dag", {}).get("tasks", {}).values():
            component = spec["components"][task["componentRef"]["name"]]
            if "executorLabel" in component:
                yield component["executorLabel"], task.get("dependentTasks", [])
