"""How the pages read what people type, what metrics a run defined, and what it wrote to its console."""

from __future__ import annotations

from typing import Any

import pytest

from wandb_airflow_provider.devserver.artifacts.queries import EntryRecord
from wandb_airflow_provider.devserver.pages.charts import build_charts, build_system_charts
from wandb_airflow_provider.devserver.pages.comparison import compare
from wandb_airflow_provider.devserver.pages.console import read_console
from wandb_airflow_provider.devserver.pages.markdown import to_html
from wandb_airflow_provider.devserver.pages.run_query import look_up, parse_keys, parse_order, parse_query
from wandb_airflow_provider.devserver.pages.step_axes import StepAxes
from wandb_airflow_provider.devserver.pages.timeline import build_ticks


def name(pattern: str) -> dict[str, Any]:
    return {"displayName": {"$regex": pattern, "$options": "i"}}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", None),
        ("loss", [name("loss")]),
        ('"try 2" x.y', [name(r"try\ 2"), name(r"x\.y")]),
        ("group=a:b", [{"$or": [{"group": "a:b"}]}]),
        ("Job_Type:a|b", [{"jobType": {"$regex": "a|b", "$options": "i"}}]),
        ('job:"a|b"', [{"jobType": {"$regex": r"a\|b", "$options": "i"}}]),
        ("tag:a|b", [{"$or": [{"tags": "a"}, {"tags": "b"}]}]),
        ("tags!=a", [{"$nor": [{"tags": "a"}]}]),
        ("config.on=true", [{"$or": [{"config.on": True}]}]),
        ('config.n="1"', [{"$or": [{"config.n": "1"}]}]),
        ("config.n=null", [{"$or": [{"config.n": None}]}]),
        ('summary."a b">=1e-3', [{"summary_metrics.a b": {"$gte": 0.001}}]),
        ("duration > 60 ok", [{"duration": {"$gt": 60}}, name("ok")]),
    ],
)
def test_queries_become_filters(text: str, parts: list[Any] | None):
    assert parse_query(text).filters == ({} if parts is None else {"$and": parts})


def test_queries_tell_the_keys_that_they_name():
    assert parse_query("config.lr>1 summary.x<2 config.lr<3 word state:failed").keys == (
        "config.lr",
        "summary.x",
    )
    assert parse_keys("summary.x, config.a.b,,summary.x ") == ("summary.x", "config.a.b")
    assert parse_order("-summary.x") == "-summary_metrics.x"
    assert parse_order("duration") == "+duration"


@pytest.mark.parametrize(
    ("path", "value"),
    [("a", {"b": 1}), ("a.b", 1), ("a.c", None), ("x.y", 2), ("x.y.z", None), ("p.q.r", 3), ("none", None)],
)
def test_values_are_found_under_nested_keys_and_under_keys_with_dots(path: str, value: Any):
    assert look_up({"a": {"b": 1}, "x.y": 2, "p.q": {"r": 3}}, path) == value


@pytest.mark.parametrize(
    ("defined", "axis"),
    [
        (None, "_step"),
        ("odd", "_step"),
        ([None, {"1": "loss", "5": 9}], "_step"),
        ([{"1": "epoch"}, {"1": "loss", "5": 1}], "epoch"),
        ([{"1": "loss", "4": "epoch"}], "epoch"),
        ([{"1": "epoch"}, {"2": "lo*", "5": 1}], "epoch"),
        ([{"1": "epoch"}, {"2": "*", "5": 1}, {"1": "loss"}], "_step"),
    ],
)
def test_the_axis_of_a_metric_is_what_was_defined(defined: Any, axis: str):
    assert StepAxes.of(defined).axis("loss") == axis


def test_charts_use_the_last_place_on_their_axis_and_leave_hidden_metrics_out():
    axes = StepAxes.of([{"1": "epoch", "6": [2]}, {"2": "*", "5": 1}])
    rows = [
        {"_step": 0, "loss": 9},
        {"_step": 1, "epoch": 2},
        {"_step": 2, "loss": 1},
        {"epoch": 3, "loss": 4},
    ]
    (chart,) = build_charts(rows, axes)
    assert (chart.key, chart.axis, chart.points) == ("loss", "epoch", [(2, 1), (3, 4)])


def test_system_metrics_are_drawn_over_seconds():
    rows = [
        {"_runtime": 1.26, "system.cpu": 3, "other": 1},
        {"system.cpu": 4},
        {"_runtime": 2, "system.cpu": "NaN"},
    ]
    (chart,) = build_system_charts(rows)
    assert (chart.key, chart.axis, chart.points) == ("cpu", "seconds", [(1.3, 3), (2, None)])


def test_axis_names_are_no_markup_for_the_charting_library():
    (chart,) = build_charts([{"<b>x</b>": 1, "loss": 2}], StepAxes({"loss": "<b>x</b>", "<b>x</b>": "none"}))
    assert chart.figure()["layout"]["xaxis"]["title"]["text"] == "&lt;b&gt;x&lt;/b&gt;"


def test_axes_write_small_and_large_numbers_as_they_were_logged():
    (chart,) = build_charts([{"_step": step, "tiny": step * 1e-9} for step in range(9)])
    layout = chart.figure()["layout"]
    assert {layout[axis]["exponentformat"] for axis in ("xaxis", "yaxis")} == {"e"}


def test_headings_in_markdown_are_below_those_of_the_page():
    written = to_html("# Why\n\n## How\n\nAlso\n----\n\n##### Where")
    assert written == "<h3>Why</h3>\n<h4>How</h4>\n<h4>Also</h4>\n<h6>Where</h6>\n"


def test_console_lines_lose_colours_and_keep_the_last_state_of_a_progress_bar():
    lines = read_console(
        [
            "2026-11-23T02:03:59.729873 \x1b[1;31mred\x1b[0m \x1b]0;title\x07end",
            "ERROR 2026-11-23T02:03:59.786117 10%\r20%\r100%\r\n",
            "as it came",
        ]
    )
    assert [(line.time, line.text, line.is_error) for line in lines] == [
        ("02:03:59", "red end", False),
        ("02:03:59", "100%", True),
        ("", "as it came", False),
    ]


@pytest.mark.parametrize(
    ("seconds", "texts"),
    [
        (0.0, ["0"]),
        (1.0, ["0", "0.2 s", "0.4 s", "0.6 s", "0.8 s"]),
        (104.2, ["0", "30 s", "1 min 00 s"]),
        (86400 * 30, ["0", "5 d 0 h", "10 d 0 h", "15 d 0 h", "20 d 0 h", "25 d 0 h"]),
    ],
)
def test_a_scale_has_a_few_round_marks(seconds: float, texts: list[str]):
    assert [tick.text for tick in build_ticks(seconds)] == texts


def test_versions_are_compared_by_metadata_and_by_the_content_of_files():
    old = [EntryRecord("a", "1", 1, None), EntryRecord("b", "1", 1, None), EntryRecord("c", "1", 1, None)]
    new = [EntryRecord("b", "2", 1, None), EntryRecord("c", "1", 1, None), EntryRecord("d", "1", 1, None)]
    found = compare(3, {"x": {"y": 1, "z": 2}}, {"x": {"y": 1, "z": 3}, "w": None}, old, new)
    assert [(change.key, change.before, change.after) for change in found.metadata] == [("x.z", 2, 3)]
    assert found.files == [("a", "removed"), ("b", "changed"), ("d", "added")]
    assert found.before == 3
