"""Each benchmark once at a small size: that it measures and loses nothing, not how long that takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import (
    __main__,
    artifact_transfer,
    concurrent_runs,
    history_scan,
    logging_cost,
    mapped_tasks,
    runs_listing,
    server_start,
    task_overhead,
    xcom,
)
from benchmarks.figure import Figure, render, repeat

# No rounds: only the one that otherwise warms up.
BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "server start": lambda: server_start.measure(0),
    "logging": lambda: logging_cost.measure(0, steps=3),
    "concurrent runs": lambda: concurrent_runs.measure(0, runs=3, processes=2, steps=2),
    "artifact": lambda: artifact_transfer.measure(0, megabytes=3),
    "history": lambda: history_scan.measure(0, rows=1_001),
    "listing": lambda: runs_listing.measure(0, runs=120, per_page=10),
    "task overhead": lambda: task_overhead.measure(0),
    "mapped tasks": lambda: mapped_tasks.measure(0, tasks=4, workers=2),
    "xcom": lambda: xcom.measure(0, megabytes=1, folder_megabytes=20),
}
# What a small table takes of memory, and a small value of time, is lost in the noise.
MAY_BE_NOTHING = ("memory of", "a small value")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_of_a_small_size_measures_and_loses_nothing(name: str) -> None:
    figures = BENCHMARKS[name]()
    bars = [figure for figure in figures if figure.met is not None]
    assert bars, "a benchmark without a bar proves nothing"
    for figure in figures:
        if figure.unit == "requests":
            assert 0 < figure.value <= 12, figure
        elif figure.unit in ("runs", "rows"):
            assert figure.value == 0, figure
        elif figure.unit != "MB" and not figure.name.startswith(MAY_BE_NOTHING):
            assert figure.value > 0, figure


def test_figures_are_held_to_the_bar_that_they_name() -> None:
    quick, slow = Figure("a", 10.0, "ms", bar=20.0), Figure("b", 0.4, "x", floor=0.5)
    unheld = Figure("c", 1.0, "MB")
    assert [figure.met for figure in (quick, slow, unheld)] == [True, False, None]
    lines = render([quick, slow, unheld])
    assert [line.split()[3:] for line in lines[1:]] == [
        ["<=", "20", "ms", "met"],
        [">=", "0.5", "x", "NOT", "MET"],
        [],
    ]


def test_round_that_warms_up_counts_only_if_it_is_the_only_one() -> None:
    values = iter([9.0, 1.0, 2.0, 7.0])
    assert repeat(lambda: {"a": next(values)}, 2) == {"a": [1.0, 2.0]}
    assert repeat(lambda: {"a": next(values)}, 0) == {"a": [7.0]}


def test_command_exits_with_1_when_a_bar_is_missed_and_writes_what_it_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measure(rounds: int, *, rows: int = 5) -> list[Figure]:
        return [Figure("rounds", float(rounds), "x", bar=2.0), Figure("rows", float(rows), "rows")]

    monkeypatch.setattr(__main__, "BENCHMARKS", {"own": __main__.Benchmark(measure, rounds=3)})
    target = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--own-rows", "7", "--json", str(target)])
    assert __main__.main() == 1
    report = json.loads(target.read_text(encoding="utf-8"))
    assert report["settings"] == {"own": {"rounds": 3, "rows": 7}}
    assert [(figure["value"], figure["met"]) for figure in report["figures"]] == [(3.0, False), (7.0, None)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "own", "--rounds", "2"])
    assert __main__.main() == 0
