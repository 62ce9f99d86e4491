"""
What importing the package adds to parsing a DAG file, each import in a process of its own.

Each process imports ``airflow.sdk`` first and then measures one further import alone, so that the seconds which
Airflow takes do not hide what is added. Processor time, which an import consists of nearly wholly: the clock would
measure how busy the machine is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from statistics import median

import wandb_airflow_provider
from benchmarks.figure import Figure, interleave, milliseconds

_TIMED = """
import time
{before}
began = time.process_time()
{measured}
print(time.process_time() - began)
"""
_AIRFLOW = "import airflow.sdk"
# Airflow loads these on first use, for any provider with a hook, a link, a gate, a sensor and an event trigger.
_BASES = """
from airflow.providers.common.compat.sdk import (
    BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator, SkipMixin
)
from airflow.triggers.base import BaseEventTrigger
"""
_NAMES = sorted(wandb_airflow_provider.__all__)
_PUBLIC = f"from wandb_airflow_provider import {', '.join(_NAMES)}"
# The one public name that needs Airflow's pydantic models of trigger events.
_TRIGGER = "WandbRegistryAliasTrigger"
_WITHOUT = f"from wandb_airflow_provider import {', '.join(name for name in _NAMES if name != _TRIGGER)}"
_CASES = {
    "import airflow.sdk": ("", _AIRFLOW),
    "added by all public names of the package": (_AIRFLOW, _PUBLIC),
    f"added by them without {_TRIGGER}": (_AIRFLOW, _WITHOUT),
    "of it, Airflow's own base classes": (_AIRFLOW, _BASES),
    "of it, the package, after those": (f"{_AIRFLOW}\n{_BASES}", _PUBLIC),
    "added by wandb": (_AIRFLOW, "import wandb"),
}
_BARS = {"added by all public names of the package": 30.0}


def measure(rounds: int) -> list[Figure]:
    """Return the time of each import, and what the package adds as a part of what wandb adds."""
    with tempfile.TemporaryDirectory() as home:
        environment = {
            # Without compiled files, each import would pay for the compiler.
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "WANDB_CONFIG_DIR": home,
        }
        cases = {name: partial(_import, *statements, environment) for name, statements in _CASES.items()}
        seconds = interleave(cases, rounds)
    package = median(seconds["added by all public names of the package"])
    return [
        *(milliseconds(name, values, bar=_BARS.get(name)) for name, values in seconds.items()),
        Figure("package / wandb, of what each adds", package / median(seconds["added by wandb"]), "x"),
    ]


def _import(before: str, measured: str, environment: dict[str, str]) -> float:
    command = [sys.executable, "-c", _TIMED.format(before=before, measured=measured)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])
