"""Each benchmark once at a small size: that it measures and loses nothing, not how long that takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    __main__,
    artifact_transfer,
    concurrent_runs,
    dag_parsing,
    history_scan,
    imports,
    listener,
    logging_cost,
    mapped_tasks,
    runs_listing,
    server_start,
    task_overhead,
    tree_reading,
    waiters,
    xcom,
)
from benchmarks.catalogue import BENCHMARKS as CATALOGUE
from benchmarks.catalogue import Benchmark, Growth
from benchmarks.figure import Figure, render, repeat
from benchmarks.growth import curves, render_curves, the_one

# No rounds: only the one that otherwise warms up.
BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "imports": lambda: imports.measure(0),
    "parse": lambda: dag_parsing.measure(0, tasks=3),
    "server-start": lambda: server_start.measure(0),
    "listener": lambda: listener.measure(0),
    "logging": lambda: logging_cost.measure(0, steps=3),
    "concurrency": lambda: concurrent_runs.measure(0, runs=3, processes=2, steps=2),
    "artifact": lambda: artifact_transfer.measure(0, megabytes=3),
    "history": lambda: history_scan.measure(0, rows=1_001),
    "listing": lambda: runs_listing.measure(0, runs=120, per_page=10),
    "tree": lambda: tree_reading.measure(0, runs=3),
    "waiters": lambda: waiters.measure(0, waiters=10, reads=4, kills=0),
    "task-overhead": lambda: task_overhead.measure(0),
    "mapped": lambda: mapped_tasks.measure(0, tasks=4, workers=4),
    "xcom": lambda: xcom.measure(0, megabytes=1, folder_megabytes=20),
}
# What a small table takes of memory, and a small value or DAG of time, is lost in the noise.
MAY_BE_NOTHING = ("memory of", "a small value", "added by", "added:")


@pytest.mark.slow
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
    growth = CATALOGUE[name].growth
    for pattern in growth.figures if growth else ():
        assert the_one(pattern, figures)


def test_of_the_imports_those_count_during_which_the_processor_was_fastest_whatever_they_took() -> None:
    samples = [
        imports.Sample(seconds, loops)
        for seconds, loops in ((1, 0.9), (5, 0.5), (2, 0.7), (4, 0.6), (0, 0.8), (3, 1.0), (9, 1.1))
    ]
    assert [sample.seconds for sample in imports.fastest(samples)] == [5, 4, 2]
    assert imports.fastest(samples[:1]) == samples[:1]


def test_an_event_with_another_key_hides_no_move_that_was_missed() -> None:
    def event(collection: str, digest: str, key: str) -> dict[str, Any]:
        return {"collection": collection, "digest": digest, "idempotency_key": key}

    def found(*events: dict[str, Any]) -> list[float]:
        return [figure.value for figure in waiters.reported({("a", "1"), ("b", "1")}, list(events), 3)]

    a, b = event("a", "1", "key of a"), event("b", "1", "key of b")
    assert found(a, b) == [0, 0, 0, 0]
    assert found(a, b, a) == [0, 1, 0, 0]
    assert found(a, event("a", "1", "another key")) == [1, 0, 1, 0]
    assert found(a, event("b", "2", "key of no move")) == [1, 0, 0, 1]


def test_every_benchmark_says_what_it_compares_with_and_what_its_limit_is() -> None:
    for name, benchmark in CATALOGUE.items():
        assert benchmark.against, name
        assert benchmark.limit, name
        if benchmark.growth is not None:
            assert {benchmark.growth.size, *benchmark.growth.fixed} <= benchmark.sizes.keys()
            assert len(benchmark.growth.steps) >= 3
            assert list(benchmark.growth.steps) == sorted(benchmark.growth.steps)


def test_the_page_of_the_docs_names_each_benchmark_as_the_command_does() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name, benchmark in CATALOGUE.items():
        size = benchmark.growth.size if benchmark.growth else ""
        line = f") | {benchmark.against} | {benchmark.limit} | {size} |"
        assert any(
            text.startswith(f"| [`{name}`](#") and text.endswith(line) for text in page.splitlines()
        ), name


def test_growth_is_each_figure_at_each_size_and_the_last_by_the_first() -> None:
    def run(name: str, rounds: int, sizes: Any) -> list[Figure]:
        assert (name, rounds, sizes["kills"]) == ("waiters", 1, 0)
        return [Figure(f"{sizes['waiters']} of them", sizes["waiters"] / 2, "ms"), Figure("kills", 0, "x")]

    growth = Growth("waiters", (10, 100, 1000), ("* of them", "kills"), fixed={"kills": 0})
    found = curves("waiters", growth, run)
    assert [dict(curve.values) for curve in found] == [
        {10: 5, 100: 50, 1000: 500},
        dict.fromkeys((10, 100, 1000), 0),
    ]
    assert json.loads(json.dumps(found[0].to_json()))["values"] == {"10": 5, "100": 50, "1000": 500}
    lines = render_curves(found)
    assert lines[1].split("  ")[0] == "N of them"
    assert [line.rstrip().endswith("100.0 x") for line in lines[1:]] == [True, False]
    with pytest.raises(RuntimeError, match="'lost' stands for 0 of"):
        curves("waiters", Growth("waiters", (1, 2, 3), ("lost",), fixed={"kills": 0}), run)


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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(rounds: int, *, rows: int = 5) -> list[Figure]:
        return [Figure("rounds", float(rounds), "x", bar=2.0), Figure("rows", float(rows), "rows")]

    growth = Growth("rows", (1, 5, 10), ("rows",), rounds=2)
    own = Benchmark(measure, rounds=3, against="nothing", limit="the sky", growth=growth)
    monkeypatch.setattr(__main__, "BENCHMARKS", {"own": own})
    target = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--own-rows", "7", "--json", str(target)])
    assert __main__.main() == 1
    report = json.loads(target.read_text(encoding="utf-8"))
    assert report["settings"] == {"own": {"rounds": 3, "rows": 7}}
    assert [(figure["value"], figure["met"]) for figure in report["figures"]] == [(3.0, False), (7.0, None)]
    assert {figure["benchmark"] for figure in report["figures"]} == {"own"}
    assert report["benchmarks"] == {"own": {"against": "nothing", "limit": "the sky"}}
    assert [curve["values"] for curve in report["growth"]] == [{"1": 1.0, "5": 5.0, "10": 10.0}]
    printed = capsys.readouterr().out
    assert "== own\n   against: nothing\n   limit:   the sky\n" in printed
    assert "10.0 x" in printed
    monkeypatch.setattr(sys, "argv", ["benchmarks", "own", "--rounds", "2"])
    assert __main__.main() == 0
    assert "how it grows" not in capsys.readouterr().out
