"""What holds for every gate, whatever its rules and whatever was read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wandb_airflow_provider.rules import (
    AgeRule,
    AllOf,
    AnyOf,
    MetricRule,
    Outcome,
    Rule,
    RunEvidence,
    TableData,
    TableRule,
    Verdict,
)
from wandb_airflow_provider.rules.evidence import HOLDER

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
METRICS = ("a", "b")
LANGUAGES = ("en", "de")
POLICIES = ("fail", "warn", "pass")
# The same examples each time: what a longer search finds becomes a case of its own.
lenient = settings(deadline=None, max_examples=100, derandomize=True)

bounds = st.floats(-2, 2, allow_nan=False)
severities = st.sampled_from(("block", "warn"))
cells = st.floats(-2, 2) | st.none() | st.just(math.nan) | st.just("x") | st.booleans()


@st.composite
def common(draw: Any, *, strict: bool) -> dict[str, Any]:
    if strict:
        return {}
    return {"severity": draw(severities), "on_missing": draw(st.sampled_from(POLICIES))}


@st.composite
def plain_rules(draw: Any, strict: bool = False, inside: bool = False) -> Rule:
    options = draw(common(strict=strict))
    if inside and not strict:
        # What is in a combination cannot only warn, and may let pass what is missing.
        options = {"severity": "block", "on_missing": draw(st.sampled_from(("fail", "pass")))}
    kind = draw(st.sampled_from(("summary", "history", "change", "table", "table change", "age")))
    if not strict and kind in ("change", "table change"):
        options["when_no_baseline"] = draw(st.sampled_from(("fail", "pass") if inside else POLICIES))
    side = draw(st.sampled_from(("minimum", "maximum")))
    if kind == "summary":
        return MetricRule(metric=draw(st.sampled_from(METRICS)), **{side: draw(bounds)}, **options)
    if kind == "history":
        aggregate = draw(st.sampled_from(("last", "min", "max", "mean", "slope")))
        return MetricRule(metric="h", aggregate=aggregate, **{side: draw(bounds)}, **options)
    if kind == "change":
        return MetricRule(metric=draw(st.sampled_from(METRICS)), min_change=draw(bounds), **options)
    if kind == "age":
        return AgeRule(max_age=draw(st.floats(1, 1e6)), **options)
    table = {
        "table": "t",
        "column": "v",
        "by": draw(st.sampled_from(((), ("g",)))),
        "min_samples": draw(st.integers(1, 3)),
    }
    if kind == "table":
        return TableRule(**table, **{side: draw(bounds)}, **options)
    return TableRule(**table, min_change=draw(bounds), **options)


@st.composite
def combinations(draw: Any, strict: bool = False, severity: str | None = None) -> Rule:
    rules = draw(st.lists(plain_rules(strict, inside=True), min_size=1, max_size=3))
    kind = draw(st.sampled_from((AnyOf, AllOf)))
    return kind(rules=tuple(rules), severity="block" if strict else severity or draw(severities))


@st.composite
def any_rules(draw: Any, strict: bool = False) -> Rule:
    if draw(st.integers(0, 4)):
        return draw(plain_rules(strict))
    return draw(combinations(strict))


@st.composite
def runs(draw: Any) -> RunEvidence:
    summary = {name: draw(cells) for name in METRICS if draw(st.booleans())}
    history = {"h": list(enumerate(draw(st.lists(cells, max_size=4))))} if draw(st.booleans()) else {}
    rows = [[draw(st.sampled_from(LANGUAGES)), draw(cells)] for _ in range(draw(st.integers(0, 6)))]
    tables = {"t": TableData(("g", "v"), rows)} if draw(st.booleans()) else {}
    age = draw(st.none() | st.floats(-1e6, 1e6))
    return RunEvidence(summary, history, tables, None if age is None else NOON - timedelta(seconds=age))


holders = st.none() | st.just(()) | st.tuples(runs())


def blocks(rule: Rule) -> bool:
    return rule.severity == "block"


gates = st.lists(any_rules(), min_size=1, max_size=5).filter(lambda rules: any(map(blocks, rules)))


def without(run: RunEvidence) -> Iterator[RunEvidence]:
    """Each way to see less of a run."""
    for name in run.summary:
        yield run._replace(summary={key: value for key, value in run.summary.items() if key != name})
    yield run._replace(history={})
    yield run._replace(tables={})
    yield run._replace(ended_at=None)


@lenient
@given(rules=st.lists(any_rules(strict=True), min_size=1, max_size=4), run=runs(), holder=holders)
def test_a_gate_never_passes_on_data_that_it_did_not_see(
    judge: Callable[..., Verdict], rules: list[Rule], run: RunEvidence, holder: Any
) -> None:
    assert not judge(rules, RunEvidence({}), baselines={HOLDER: holder}).passed
    verdict = judge(rules, run, baselines={HOLDER: holder})
    for less in without(run):
        changed = judge(rules, less, baselines={HOLDER: holder})
        # What is seen less can never turn a failure into a pass.
        assert verdict.passed or not changed.passed
        for before, after in zip(verdict.outcomes, changed.outcomes, strict=True):
            assert before.passed or not after.passed
    if any(rule.needs_baseline and not isinstance(rule, AnyOf) for rule in rules):
        assert not judge(rules, run, baselines={HOLDER: None}).passed
        assert not judge(rules, run, baselines={HOLDER: ()}).passed


@lenient
@given(rules=gates, holder=holders)
def test_whatever_the_policies_nothing_passes_of_which_nothing_was_seen(
    judge: Callable[..., Verdict], rules: list[Rule], holder: Any
) -> None:
    assert not judge(rules, RunEvidence({}), baselines={HOLDER: holder}).passed


def rests_on_a_figure(outcome: Outcome) -> bool:
    """Whether a figure of the candidate is what lets the outcome hold, or only warn."""
    if outcome.parts:
        return any(part.passed and rests_on_a_figure(part) for part in outcome.parts)
    return outcome.value is not None and not outcome.stops


@pytest.mark.slow
@settings(lenient, max_examples=200)
@given(
    rules=st.lists(combinations(severity="block"), min_size=1, max_size=1) | gates, run=runs(), holder=holders
)
def test_whatever_the_policies_what_passes_has_shown_a_figure_that_holds_to_a_rule_that_blocks(
    judge: Callable[..., Verdict], rules: list[Rule], run: RunEvidence, holder: Any
) -> None:
    verdict = judge(rules, run, baselines={HOLDER: holder})
    blocking = [outcome for outcome in verdict.outcomes if blocks(outcome.rule)]
    assert not verdict.passed or any(map(rests_on_a_figure, blocking))


@lenient
@given(rules=gates, more=any_rules(), run=runs(), holder=holders)
def test_a_rule_more_never_turns_a_failure_by_a_rule_into_a_pass(
    judge: Callable[..., Verdict], rules: list[Rule], more: Rule, run: RunEvidence, holder: Any
) -> None:
    before = judge(rules, run, baselines={HOLDER: holder})
    after = judge([*rules, more], run, baselines={HOLDER: holder})
    added = after.outcomes[-1]
    assert len(after.failed) == len(before.failed) + added.stops
    assert not (before.failed and after.passed)
    assert not (added.stops and after.passed)


@lenient
@given(rules=gates, run=runs(), holder=holders, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_rules_does_not_matter(
    judge: Callable[..., Verdict], rules: list[Rule], run: RunEvidence, holder: Any, shuffle: Any
) -> None:
    order = list(range(len(rules)))
    shuffle.shuffle(order)
    verdict = judge(rules, run, baselines={HOLDER: holder})
    shuffled = judge([rules[index] for index in order], run, baselines={HOLDER: holder})
    assert shuffled.passed is verdict.passed
    assert [shuffled.outcomes[order.index(index)] for index in range(len(rules))] == list(verdict.outcomes)


@lenient
@given(rules=gates, run=runs(), holder=holders)
def test_every_verdict_is_json_that_agrees_with_itself(
    judge: Callable[..., Verdict], rules: list[Rule], run: RunEvidence, holder: Any
) -> None:
    verdict = judge(rules, run, baselines={HOLDER: holder})
    value = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert Verdict.from_json(value) == verdict
    assert verdict.to_markdown()


@lenient
@given(rules=gates, run=runs(), holder=holders)
def test_a_verdict_whose_failure_was_edited_away_is_refused(
    judge: Callable[..., Verdict], rules: list[Rule], run: RunEvidence, holder: Any
) -> None:
    from wandb_airflow_provider.exceptions import WandbConfigurationError

    verdict = judge(rules, run, baselines={HOLDER: holder})
    if not verdict.failed:
        return
    value = verdict.to_json()
    value["passed"] = True
    with pytest.raises(WandbConfigurationError):
        Verdict.from_json(value)
    value["outcomes"] = [outcome | {"passed": True, "reason": "passed"} for outcome in value["outcomes"]]
    with pytest.raises(WandbConfigurationError):
        Verdict.from_json(value)
