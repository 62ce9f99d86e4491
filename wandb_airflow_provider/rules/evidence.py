"""What rules are judged on: figures, histories and tables of runs, as W&B has them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import fsum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from wandb_airflow_provider.record import Record
from wandb_airflow_provider.rules.bounds import is_finite

__all__ = [
    "EVALUATED",
    "HOLDER",
    "VERDICT_PREFIX",
    "Demand",
    "Evidence",
    "Fault",
    "Figure",
    "RunEvidence",
    "TableData",
    "describe_fault",
    "last_good_subject",
    "look_up",
    "mean",
    "measure",
    "median",
    "run_subject",
]

HOLDER = "holder"
"""The subject that is the run which evaluated the current holder of the alias."""
VERDICT_PREFIX = "gate"
"""First part of the keys under which runs keep a verdict."""
EVALUATED = "run"
"""The subject that is the evaluated run."""

Fault: TypeAlias = Literal["missing", "not_finite", "wrong_type", "too_few"]

_ABSENT = object()
_NOTHING: Mapping[str, Any] = MappingProxyType({})
# W&B stores a NaN or an infinity as this text, because JSON has no such numbers.
_NOT_FINITE_TEXT = frozenset({"nan", "infinity", "-infinity", "inf", "-inf"})


class Demand(Record):
    """
    One thing that a rule has to see.

    :param subject: Whose: ``run``, ``holder``, ``run:entity/project/id`` or ``last_good:n``.
    :param key: Which history or table; empty for the summary.
    """

    subject: str
    part: Literal["summary", "history", "table"]
    key: str = ""


class TableData(Record):
    """A table that a run logged."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def column(self, name: str) -> list[Any] | None:
        """Return the cells of a column, or None when there is none of that name."""
        if name not in self.columns:
            return None
        index = self.columns.index(name)
        return [row[index] for row in self.rows]


class RunEvidence(Record):
    """
    What was read of one run.

    :param summary: As W&B has stored it.
    :param history: By metric: pairs of step and value, in the order of the steps.
    :param ended_at: When W&B last heard of the run.
    :param path: ``entity/project/run_id``.
    """

    summary: Mapping[str, Any]
    history: Mapping[str, Sequence[tuple[float, Any]]] = _NOTHING
    tables: Mapping[str, TableData] = _NOTHING
    ended_at: datetime | None = None
    path: str | None = None


class Evidence(Record):
    """
    Everything that a verdict rests on.

    :param baselines: By subject: the runs compared with. None says that there is no such baseline (nothing holds
        the alias, no run was good yet); an empty tuple that there is one, and its figures could not be found.
    """

    run: RunEvidence
    evaluated_at: datetime
    baselines: Mapping[str, tuple[RunEvidence, ...] | None] = _NOTHING

    @property
    def has_holder(self) -> bool:
        """Whether something holds the alias compared with."""
        return self.baselines.get(HOLDER) is not None


class Figure(NamedTuple):
    """
    A finite number, or None and what is wrong.

    :param fault: Means nothing beside a number.
    :param found: What was there instead.
    :param samples: On how many values it rests, where that is known.
    """

    value: float | None
    fault: Fault = "missing"
    found: Any = None
    samples: int | None = None


def run_subject(path: str) -> str:
    """Return the subject that is a run by its path."""
    return f"run:{path}"


def last_good_subject(count: int) -> str:
    """Return the subject that is the last runs whose verdict was good."""
    return f"last_good:{count}"


def look_up(metrics: Mapping[str, Any], name: str) -> Any:
    """
    Return the figure under this name, or a marker that :func:`measure` takes for missing.

    A key that equals the name wins; otherwise a dot may lead into a nested value, because W&B keeps a metric
    defined with ``summary="max"`` as ``{"max": ...}``.
    """
    if name in metrics:
        return metrics[name]
    for at, character in enumerate(name):
        if character == "." and isinstance(inner := metrics.get(name[:at]), Mapping):
            found = look_up(inner, name[at + 1 :])
            if found is not _ABSENT:
                return found
    return _ABSENT


def measure(found: Any, *, truths: bool = False) -> Figure:
    """
    Return a finite number, or what is wrong.

    :param truths: Take true and false for 1 and 0, as a column of hits is meant.
    """
    if found is _ABSENT or found is None:
        return Figure(None, "missing")
    if isinstance(found, str) and found.strip().lower() in _NOT_FINITE_TEXT:
        return Figure(None, "not_finite", found)
    if (isinstance(found, bool) and not truths) or not isinstance(found, int | float):
        return Figure(None, "wrong_type", found)
    return Figure(float(found)) if is_finite(found) else Figure(None, "not_finite", found)


def mean(values: Sequence[float]) -> float:
    """Return the mean of finite numbers, also where their sum is beyond the range of one."""
    try:
        return fsum(values) / len(values)
    except OverflowError:
        return fsum(value / len(values) for value in values)


def median(values: Sequence[float]) -> float:
    """Return the median. Not by ``statistics``, whose import costs every parse of a DAG file some milliseconds."""
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(ordered) % 2 else mean(ordered[middle - 1 : middle + 1])


def describe_fault(figure: Figure) -> str:
    """Return what is wrong with a figure, as the end of a sentence about it."""
    if figure.fault == "missing":
        return "is missing"
    if figure.fault == "too_few":
        return f"rests on {figure.samples} values, {figure.found} are needed"
    text = repr(figure.found)
    shown = text if len(text) <= 100 else f"{text[:100]}…"
    return f"is not a finite number: {shown}" if figure.fault == "not_finite" else f"is not a number: {shown}"
