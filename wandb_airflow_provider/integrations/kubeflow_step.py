"""``python -m``: one step of a Kubeflow pipeline, its command run as a process, with a run of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence

from wandb_airflow_provider.integrations import process_sdk
from wandb_airflow_provider.integrations.step_run import StepRun, step_log
from wandb_airflow_provider.process_context import context_of

__all__ = ["main"]

_ITERATION = re.compile(r"-iteration-(\d+)")


def main(arguments: Sequence[str]) -> int:
    """
    Run a step's command, and return its exit code.

    :param arguments: The name of the step, the name of the pipeline's job with its loops, the names of the steps
        before it with commas, and the command.
    """
    task, job, before, *command = arguments
    context = context_of(os.environ)
    if context is None:
        return _run(command)
    log = step_log()
    indexes = "".join(f"[{index}]" for index in _ITERATION.findall(job))
    run = StepRun(
        context,
        key=job,
        task=task,
        name=f"{task}{indexes}",
        config={"kubeflow": {"task": task, "job": job}},
        upstream=log.paths_of(before.split(",")) if log is not None else (),
    )
    run.begin()
    # The step would share wandb's helper process, and leave a run open in it when it dies.
    process_sdk.release()
    code = _run(command)
    run.end(None if code == 0 else _reason(code))
    return code


def _run(command: Sequence[str]) -> int:
    code = subprocess.run(command, check=False).returncode
    return code if code >= 0 else 128 - code


def _reason(code: int) -> str:
    if code - 128 in signal.valid_signals():
        return f"The step was ended by signal {signal.Signals(code - 128).name}."
    return f"The step ended with exit code {code}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
