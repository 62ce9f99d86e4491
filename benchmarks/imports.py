"""
What importing the package adds to parsing a DAG file, each import in a process of its own.

Each process imports ``airflow.sdk`` first and then measures one further import alone, so that the seconds which
Airflow takes do not hide what is added. Processor time, which an import consists of nearly wholly: the clock would
measure how busy the machine is.

A processor's speed may change by half within a minute. So a process runs one fixed loop before the import and after it,
and the third of the rounds counts in which these loops were fastest. They know nothing of the import.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from statistics import median
from typing import NamedTuple

import wandb_airflow_provider
from benchmarks.figure import Figure, milliseconds, repeat

_TIMED = """
import time
def loop():
    began, total = time.process_time(), 0
    for number in range(200_000):
        total += number
    return time.process_time() - began
{before}
loops = loop()
began = time.process_time()
{measured}
taken = time.process_time() - began
print(taken, loops + loop())
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
_ALL = "added by all public names of the package"
_CASES = {
    "import airflow.sdk": ("", _AIRFLOW),
    _ALL: (_AIRFLOW, _PUBLIC),
    f"added by them without {_TRIGGER}": (_AIRFLOW, _WITHOUT),
    "of it, Airflow's own base classes": (_AIRFLOW, _BASES),
    "of it, the package, after those": (f"{_AIRFLOW}\n{_BASES}", _PUBLIC),
    "added by wandb": (_AIRFLOW, "import wandb"),
}
_BARS = {_ALL: 30.0}


class Sample(NamedTuple):
    """
    :param seconds: Of the import.
    :param loops: Seconds of the fixed loops around it: how fast the processor was just then.
    """

    seconds: float
    loops: float


def measure(rounds: int) -> list[Figure]:
    """
    Return the time of each import, and what the package adds as a part of what wandb adds; for the import with a bar
    also its time in all rounds, and how much slower the loops were in those.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = {
            # Without compiled files, each import would pay for the compiler.
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "WANDB_CONFIG_DIR": home,
        }
        cases = {name: partial(_import, *statements, environment) for name, statements in _CASES.items()}
        samples = repeat(lambda: {name: sample() for name, sample in cases.items()}, rounds)
    kept = {name: fastest(found) for name, found in samples.items()}
    seconds = {name: [sample.seconds for sample in found] for name, found in kept.items()}
    return [
        *(milliseconds(name, values, bar=_BARS.get(name)) for name, values in seconds.items()),
        milliseconds(f"{_ALL}, all rounds", [sample.seconds for sample in samples[_ALL]]),
        Figure("loops, all rounds / those that count", _loops(samples[_ALL]) / _loops(kept[_ALL]), "x"),
        Figure(
            "package / wandb, of what each adds",
            median(seconds[_ALL]) / median(seconds["added by wandb"]),
            "x",
        ),
    ]


def fastest(samples: list[Sample]) -> list[Sample]:
    """Return the third, rounded up, that was taken while the processor was fastest."""
    return sorted(samples, key=lambda sample: sample.loops)[: -(-len(samples) // 3)]


def _loops(samples: list[Sample]) -> float:
    return median(sample.loops for sample in samples)


def _import(before: str, measured: str, environment: dict[str, str]) -> Sample:
    command = [sys.executable, "-c", _TIMED.format(before=before, measured=measured)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, loops = done.stdout.split()[-2:]
    return Sample(float(seconds), float(loops))
