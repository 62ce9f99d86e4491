"""One rule, what was read, and what comes of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.rules import RunEvidence, Verdict

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RANKS = ("id", "language", "rr")
EN, DE, FR = "en", "de", "fr"


class Case(NamedTuple):
    rule: dict[str, Any]
    reason: str
    run: dict[str, Any]
    baseline: Any = "none"
    """What was read of the holder's run; ``none``: nothing holds the alias; ``lost``: its run is gone."""
    others: dict[str, Any] | None = None
    """What was read of other baselines, by subject."""
    result: str | None = None
    """Default: what follows from the reason."""


def ranks(**means: tuple[float, int]) -> dict[str, Any]:
    """A table ``t`` with so many rows of a language, of this reciprocal rank."""
    rows = [[f"{name}{index}", name, rr] for name, (rr, count) in means.items() for index in range(count)]
    return {"tables": {"t": (RANKS, rows)}}


def pairs(values: list[Any], name: str = "t", ids: list[Any] | None = None) -> dict[str, Any]:
    names = ids or [f"q{index}" for index in range(len(values))]
    return {"tables": {name: (RANKS, [[key, EN, value] for key, value in zip(names, values, strict=True)])}}


def both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {"tables": {**one["tables"], **other["tables"]}}


def placed(*slices: tuple[Any, Any, float, int]) -> dict[str, Any]:
    """A table ``t`` with so many rows of two columns' values, of this reciprocal rank."""
    rows = [[place, length, rr] for place, length, rr, count in slices for _ in range(count)]
    return {"tables": {"t": (("place", "length", "rr"), rows)}}


BY_LANGUAGE = {
    "kind": "table",
    "table": "t",
    "column": "rr",
    "by": "language",
    "min_samples": 50,
    "minimum": 0.5,
}
WHOLE = {"kind": "table", "table": "t", "column": "rr", "minimum": 0.5}
CHANGE = {"kind": "table", "table": "t", "column": "rr", "by": "language", "min_change": -0.1}
BY_TWO = {**BY_LANGUAGE, "by": ["place", "length"], "min_samples": 2}
TWO_CHANGE = {"kind": "table", "table": "t", "column": "rr", "by": ["place", "length"], "min_change": 0}
FEW = {**CHANGE, "min_samples": 3}
PAIRED = {"kind": "paired", "table": "t", "column": "rr", "key": "id", "change_above": 0.0, "resamples": 999}
LOSS = {"metric": "loss", "aggregate": "mean"}
NOISY = [0.5 + 0.1 * math.sin(index) for index in range(60)]
BETTER = [value + 0.1 + 0.02 * math.cos(index) for index, value in enumerate(NOISY)]
SAME = [value + 0.05 * math.sin(3 * index + 1) for index, value in enumerate(NOISY)]
HELD = {"m": 10.0}

CASES: dict[str, Case] = {
    # Units.
    "a bound in the metric's unit": Case(
        {"metric": "s", "unit": "s", "maximum": "200 ms"}, "passed", {"summary": {"s": 0.2}}
    ),
    "a bound in the metric's unit, broken": Case(
        {"metric": "s", "unit": "s", "maximum": "200 ms"}, "above_maximum", {"summary": {"s": 0.21}}
    ),
    "bytes": Case({"metric": "b", "unit": "MiB", "maximum": "1 GiB"}, "passed", {"summary": {"b": 1024}}),
    "a relative change in percent": Case(
        {"metric": "m", "max_change": "5 %", "relative": True}, "passed", {"summary": {"m": 10.5}}, HELD
    ),
    "a relative change in percent, broken": Case(
        {"metric": "m", "max_change": "5 %", "relative": True},
        "change_above_maximum",
        {"summary": {"m": 10.6}},
        HELD,
    ),
    "a relative loss of a negative figure": Case(
        {"metric": "m", "min_change": "-5 %", "relative": True},
        "change_below_minimum",
        {"summary": {"m": -10.6}},
        {"m": -10.0},
    ),
    "a relative gain of a negative figure": Case(
        {"metric": "m", "min_change": "5 %", "relative": True},
        "passed",
        {"summary": {"m": -9.5}},
        {"m": -10.0},
    ),
    "a relative change from zero": Case(
        {"metric": "m", "min_change": "-5 %", "relative": True},
        "baseline_zero",
        {"summary": {"m": 10}},
        {"m": 0},
    ),
    "a baseline that is text": Case(
        {"metric": "m", "min_change": 0}, "baseline_wrong_type", {"summary": {"m": 1}}, {"m": "0"}
    ),
    "a baseline that is true": Case(
        {"metric": "m", "min_change": 0}, "baseline_wrong_type", {"summary": {"m": 1}}, {"m": True}
    ),
    # Numbers of samples.
    "enough examples": Case(
        {"metric": "m", "minimum": 0, "samples": "n", "min_samples": 100},
        "passed",
        {"summary": {"m": 1, "n": 100}},
    ),
    "too few examples": Case(
        {"metric": "m", "minimum": 0, "samples": "n", "min_samples": 100},
        "too_few",
        {"summary": {"m": 1, "n": 99}},
    ),
    "nobody counted the examples": Case(
        {"metric": "m", "minimum": 0, "samples": "n", "min_samples": 100},
        "metric_missing",
        {"summary": {"m": 1}},
    ),
    "the count of examples is no number": Case(
        {"metric": "m", "minimum": 0, "samples": "n", "min_samples": 1},
        "metric_wrong_type",
        {"summary": {"m": 1, "n": "many"}},
    ),
    # Policies.
    "missing, and allowed": Case(
        {"metric": "m", "minimum": 0, "on_missing": "pass"},
        "missing_allowed",
        {"summary": {}},
        result="passed",
    ),
    "missing, and a warning": Case(
        {"metric": "m", "minimum": 0, "on_missing": "warn"},
        "metric_missing",
        {"summary": {}},
        result="warning",
    ),
    "NaN is not missing": Case(
        {"metric": "m", "minimum": 0, "on_missing": "pass"}, "metric_not_finite", {"summary": {"m": math.nan}}
    ),
    "true is no number": Case({"metric": "m", "minimum": 0}, "metric_wrong_type", {"summary": {"m": True}}),
    "text is not missing": Case(
        {"metric": "m", "minimum": 0, "on_missing": "warn"}, "metric_wrong_type", {"summary": {"m": "1"}}
    ),
    "a rule that only warns": Case(
        {"metric": "m", "minimum": 2, "severity": "warn"},
        "below_minimum",
        {"summary": {"m": 1}},
        result="warning",
    ),
    "no baseline, and a warning": Case(
        {"metric": "m", "min_change": 0, "when_no_baseline": "warn"},
        "no_baseline",
        {"summary": {"m": 1}},
        result="warning",
    ),
    "no baseline, and a broken threshold": Case(
        {"metric": "m", "minimum": 2, "min_change": 0, "when_no_baseline": "warn"},
        "below_minimum",
        {"summary": {"m": 1}},
    ),
    # History.
    "the mean": Case({**LOSS, "maximum": 2}, "passed", {"history": {"loss": [1, 2, 3]}}),
    "the mean of a window": Case(
        {**LOSS, "window": 2, "maximum": 2}, "above_maximum", {"history": {"loss": [0, 2, 3]}}
    ),
    "the last": Case(
        {"metric": "loss", "aggregate": "last", "maximum": 1}, "passed", {"history": {"loss": [9, 1]}}
    ),
    "the least": Case(
        {"metric": "loss", "aggregate": "min", "minimum": 1},
        "below_minimum",
        {"history": {"loss": [3, 0, 3]}},
    ),
    "the greatest": Case(
        {"metric": "loss", "aggregate": "max", "below": 9}, "above_maximum", {"history": {"loss": [3, 9, 3]}}
    ),
    "a falling slope": Case(
        {"metric": "loss", "aggregate": "slope", "below": 0}, "passed", {"history": {"loss": [3, 2, 2.5, 1]}}
    ),
    "a rising slope": Case(
        {"metric": "loss", "aggregate": "slope", "maximum": 0}, "above_maximum", {"history": {"loss": [1, 2]}}
    ),
    "a slope of one point": Case(
        {"metric": "loss", "aggregate": "slope", "maximum": 0}, "too_few", {"history": {"loss": [1]}}
    ),
    "a window that is not full": Case(
        {**LOSS, "window": 3, "maximum": 9}, "too_few", {"history": {"loss": [1, 2]}}
    ),
    "a window that need not be full": Case(
        {**LOSS, "window": 3, "min_samples": 2, "maximum": 9}, "passed", {"history": {"loss": [1, 2]}}
    ),
    "a history that was not read": Case({**LOSS, "maximum": 9}, "metric_missing", {"summary": {"loss": 1}}),
    "NaN in the window": Case(
        {**LOSS, "maximum": 9}, "metric_not_finite", {"history": {"loss": [1, "NaN", 2]}}
    ),
    "NaN before the window": Case(
        {**LOSS, "window": 1, "maximum": 9}, "passed", {"history": {"loss": ["NaN", 2]}}
    ),
    "a point without a value is no missing history": Case(
        {**LOSS, "maximum": 9, "on_missing": "pass"}, "metric_wrong_type", {"history": {"loss": [1, None, 2]}}
    ),
    "true in the history": Case(
        {**LOSS, "maximum": 9}, "metric_wrong_type", {"history": {"loss": [1, True]}}
    ),
    "text in the history": Case(
        {**LOSS, "maximum": 9}, "metric_wrong_type", {"history": {"loss": [1, "low"]}}
    ),
    "a sum beyond all numbers": Case(
        {"metric": "loss", "aggregate": "slope", "maximum": 0},
        "metric_not_finite",
        {"history": {"loss": [-1e308, 1e308, 1e308]}},
    ),
    "histories compared": Case(
        {**LOSS, "max_change": 0}, "passed", {"history": {"loss": [1, 2]}}, {"history": {"loss": [2, 2]}}
    ),
    "a baseline with too short a history": Case(
        {**LOSS, "window": 2, "max_change": 0},
        "baseline_too_few",
        {"history": {"loss": [1, 2]}},
        {"history": {"loss": [2]}},
    ),
    # Other baselines.
    "a named run": Case(
        {"metric": "m", "min_change": 0, "baseline_run": "e/p/r"},
        "passed",
        {"summary": {"m": 2}},
        others={"run:e/p/r": [{"summary": {"m": 1}}]},
    ),
    "a named run that was not read": Case(
        {"metric": "m", "min_change": 0, "baseline_run": "e/p/r"},
        "baseline_metric_missing",
        {"summary": {"m": 2}},
    ),
    "the median of the last good runs": Case(
        {"metric": "m", "min_change": 0, "last_good": 3},
        "change_below_minimum",
        {"summary": {"m": 4}},
        others={"last_good:3": [{"summary": {"m": value}} for value in (1, 5, 9)]},
    ),
    "fewer good runs than asked for": Case(
        {"metric": "m", "min_change": 0, "last_good": 3},
        "passed",
        {"summary": {"m": 4}},
        others={"last_good:3": [{"summary": {"m": 3}}]},
    ),
    "no good run yet": Case(
        {"metric": "m", "min_change": 0, "last_good": 3},
        "no_baseline",
        {"summary": {"m": 4}},
        others={"last_good:3": None},
    ),
    "no good run yet, and allowed": Case(
        {"metric": "m", "min_change": 0, "last_good": 3, "when_no_baseline": "pass"},
        "no_baseline_allowed",
        {"summary": {"m": 4}},
        others={"last_good:3": None},
    ),
    "a good run without the metric": Case(
        {"metric": "m", "min_change": 0, "last_good": 2, "when_no_baseline": "pass"},
        "baseline_metric_missing",
        {"summary": {"m": 4}},
        others={"last_good:2": [{"summary": {"m": 3}}, {}]},
    ),
    "a holder whose run is gone": Case(
        {"metric": "m", "min_change": 0, "when_no_baseline": "pass"},
        "baseline_metric_missing",
        {"summary": {"m": 4}},
        "lost",
    ),
    # Slices.
    "every large slice is good": Case(BY_LANGUAGE, "passed", ranks(en=(0.6, 60), de=(0.5, 50), fr=(0.1, 49))),
    "a large slice is bad": Case(BY_LANGUAGE, "below_minimum", ranks(en=(0.6, 60), de=(0.4, 50))),
    "no slice is large": Case(BY_LANGUAGE, "too_few", ranks(en=(0.6, 49), de=(0.6, 3))),
    "no slice is large, and a warning": Case(
        {**BY_LANGUAGE, "on_missing": "warn"}, "too_few", ranks(en=(0.6, 49)), result="warning"
    ),
    "an expected slice is too small": Case(
        {**BY_LANGUAGE, "expect": [EN, FR]}, "slice_missing", ranks(en=(0.6, 60), fr=(0.9, 10))
    ),
    "an expected slice is absent": Case(
        {**BY_LANGUAGE, "expect": [EN, FR]}, "slice_missing", ranks(en=(0.6, 60))
    ),
    "an expected slice that could be either of two": Case(
        {**BY_TWO, "expect": ["a, b, c"]},
        "slice_missing",
        placed(("a, b", "c", 0.9, 2), ("a", "b, c", 0.9, 2)),
    ),
    "an expected slice among two that read alike": Case(
        {**BY_TWO, "expect": ["'a, b', 'c'"]}, "passed", placed(("a, b", "c", 0.9, 2), ("a", "b, c", 0.9, 2))
    ),
    "slices whose values read alike": Case(
        BY_TWO, "below_minimum", placed(("a, b", "c", 0.9, 8), ("a", "b, c", 0.1, 2))
    ),
    "slices that a name with quotes could hide": Case(
        BY_TWO,
        "below_minimum",
        placed(
            ("a, b", "c", 0.9, 8), ("a", "b, c", 0.9, 8), ("'a", "b, c'", 0.9, 8), ("'a'", "'b, c'", 0.1, 2)
        ),
    ),
    "no value and the word for it": Case(
        BY_TWO, "below_minimum", placed(("None", "x", 0.9, 8), (None, "x", 0.1, 2))
    ),
    "a number and its text": Case(BY_TWO, "below_minimum", placed((1, "x", 0.9, 8), ("1", "x", 0.1, 2))),
    "true and its text": Case(BY_TWO, "below_minimum", placed((True, "x", 0.9, 8), ("True", "x", 0.1, 2))),
    "lists as slices": Case(BY_TWO, "passed", placed(([1, 2], {"a": 1}, 0.9, 8))),
    "an expected slice of two columns": Case(
        {**BY_TWO, "expect": ["de, short"]}, "passed", placed(("de", "short", 0.9, 2), ("de", "long", 0.9, 2))
    ),
    "a slice that only reads like the baseline's": Case(
        TWO_CHANGE, "slice_missing", placed(("a", "b, c", 0.9, 2)), placed(("a, b", "c", 0.5, 2))
    ),
    "a cell is NaN": Case(WHOLE, "metric_not_finite", pairs([0.9, "NaN"])),
    "a cell is empty": Case(WHOLE, "slice_missing", pairs([0.9, None])),
    "an empty cell is no missing table": Case(
        {**WHOLE, "on_missing": "pass"}, "slice_missing", pairs([0.9, None])
    ),
    "a cell is text": Case(WHOLE, "metric_wrong_type", pairs([0.9, "high"])),
    "hits are counted": Case({**WHOLE, "minimum": 0.75}, "passed", pairs([True, True, False, True])),
    "the whole table": Case(WHOLE, "below_minimum", ranks(en=(0.6, 10), de=(0.1, 10))),
    "the median of the table": Case({**WHOLE, "aggregate": "median"}, "passed", pairs([0.5, 0.6, 0.0])),
    "the rows are counted": Case(
        {**WHOLE, "aggregate": "count", "minimum": 3}, "below_minimum", pairs([1, 1])
    ),
    "the table has too few rows": Case({**WHOLE, "min_samples": 5}, "too_few", pairs([0.9] * 4)),
    "the table is empty": Case(WHOLE, "metric_missing", pairs([])),
    "there is no table": Case(WHOLE, "metric_missing", {"summary": {}}),
    "a number where a table should be": Case(WHOLE, "metric_wrong_type", {"summary": {"t": 0.9}}),
    "a table that was not read": Case(
        WHOLE, "metric_wrong_type", {"summary": {"t": {"_type": "table-file"}}}
    ),
    "the table lacks the column": Case({**WHOLE, "column": "mrr"}, "metric_missing", pairs([0.9])),
    "the table lacks the column of slices": Case({**WHOLE, "by": "country"}, "metric_missing", pairs([0.9])),
    "every slice kept its level": Case(
        CHANGE, "passed", ranks(en=(0.5, 2), de=(0.45, 2)), ranks(en=(0.5, 2), de=(0.5, 2))
    ),
    "a slice fell": Case(
        CHANGE, "change_below_minimum", ranks(en=(0.9, 2), de=(0.3, 2)), ranks(en=(0.5, 2), de=(0.5, 2))
    ),
    "a slice was dropped": Case(CHANGE, "slice_missing", ranks(en=(0.9, 2)), ranks(en=(0.5, 2), de=(0.5, 2))),
    "a slice is new": Case(CHANGE, "no_baseline", ranks(en=(0.9, 2), de=(0.9, 2)), ranks(en=(0.5, 2))),
    "a slice is new, and allowed": Case(
        {**CHANGE, "when_no_baseline": "pass"},
        "no_baseline_allowed",
        ranks(en=(0.9, 2), de=(0.9, 2)),
        ranks(en=(0.5, 2)),
    ),
    "a slice is new, and another fell": Case(
        {**CHANGE, "when_no_baseline": "warn"},
        "change_below_minimum",
        ranks(en=(0.1, 2), de=(0.9, 2)),
        ranks(en=(0.5, 2)),
    ),
    "a slice with too small a baseline": Case(FEW, "no_baseline", ranks(en=(0.9, 3)), ranks(en=(0.5, 2))),
    "a slice with too small a baseline, and allowed": Case(
        {**FEW, "when_no_baseline": "pass"}, "no_baseline_allowed", ranks(en=(0.9, 3)), ranks(en=(0.5, 2))
    ),
    "a slice that fell from too small a baseline": Case(
        {**FEW, "when_no_baseline": "pass"}, "change_below_minimum", ranks(en=(0.1, 3)), ranks(en=(0.5, 2))
    ),
    "a baseline with just enough rows": Case(FEW, "passed", ranks(en=(0.9, 3)), ranks(en=(0.5, 3))),
    "a whole table with too small a baseline": Case(
        {**WHOLE, "min_samples": 3, "min_change": 0, "when_no_baseline": "pass"},
        "baseline_too_few",
        ranks(en=(0.9, 3)),
        ranks(en=(0.5, 2)),
    ),
    "another table without the column": Case(
        {**WHOLE, "min_change": 0, "against": "u", "when_no_baseline": "pass"},
        "baseline_metric_missing",
        {"tables": {"t": (RANKS, [["q1", EN, 0.9]]), "u": (("id",), [["q1"]])}},
    ),
    "another table without rows": Case(
        {**WHOLE, "min_change": 0, "against": "u", "when_no_baseline": "pass"},
        "baseline_metric_missing",
        {"tables": {"t": (RANKS, [["q1", EN, 0.9]]), "u": (RANKS, [])}},
    ),
    "no holder to compare slices with": Case(CHANGE, "no_baseline", ranks(en=(0.9, 2))),
    "the holder's run has no table": Case(
        {**CHANGE, "when_no_baseline": "pass"}, "baseline_metric_missing", ranks(en=(0.9, 2)), {"summary": {}}
    ),
    "the holder's table has NaN": Case(
        WHOLE | {"min_change": 0}, "baseline_not_finite", pairs([0.9]), pairs(["NaN"])
    ),
    # Age.
    "a fresh run": Case(
        {"kind": "age", "max_age": "1 d"}, "passed", {"ended_at": NOON - timedelta(hours=24)}
    ),
    "a stale run": Case(
        {"kind": "age", "max_age": "1 d"}, "stale", {"ended_at": NOON - timedelta(hours=24, seconds=1)}
    ),
    "a run without an end": Case({"kind": "age", "max_age": 60}, "metric_missing", {}),
    "a run of tomorrow": Case(
        {"kind": "age", "max_age": 60}, "in_the_future", {"ended_at": NOON + timedelta(days=1)}
    ),
    "a clock that is a little ahead": Case(
        {"kind": "age", "max_age": 60}, "passed", {"ended_at": NOON + timedelta(minutes=4)}
    ),
    "fresh data": Case(
        {"kind": "age", "max_age": 60, "timestamp": "at"},
        "passed",
        {"summary": {"at": NOON.timestamp() - 60}},
    ),
    "stale data": Case(
        {"kind": "age", "max_age": 60, "timestamp": "at"},
        "stale",
        {"summary": {"at": "2026-03-01T11:58:59+00:00"}},
    ),
    "a time without a zone": Case(
        {"kind": "age", "max_age": 60, "timestamp": "at"},
        "metric_wrong_type",
        {"summary": {"at": "2026-03-01T12:00:00"}},
    ),
    "a time that is none": Case(
        {"kind": "age", "max_age": 60, "timestamp": "at"},
        "metric_wrong_type",
        {"summary": {"at": "yesterday"}},
    ),
    # Tests of paired examples.
    "better beyond noise": Case(PAIRED, "passed", pairs(BETTER), pairs(NOISY)),
    "better beyond noise, by permutation": Case(
        {**PAIRED, "test": "permutation"}, "passed", pairs(BETTER), pairs(NOISY)
    ),
    "as good, which is not better": Case(PAIRED, "change_not_shown", pairs(SAME), pairs(NOISY)),
    "as good, which is not better, by permutation": Case(
        {**PAIRED, "test": "permutation"}, "change_not_shown", pairs(SAME), pairs(NOISY)
    ),
    "as good, which is not worse": Case(
        {**PAIRED, "change_above": -0.05}, "passed", pairs(SAME), pairs(NOISY)
    ),
    "as good, which is not worse, by permutation": Case(
        {**PAIRED, "change_above": -0.05, "test": "permutation"}, "passed", pairs(SAME), pairs(NOISY)
    ),
    "the very same": Case(PAIRED, "change_not_shown", pairs(NOISY), pairs(NOISY)),
    "the very same is not worse": Case(
        {**PAIRED, "change_above": -0.001}, "passed", pairs(NOISY), pairs(NOISY)
    ),
    "smaller is better": Case(
        {k: v for k, v in PAIRED.items() if k != "change_above"} | {"change_below": 0.0},
        "passed",
        pairs(NOISY),
        pairs(BETTER),
    ),
    "pairs by name, not by place": Case(
        PAIRED, "passed", pairs(BETTER[::-1], ids=[f"q{59 - i}" for i in range(60)]), pairs(NOISY)
    ),
    "too few pairs": Case(PAIRED, "too_few", pairs(BETTER[:29]), pairs(NOISY[:29])),
    "examples that the candidate lacks": Case(PAIRED, "pairs_incomplete", pairs(BETTER[:59]), pairs(NOISY)),
    "examples that the baseline lacks": Case(PAIRED, "pairs_incomplete", pairs(BETTER), pairs(NOISY[:59])),
    "a few unpaired examples are allowed": Case(
        {**PAIRED, "max_unpaired": 0.05}, "passed", pairs(BETTER), pairs(NOISY[:58])
    ),
    "an example twice": Case(PAIRED, "pairs_ambiguous", pairs(BETTER, ids=["q1"] * 60), pairs(NOISY)),
    "an example that nobody named": Case(
        PAIRED,
        "pairs_ambiguous",
        pairs(BETTER, ids=[None, *(f"q{index}" for index in range(1, 60))]),
        pairs(NOISY),
    ),
    "an example without a figure": Case(
        {**PAIRED, "on_missing": "pass"}, "pairs_incomplete", pairs([*BETTER[:59], None]), pairs(NOISY)
    ),
    "an example of NaN": Case(PAIRED, "metric_not_finite", pairs([*BETTER[:59], math.nan]), pairs(NOISY)),
    "no holder to test against": Case(PAIRED, "no_baseline", pairs(BETTER)),
    "no holder to test against, and allowed": Case(
        {**PAIRED, "when_no_baseline": "pass"}, "no_baseline_allowed", pairs(BETTER)
    ),
    "too few examples for a first one": Case(
        {**PAIRED, "when_no_baseline": "pass"}, "too_few", pairs(BETTER[:29])
    ),
    "just enough examples for a first one": Case(
        {**PAIRED, "when_no_baseline": "pass"}, "no_baseline_allowed", pairs(BETTER[:30])
    ),
    "a holder without examples": Case(
        {**PAIRED, "when_no_baseline": "pass"}, "baseline_metric_missing", pairs(BETTER), {"summary": {}}
    ),
    "another table of the run": Case(
        {**PAIRED, "against": "u"}, "passed", both(pairs(BETTER), pairs(NOISY, "u"))
    ),
    "another table of the run without the column": Case(
        {**PAIRED, "against": "u", "when_no_baseline": "pass"},
        "baseline_metric_missing",
        {"tables": {**pairs(BETTER)["tables"], "u": (("id",), [["q1"]])}},
    ),
    "another table that is not there": Case(
        {**PAIRED, "against": "u", "when_no_baseline": "pass"}, "no_baseline_allowed", pairs(BETTER)
    ),
    "another table that is not there, with a holder": Case(
        {**PAIRED, "against": "u", "when_no_baseline": "pass"}, "baseline_metric_missing", pairs(BETTER), HELD
    ),
    "another column": Case(
        {
            "kind": "paired",
            "table": "t",
            "column": "new",
            "against_column": "old",
            "change_above": 0,
            "resamples": 999,
        },
        "passed",
        {"tables": {"t": (("new", "old"), list(zip(BETTER, NOISY, strict=True)))}},
    ),
    # Combinations.
    "all hold": Case(
        {"kind": "all", "rules": [{"metric": "a", "minimum": 1}, {"metric": "b", "minimum": 1}]},
        "passed",
        {"summary": {"a": 1, "b": 1}},
    ),
    "not all hold": Case(
        {"kind": "all", "rules": [{"metric": "a", "minimum": 1}, {"metric": "b", "minimum": 1}]},
        "not_all_hold",
        {"summary": {"a": 1}},
    ),
    "one holds": Case(
        {"kind": "any", "rules": [{"metric": "a", "minimum": 1}, {"metric": "b", "minimum": 1}]},
        "passed",
        {"summary": {"a": 1}},
    ),
    "one holds because nothing is there": Case(
        {
            "kind": "any",
            "rules": [{"metric": "a", "minimum": 1, "on_missing": "pass"}, {"metric": "b", "minimum": 1}],
        },
        "passed",
        {"summary": {"b": 0}},
    ),
    "none holds": Case(
        {"kind": "any", "rules": [{"metric": "a", "minimum": 1}, {"metric": "b", "minimum": 1}]},
        "none_holds",
        {"summary": {"a": 0}},
    ),
    "none holds, and a warning": Case(
        {"kind": "any", "severity": "warn", "rules": [{"metric": "a", "minimum": 1}]},
        "none_holds",
        {"summary": {}},
        result="warning",
    ),
    "combinations in combinations": Case(
        {
            "kind": "any",
            "rules": [
                {"kind": "all", "rules": [{"metric": "a", "minimum": 1}, {"metric": "b", "minimum": 1}]},
                {"metric": "c", "minimum": 1},
            ],
        },
        "passed",
        {"summary": {"a": 1, "c": 1}},
    ),
}
_HOLDS = ("passed", "no_baseline_allowed", "missing_allowed")


def verdict_of(case: Case, judge: Callable[..., Verdict], seen: Callable[..., RunEvidence]) -> Verdict:
    """Judge the case beside a rule that holds, without which a rule that only warns is no gate."""
    options: dict[str, Any] = {}
    if case.baseline != "none":
        given = {} if case.baseline == "lost" else case.baseline
        read = seen(**given) if set(given) & {"tables", "history", "summary"} else seen(given)
        options = {"baselines": {"holder": () if case.baseline == "lost" else (read,)}}
    others = {
        subject: runs and tuple(seen(**run) for run in runs) for subject, runs in (case.others or {}).items()
    }
    run = seen(**{**case.run, "summary": {"sound": 1, **case.run.get("summary", {})}})
    options["baselines"] = {**options.get("baselines", {}), **others}
    return judge([case.rule, {"metric": "sound", "minimum": 1}], run, **options)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_has_the_outcome_that_its_case_says(
    name: str, judge: Callable[..., Verdict], seen: Callable[..., RunEvidence]
) -> None:
    case = CASES[name]
    verdict = verdict_of(case, judge, seen)
    outcome = verdict.outcomes[0]
    expected = case.result or ("passed" if case.reason in _HOLDS else "failed")
    assert (outcome.reason, outcome.result) == (case.reason, expected), outcome.sentence
    assert verdict.passed is (expected != "failed")
    assert outcome.sentence in verdict.summary or expected == "passed"
    # What was judged survives XCom, and people can read it.
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json(), allow_nan=False))) == verdict
    assert outcome.rule.subject.replace("|", "\\|") in verdict.to_markdown()
    assert len({tuple(row) for row in verdict.rows()}) == 1


def test_there_are_cases_enough_for_every_reason() -> None:
    from wandb_airflow_provider.rules.outcome import REASONS

    elsewhere = {"too_many_slices"}
    assert len(CASES) >= 60
    assert REASONS - {case.reason for case in CASES.values()} == elsewhere


NOTHING_OR_B = {
    "kind": "any",
    "rules": [{"metric": "a", "minimum": 1, "on_missing": "pass"}, {"metric": "b", "minimum": 1}],
}
B_OR_NOTHING = {**NOTHING_OR_B, "rules": NOTHING_OR_B["rules"][::-1]}


@pytest.mark.parametrize(
    "rule",
    [
        NOTHING_OR_B,
        B_OR_NOTHING,
        {"kind": "any", "rules": [NOTHING_OR_B]},
        {"kind": "all", "rules": [NOTHING_OR_B]},
        {"kind": "any", "rules": [{"kind": "all", "rules": [{"metric": "b", "minimum": 1}]}, NOTHING_OR_B]},
    ],
)
def test_a_combination_that_holds_by_what_is_not_there_lets_nothing_pass_by_itself(
    rule: dict[str, Any], judge: Callable[..., Verdict], seen: Callable[..., RunEvidence]
) -> None:
    verdict = judge([rule], seen({"b": 0}))
    assert verdict.outcomes[0].passed
    assert not verdict.passed
    assert "no figure of it was seen" in verdict.summary
    with pytest.raises(WandbConfigurationError, match="contradicts itself"):
        Verdict.from_json(verdict.to_json() | {"passed": True})
    # By a figure that holds, in the same rule or beside it, it does.
    assert judge([rule], seen({"b": 1})).passed
    assert judge([rule, {"metric": "c", "minimum": 1}], seen({"b": 0, "c": 1})).passed


def test_a_combination_tells_of_the_figure_rather_than_of_what_is_not_there(
    judge: Callable[..., Verdict], seen: Callable[..., RunEvidence]
) -> None:
    assert judge([NOTHING_OR_B], seen({"b": 1})).outcomes[0].sentence.startswith("b = 1 satisfies")


def test_an_outcome_says_when_there_are_fewer_good_runs_than_asked_for(
    judge: Callable[..., Verdict], seen: Callable[..., RunEvidence]
) -> None:
    rule = {"metric": "m", "min_change": 0, "last_good": 3}

    def outcome(value: float, good: int) -> Any:
        runs = tuple(seen({"m": 3}) for _ in range(good))
        return judge([rule], seen({"m": value}), baselines={"last_good:3": runs}).outcomes[0]

    few, broken, enough = outcome(4, 1), outcome(2, 2), outcome(4, 3)
    assert (few.passed, few.details) == (True, {"baseline_runs": 1})
    assert few.sentence.endswith("; of 3 good runs there are 1")
    assert (broken.passed, broken.details) == (False, {"baseline_runs": 2})
    assert broken.sentence.endswith("; of 3 good runs there are 2")
    assert (enough.passed, enough.details) == (True, {"baseline_runs": 3})
    assert "good runs there" not in enough.sentence


def test_slices_that_read_alike_are_told_apart_for_people(
    judge: Callable[..., Verdict], seen: Callable[..., RunEvidence]
) -> None:
    rows = placed(("a, b", "c", 0.9, 2), ("a", "b, c", 0.1, 2), ("d", "e", 0.9, 2))
    verdict = judge([BY_TWO], seen(**rows))
    names = [part["name"] for part in verdict.outcomes[0].details["slices"]]
    assert sorted(names) == ["'a', 'b, c'", "'a, b', 'c'", "d, e"]
    assert "'a', 'b, c': 0.1 must be at least 0.5" in verdict.summary
    value = judge([BY_TWO], seen(**placed(("d", "e", 0.9, 2)))).to_json()
    value["outcomes"][0]["details"]["slices"] *= 2
    with pytest.raises(WandbConfigurationError, match="figures say otherwise"):
        Verdict.from_json(value)
