"""How runs of a group become a tree, and how values are told to people."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from wandb_airflow_provider.devserver import DevServer
from wandb_airflow_provider.devserver.pages import formats
from wandb_airflow_provider.devserver.pages.charts import build_charts
from wandb_airflow_provider.devserver.pages.report_panels import Grid
from wandb_airflow_provider.devserver.pages.runsets import RunSet
from wandb_airflow_provider.devserver.pages.tree import build_tree
from wandb_airflow_provider.devserver.pages.values import key_metrics
from wandb_airflow_provider.devserver.queries import RunRecord

START = datetime(2026, 11, 22, tzinfo=UTC)


def make_run(
    name: str,
    at: float = 0,
    seconds: float = 1,
    *,
    parent: str | None = None,
    told: str | None = None,
    job_type: str = "task",
    state: str = "finished",
) -> RunRecord:
    airflow: dict[str, Any] = {"parent_run": parent and f"e/p/{parent}"}
    created = START + timedelta(seconds=at)
    return RunRecord(
        id=name,
        entity="e",
        project="p",
        name=name,
        display_name=name,
        state=state,
        group="g",
        job_type=job_type,
        config={"airflow": airflow},
        summary={"airflow/state": told} if told else {},
        tags=[],
        notes=None,
        user="dev",
        host=None,
        commit=None,
        program=None,
        created_at=created,
        heartbeat_at=created + timedelta(seconds=seconds),
        finished_at=created + timedelta(seconds=seconds),
        exit_code=0,
        row_id=1,
    )


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        pytest.param([make_run("a", 5), make_run("b", 1)], ["b 0", "a 0"], id="without a root, by creation"),
        pytest.param(
            [make_run("a", parent="root"), make_run("root", 3, job_type="pipeline")],
            ["root 0", "a 1"],
            id="the root leads though it was created later",
        ),
        pytest.param(
            [
                make_run("root", job_type="pipeline"),
                make_run("a", 1, parent="root"),
                make_run("b", 2, parent="a"),
            ],
            ["root 0", "a 1", "b 2"],
            id="a run below a task's run",
        ),
        pytest.param(
            [make_run("a", parent="gone"), make_run("b", 1)], ["a 0", "b 0"], id="a parent that is not here"
        ),
        pytest.param(
            [make_run("a", parent="b"), make_run("b", 1, parent="a"), make_run("c", 2, parent="c")],
            ["a 0", "b 0", "c 0"],
            id="runs that name each other",
        ),
    ],
)
def test_runs_are_placed_below_their_parents(runs: list[RunRecord], expected: list[str]):
    assert [f"{row.run.name} {row.depth}" for row in build_tree(runs).rows] == expected


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([make_run("root", job_type="pipeline", told="running"), make_run("a", parent="root")], "running"),
        ([make_run("root", job_type="pipeline", told="failed", state="failed")], "failed"),
        ([make_run("a", told="skipped")], "skipped"),
        ([make_run("a", state="failed"), make_run("b")], "failed"),
        ([make_run("a", state="failed"), make_run("b", state="running", told="success")], "running"),
        ([make_run("a"), make_run("b")], "finished"),
    ],
)
def test_the_state_of_a_group_is_its_roots_or_the_worst(runs: list[RunRecord], expected: str):
    assert build_tree(runs).state == expected


def test_bars_lie_within_the_time_of_the_group():
    runs = [
        make_run("root", 0, 1, job_type="pipeline", told="running"),
        make_run("a", 10, 20, parent="root"),
        make_run("b", 40, 0, parent="root"),
    ]
    bars = {row.run.name: (row.left, row.width) for row in build_tree(runs).rows}
    assert bars == {"root": (0.0, 100.0), "a": (25.0, 50.0), "b": (99.4, 0.6)}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (-3, "0.0 s"),
        (0.26, "0.3 s"),
        (9.96, "10 s"),
        (59.7, "1 min 00 s"),
        (74, "1 min 14 s"),
        (7500, "2 h 05 min"),
        (100_800, "1 d 4 h"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float | None, text: str):
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (3, "just now"),
        (42, "42 s ago"),
        (200, "3 min ago"),
        (7300, "2 h ago"),
        (90_000, "1 day ago"),
        (700_000, "8 days ago"),
    ],
)
def test_moments_are_told_by_how_long_ago_they_were(seconds: float, text: str):
    assert formats.ago(START, START + timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (999_900, "1 MB"), (5e9, "5 GB"), (2e12, "2 TB")],
)
def test_sizes_are_told_in_decimal_units(count: int, text: str):
    assert formats.size(int(count)) == text


def test_long_names_of_runs_leave_room_for_the_bars_and_stay_apart(tmp_path: Path):
    names = {"a": "x" * 60 + "1", "b": "x" * 60 + "2", "c": "y" * 60, "d": "y" * 60, "e": "short"}
    runs = [replace(make_run(key), display_name=name, summary={"loss": 1}) for key, name in names.items()]
    with DevServer(tmp_path) as server:
        grid = Grid(server.backend, [RunSet("all", "e", "p", runs, None)], {}, "grid")
    (panel,) = grid.build([{"viewType": "Bar Chart", "config": {"metrics": ["loss"]}}])
    assert panel.figure is not None
    start, end = f"{'x' * 15}…{'x' * 15}", f"{'y' * 15}…{'y' * 16}"
    assert panel.figure["data"][0]["y"] == [f"{start}1", f"{start}2", f"{end} (c)", f"{end} (d)", "short"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1\u202f234\u202f567"),
        (0.123456, "0.1235"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_values_in_tables_are_told_as_in_the_summary(value: float, text: str):
    assert formats.compact(value) == text


@pytest.mark.parametrize(
    ("address", "is_link"),
    [("https://example.org/a", True), ("http://a b", False), ("javascript:alert(1)", False), (None, False)],
)
def test_only_web_addresses_become_links(address: Any, is_link: bool):
    assert formats.is_web_address(address) is is_link


def test_key_metrics_are_the_first_four_numbers_that_a_user_logged():
    summary = {"_step": 3, "airflow/runs": 2, "k@10": 1, "k@5": 2, "name": "x", "ok": True}
    assert key_metrics({**summary, "nested": {"z": 3}, "a": 0.5, "zz": 9}) == [
        ("a", 0.5),
        ("k@5", 2),
        ("k@10", 1),
        ("nested.z", 3),
    ]


def test_charts_leave_gaps_for_values_that_are_no_numbers():
    rows = [
        {"_step": 0, "loss": 2.0, "only": "NaN"},
        {"_step": 5, "loss": "NaN"},
        {"_step": 7, "loss": 1, "_x": 1},
    ]
    (chart,) = build_charts(rows)
    assert chart.points == [(0, 2.0), (5, None), (7, 1)]
    assert (chart.last, chart.lowest, chart.highest, chart.count) == (1, 1, 2.0, 3)


def test_long_charts_are_thinned_and_keep_their_ends():
    (chart,) = build_charts({"_step": step, "loss": step} for step in range(5000))
    assert len(chart.points) == 1000
    assert (chart.points[0], chart.points[-1]) == ((0, 0), (4999, 4999))
    assert chart.count == 5000


def test_a_history_of_any_length_is_drawn_from_few_points():
    rows = ({"_step": step, "loss": step / 7} for step in range(20_000))
    tracemalloc.start()
    try:
        (chart,) = build_charts(rows)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000
    assert (len(chart.points), chart.count, chart.lowest, chart.highest) == (1000, 20_000, 0, 19_999 / 7)
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(chart.points)]
    assert max(gaps) <= 2 * min(gaps[:-1])
