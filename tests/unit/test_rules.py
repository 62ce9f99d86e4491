from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.rules import MetricRule, Verdict, evaluate, parse_rules

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CANDIDATE = ArtifactRef("acme", "search", "encoder", "v4", "d" * 32, "model", source_run="acme/search/train1")
HOLDER = ArtifactRef(
    "org", "wandb-registry-model", "search", "v2", "e" * 32, "model", source="acme/search/encoder:v3"
)
RUN = RunRef("acme", "search", "eval1", url="https://example.test/eval1")


def judge(rules: Any, metrics: dict[str, Any], **options: Any) -> Verdict:
    if isinstance(rules, MetricRule):
        rules = [rules]
    return evaluate(rules, metrics, candidate=CANDIDATE, run=RUN, evaluated_at=NOW, **options)


@pytest.mark.parametrize(
    ("bounds", "value", "reason"),
    [
        ({"minimum": 0.8}, 0.8, "passed"),
        ({"minimum": 0.8}, 0.79999, "below_minimum"),
        ({"above": 0.8}, 0.8, "below_minimum"),
        ({"above": 0.8}, 0.80001, "passed"),
        ({"maximum": 10}, 10, "passed"),
        ({"maximum": 10}, 10.5, "above_maximum"),
        ({"below": 10}, 10, "above_maximum"),
        ({"below": 10}, 9, "passed"),
        ({"minimum": 0, "maximum": 1}, 0.5, "passed"),
        ({"minimum": 0, "maximum": 1}, -1, "below_minimum"),
        ({"minimum": 1, "maximum": 1}, 1, "passed"),
    ],
)
def test_an_absolute_bound_holds_or_fails(bounds: dict[str, float], value: float, reason: str) -> None:
    outcome = judge(MetricRule(metric="m", **bounds), {"m": value}).outcomes[0]
    assert (outcome.reason, outcome.passed) == (reason, reason == "passed")


@pytest.mark.parametrize(
    ("bounds", "value", "baseline", "reason"),
    [
        ({"min_change": 0}, 0.8, 0.8, "passed"),
        ({"min_change": 0}, 0.79, 0.8, "change_below_minimum"),
        ({"min_change": -0.01}, 0.79, 0.8, "passed"),
        ({"min_change": 0.05}, 0.85, 0.80, "passed"),
        ({"min_change": 0.05}, 0.8499, 0.80, "change_below_minimum"),
        ({"max_change": 5}, 105, 100, "passed"),
        ({"max_change": 5}, 106, 100, "change_above_maximum"),
        ({"max_change": 0.1, "relative": True}, 110, 100, "passed"),
        ({"max_change": 0.1, "relative": True}, 111, 100, "change_above_maximum"),
        ({"min_change": -0.1, "relative": True}, -110, -100, "passed"),
        ({"min_change": -0.1, "relative": True}, -111, -100, "change_below_minimum"),
        ({"min_change": 0, "relative": True}, 1, 0, "baseline_zero"),
        ({"max_change": 1}, 1e308, -1e308, "change_above_maximum"),
        ({"minimum": 0.9, "min_change": 0}, 0.8, 0.7, "below_minimum"),
    ],
)
def test_a_change_bound_compares_with_the_holder(
    bounds: dict[str, Any], value: float, baseline: float, reason: str
) -> None:
    outcome = judge(
        MetricRule(metric="m", **bounds), {"m": value}, baseline=HOLDER, baseline_metrics={"m": baseline}
    ).outcomes[0]
    assert (outcome.reason, outcome.passed) == (reason, reason == "passed")
    assert outcome.baseline_value == baseline


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ({}, "metric_missing"),
        ({"m": None}, "metric_missing"),
        ({"m": math.nan}, "metric_not_finite"),
        ({"m": "NaN"}, "metric_not_finite"),
        ({"m": math.inf}, "metric_not_finite"),
        ({"m": "-Infinity"}, "metric_not_finite"),
        ({"m": 10**400}, "metric_not_finite"),
        ({"m": True}, "metric_wrong_type"),
        ({"m": "0.9"}, "metric_wrong_type"),
        ({"m": [0.9]}, "metric_wrong_type"),
        ({"m": {"max": 0.9}}, "metric_wrong_type"),
    ],
)
def test_a_figure_that_is_no_finite_number_fails(metrics: dict[str, Any], reason: str) -> None:
    verdict = judge(MetricRule(metric="m", minimum=-1e300), metrics)
    assert not verdict.passed
    assert verdict.outcomes[0].reason == reason
    assert verdict.outcomes[0].value is None
    assert "m" in verdict.summary


@pytest.mark.parametrize(
    ("baseline_metrics", "reason"),
    [
        (None, "baseline_metric_missing"),
        ({}, "baseline_metric_missing"),
        ({"m": math.nan}, "baseline_not_finite"),
        ({"m": "0.5"}, "baseline_wrong_type"),
    ],
)
def test_a_holder_without_the_figure_fails_even_when_a_first_promotion_may_pass(
    baseline_metrics: dict[str, Any] | None, reason: str
) -> None:
    rule = MetricRule(metric="m", min_change=0, when_no_baseline="pass")
    verdict = judge(rule, {"m": 1.0}, baseline=HOLDER, baseline_metrics=baseline_metrics)
    assert not verdict.passed
    assert verdict.outcomes[0].reason == reason


def test_without_any_holder_a_change_bound_fails_unless_the_rule_allows_a_first_promotion() -> None:
    strict = judge(MetricRule(metric="m", min_change=0), {"m": 1.0})
    assert (strict.passed, strict.outcomes[0].reason) == (False, "no_baseline")
    lenient = MetricRule(metric="m", min_change=0, minimum=0.5, when_no_baseline="pass")
    assert judge(lenient, {"m": 1.0}).outcomes[0].reason == "no_baseline_allowed"
    assert judge(lenient, {"m": 0.4}).outcomes[0].reason == "below_minimum"


def test_a_baseline_can_be_measured_by_the_evaluated_run_itself() -> None:
    rule = MetricRule(metric="eval/mrr", min_change=0, against="production/mrr", when_no_baseline="pass")
    better = judge(rule, {"eval/mrr": 0.6, "production/mrr": 0.5}, baseline=HOLDER)
    assert (better.passed, better.outcomes[0].baseline_value) == (True, 0.5)
    worse = judge(rule, {"eval/mrr": 0.4, "production/mrr": 0.5}, baseline=HOLDER)
    assert worse.outcomes[0].reason == "change_below_minimum"
    forgotten = judge(rule, {"eval/mrr": 0.6}, baseline=HOLDER)
    assert forgotten.outcomes[0].reason == "baseline_metric_missing"
    first = judge(rule, {"eval/mrr": 0.6})
    assert first.outcomes[0].reason == "no_baseline_allowed"


def test_a_baseline_measured_by_the_evaluated_run_needs_no_holder() -> None:
    rule = MetricRule(metric="eval/mrr", min_change=0.2, against="untrained/mrr")
    assert judge(rule, {"eval/mrr": 0.6, "untrained/mrr": 0.3}).passed
    assert not judge(rule, {"eval/mrr": 0.4, "untrained/mrr": 0.3}).passed
    assert judge(rule, {"eval/mrr": 0.6}).outcomes[0].reason == "no_baseline"


def test_a_dot_reaches_into_a_nested_summary_value_and_an_exact_key_wins() -> None:
    rule = MetricRule(metric="eval.mrr.max", minimum=0.5)
    assert judge(rule, {"eval.mrr": {"max": 0.6}}).passed
    assert not judge(rule, {"eval.mrr": {"max": 0.6}, "eval.mrr.max": 0.1}).passed
    assert judge(rule, {"eval": {"mrr": {"min": 0}}}).outcomes[0].reason == "metric_missing"


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "m"},
        {"metric": "", "minimum": 1},
        {"metric": " ", "minimum": 1},
        {"metric": 3, "minimum": 1},
        {"metric": "m", "minimum": math.nan},
        {"metric": "m", "maximum": math.inf},
        {"metric": "m", "minimum": True},
        {"metric": "m", "minimum": "0.5"},
        {"metric": "m", "minimum": 10**400},
        {"metric": "m", "minimum": 2, "maximum": 1},
        {"metric": "m", "above": 1, "maximum": 1},
        {"metric": "m", "minimum": 1, "above": 0},
        {"metric": "m", "min_change": 0.2, "max_change": 0.1},
        {"metric": "m", "minimum": 1, "relative": True},
        {"metric": "m", "minimum": 1, "against": "n"},
        {"metric": "m", "minimum": 1, "when_no_baseline": "pass"},
        {"metric": "m", "min_change": 0, "when_no_baseline": "maybe"},
        {"metric": "m", "min_change": 0, "relative": "yes"},
        {"metric": "m", "min_change": 0, "against": ""},
    ],
)
def test_a_wrong_rule_is_refused_when_it_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(WandbConfigurationError):
        MetricRule(**options)


def test_a_rule_survives_json_and_names_an_unknown_option() -> None:
    rule = MetricRule(metric="m", minimum=0.5, min_change=-0.1, relative=True, against="p/m")
    assert MetricRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
    assert eval(repr(rule)) == rule
    assert repr(MetricRule(metric="m", minimum=0.5)) == "MetricRule(metric='m', minimum=0.5)"
    assert MetricRule.from_dict({"metric": "m", "minimum": "0.5"}).minimum == 0.5
    with pytest.raises(WandbConfigurationError, match="minimun"):
        MetricRule.from_dict({"metric": "m", "minimun": 0.5})
    with pytest.raises(WandbConfigurationError, match="abc"):
        MetricRule.from_dict({"metric": "m", "minimum": "abc"})
    with pytest.raises(WandbConfigurationError, match="lacks 'metric'"):
        MetricRule.from_dict({"minimum": 0.5})


@pytest.mark.parametrize("rules", [[], (), None, "m > 1", {"metric": "m", "minimum": 1}, [3], 7])
def test_no_rules_or_something_else_than_rules_is_an_error(rules: Any) -> None:
    with pytest.raises(WandbConfigurationError):
        parse_rules(rules)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(WandbConfigurationError, match="time zone"):
        evaluate(
            [MetricRule(metric="m", minimum=0)],
            {},
            candidate=CANDIDATE,
            run=RUN,
            evaluated_at=NOW.replace(tzinfo=None),
        )


def verdict_of_two(mrr: float = 0.6) -> Verdict:
    rules = [
        MetricRule(metric="eval/mrr", minimum=0.5),
        MetricRule(metric="a|b", max_change=0.1, relative=True),
    ]
    return judge(rules, {"eval/mrr": mrr, "a|b": 1.0}, baseline=HOLDER, baseline_metrics={"a|b": 1.0})


def test_a_verdict_survives_json() -> None:
    verdict = verdict_of_two()
    value = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert Verdict.from_json(value) == verdict
    assert (value["passed"], value["digest"]) == (True, CANDIDATE.digest)


@pytest.mark.parametrize(
    "forge",
    [
        lambda v: v | {"passed": True},
        lambda v: v | {"passed": 1},
        lambda v: v | {"format": 1},
        lambda v: v | {"surprise": 1},
        lambda v: {k: item for k, item in v.items() if k != "digest"},
        lambda v: v | {"digest": "f" * 32},
        lambda v: v | {"outcomes": []},
        lambda v: v | {"outcomes": "all fine"},
        lambda v: v | {"passed": True, "outcomes": [o | {"passed": True} for o in v["outcomes"]]},
        lambda v: v | {"outcomes": [o | {"value": "0.9"} for o in v["outcomes"]]},
        lambda v: v | {"outcomes": [o | {"reason": "because"} for o in v["outcomes"]]},
        lambda v: v | {"evaluated_at": "2026-03-01T12:00:00"},
        lambda v: v | {"evaluated_at": "yesterday"},
        lambda v: v | {"evaluated_at": None},
        lambda v: v | {"candidate": {"name": "x"}},
        lambda v: v | {"candidate": v["candidate"] | {"version": "latest"}},
        lambda v: v | {"run": "eval1"},
        lambda v: json.dumps(v),
        lambda v: None,
    ],
)
def test_a_verdict_that_contradicts_itself_or_is_none_is_refused(forge: Any) -> None:
    with pytest.raises(WandbConfigurationError):
        Verdict.from_json(forge(verdict_of_two(mrr=0.4).to_json()))


def test_a_failed_verdict_names_every_broken_rule() -> None:
    verdict = judge(
        [
            MetricRule(metric="x", minimum=1),
            MetricRule(metric="y", maximum=1),
            MetricRule(metric="z", above=0),
        ],
        {"x": 0, "y": 2, "z": 1},
    )
    assert [outcome.rule.metric for outcome in verdict.failed] == ["x", "y"]
    assert "x = 0: must be at least 1" in verdict.summary
    assert "y = 2: must be at most 1" in verdict.summary


def test_the_markdown_report_shows_figures_digest_and_escapes_table_cells() -> None:
    text = verdict_of_two(mrr=0.4).to_markdown()
    assert text.startswith("**Failed**")
    assert f"digest `{CANDIDATE.digest}`" in text
    assert "| eval/mrr | 0.4 | — | >= 0.5 | **failed**: eval/mrr = 0.4: must be at least 0.5 |" in text
    assert "| a\\|b | 1 | 1 | change <= +10 % | passed |" in text
    assert "[acme/search/eval1](https://example.test/eval1)" in text


figures = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@given(value=figures, baseline=figures)
def test_whatever_the_figures_a_verdict_is_json_and_agrees_with_itself(value: Any, baseline: Any) -> None:
    rules = [
        MetricRule(metric="m", minimum=0.0),
        MetricRule(metric="m", min_change=0.0, max_change=1.0, relative=True),
        MetricRule(metric="m", max_change=1.0),
    ]
    verdict = judge(rules, {"m": value}, baseline=HOLDER, baseline_metrics={"m": baseline})
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json(), allow_nan=False))) == verdict
    if isinstance(value, bool) or not isinstance(value, int | float):
        assert not verdict.passed
