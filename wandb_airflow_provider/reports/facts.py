"""What a report on a candidate rests on, as it was read from W&B. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wandb_airflow_provider.rules import Verdict

__all__ = ["Dataset", "QueryTable", "ReportFacts", "RunFacts", "costs", "flat", "loss_metrics"]

_COST = re.compile(
    r"(?:.*[_.-])?(?:costs?|usd|eur|tokens|dollars|gpu[_-]?hours|cpu[_-]?hours|kwh|energy|co2\w*)(?:[_.-].*)?\Z",
    re.IGNORECASE,
)
# What this package and W&B keep in a config beside the user's own.
_NOT_SET_BY_USERS = ("airflow", "gate", "promotion", "_wandb")
_MOST_CURVES = 2


class RunFacts(NamedTuple):
    """
    A run, what may not be told of it already taken away.

    :param seconds: For how long it ran; None when W&B does not know.
    """

    path: str
    name: str
    url: str | None
    state: str
    created_at: str
    job_type: str | None
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    seconds: float | None = None


class Dataset(NamedTuple):
    """An artifact that a training used."""

    name: str
    type: str
    version: str
    digest: str
    size_bytes: int
    url: str | None
    metadata: Mapping[str, Any]


class QueryTable(NamedTuple):
    """
    Per-example results, as they may be shown.

    :param rows: The examples with the largest changes, or the lowest values where there is no baseline; or statistics,
        where a policy allows no more.
    :param summary: How many there are, and how many rose and fell.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    summary: str


class ReportFacts(NamedTuple):
    """
    Everything that a report shows.

    :param evaluated: The run whose figures were judged.
    :param training: The run that logged the candidate; None when it is gone, or not known.
    :param baseline: The run compared with, and ``baseline_training``: the one that logged that version.
    :param recent: Runs like the evaluated one, the newest first, and ``trainings`` such like the training.
    :param histories: By metric, by path of a run: pairs of step and value.
    :param datasets: What the training used; None when that is not known.
    :param missing: Sentences on what could not be read.
    :param baseline_page: Address of the page that says why the baseline holds its alias.
    """

    verdict: Verdict
    evaluated: RunFacts
    training: RunFacts | None
    baseline: RunFacts | None
    baseline_training: RunFacts | None
    recent: Sequence[RunFacts]
    trainings: Sequence[RunFacts]
    days: int
    histories: Mapping[str, Mapping[str, tuple[tuple[float, float], ...]]]
    datasets: Sequence[Dataset] | None
    baseline_datasets: Sequence[Dataset] | None
    queries: QueryTable | None
    target: str | None = None
    missing: Sequence[str] = ()
    baseline_page: str | None = None


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a config's own settings, nested ones by dotted names."""
    for key, value in values.items():
        if not prefix and key in _NOT_SET_BY_USERS:
            continue
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def costs(run: RunFacts) -> dict[str, float]:
    """Return what a run says it cost: finite numbers of its summary whose name tells of money, tokens or energy."""
    from wandb_airflow_provider.rules.evidence import measure

    found = {}
    for key, value in run.summary.items():
        figure = measure(value).value
        if figure is not None and _COST.match(key.rpartition("/")[2]):
            found[key] = figure
    return found


def loss_metrics(summary: Mapping[str, Any]) -> list[str]:
    """Return the first metrics of a summary whose last part names a loss."""
    named = [
        key
        for key in summary
        if "loss" in key.rpartition("/")[2].lower() and not key.startswith(("_", "airflow/"))
    ]
    return named[:_MOST_CURVES]
