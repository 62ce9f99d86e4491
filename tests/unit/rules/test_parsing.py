"""Rules from dicts and YAML, their schema, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.rules import AgeRule, AllOf, AnyOf, MetricRule, PairedRule, TableRule, load_rules
from wandb_airflow_provider.rules.parsing import parse_rule, parse_rules, rules_schema
from wandb_airflow_provider.rules.units import parse_quantity

ROOT = Path(__file__).parents[3]
EVERY = [
    MetricRule(metric="m", minimum=0.5, samples="n", min_samples=10),
    MetricRule(metric="m", aggregate="mean", window=5, max_change=0.1, relative=True, last_good=3),
    MetricRule(metric="m", min_change=0.1, baseline_run="e/p/r", when_no_baseline="pass"),
    TableRule(table="t", column="c", by=("a", "b"), min_samples=5, expect=("x, y",), minimum=0.5, on_missing="warn"),
    TableRule(table="t", column="c", by="a", min_change=0.0, against="u"),
    AgeRule(max_age=60.0, timestamp="at", severity="warn"),
    PairedRule(table="t", column="c", key="id", change_above=0.0, test="permutation", confidence=0.99),
    PairedRule(table="t", column="c", against_column="d", change_below=0.0, max_unpaired=0.1),
    AnyOf(rules=(MetricRule(metric="m", above=1), AllOf(rules=(AgeRule(max_age=1),)))),
]  # fmt: skip
METRIC = {"metric": "m", "minimum": 1}
TABLE = {"kind": "table", "table": "t", "column": "c", "minimum": 1}
PAIRED = {"kind": "paired", "table": "t", "column": "c", "key": "id", "change_above": 0}

WRONG: list[Any] = [
    {"kind": "metrics", **METRIC},
    {"kind": ["metric"], **METRIC},
    {"kind": "table", **METRIC},
    {**METRIC, "severity": "stop"},
    {**METRIC, "on_missing": "ignore"},
    {**METRIC, "aggregate": "mode"},
    {**METRIC, "window": 5},
    {**METRIC, "aggregate": "mean", "window": 0},
    {**METRIC, "aggregate": "slope", "window": 1},
    {**METRIC, "aggregate": "mean", "window": 2, "min_samples": 3},
    {**METRIC, "aggregate": "mean", "samples": "n", "min_samples": 2},
    {**METRIC, "min_samples": 5},
    {**METRIC, "samples": "n"},
    {**METRIC, "last_good": 3},
    {"metric": "m", "min_change": 0, "last_good": 0},
    {"metric": "m", "min_change": 0, "last_good": True},
    {"metric": "m", "min_change": 0, "last_good": 2, "baseline_run": "e/p/r"},
    {"metric": "m", "min_change": 0, "baseline_run": "r"},
    {"metric": "m", "minimum": "1 s"},
    {"metric": "m", "minimum": "1 kg", "unit": "s"},
    {"metric": "m", "min_change": "5 %"},
    {"kind": "table", "table": "t", "minimum": 1},
    {**TABLE, "minimum": None},
    {**TABLE, "aggregate": "p95"},
    {**TABLE, "by": [3]},
    {**TABLE, "expect": ["x"]},
    {**TABLE, "min_samples": 0},
    {**TABLE, "min_samples": None},
    {**TABLE, "when_no_baseline": "pass"},
    {**PAIRED, "change_below": 1},
    {**PAIRED, "change_above": None},
    {**PAIRED, "key": None},
    {**PAIRED, "test": "t-test"},
    {**PAIRED, "confidence": 95},
    {**PAIRED, "confidence": 0.5},
    {**PAIRED, "resamples": 10},
    {**PAIRED, "resamples": 99, "confidence": 0.999},
    {**PAIRED, "max_unpaired": 1},
    {**PAIRED, "against": "u", "against_column": "d"},
    {**PAIRED, "seed": -1},
    {"metric": "m", "min_change": 0, "against": "m"},
    {"kind": "table", "table": "t", "column": "c", "min_change": 0, "against": "t"},
    {**PAIRED, "against": "t"},
    {**PAIRED, "against_column": "c"},
    {"kind": "age", "max_age": 0},
    {"kind": "age", "max_age": "soon"},
    {"kind": "age", "max_age": "1 GB"},
    {"kind": "any", "rules": []},
    {"kind": "any", "rules": METRIC},
    {"kind": "any", "rules": [{**METRIC, "severity": "warn"}]},
    {"kind": "all", "rules": [{**METRIC, "on_missing": "warn"}]},
    {"kind": "all", "rules": [METRIC], "on_missing": "pass"},
    {"kind": "all", "rules": ["m > 1"]},
]  # fmt: skip


@pytest.mark.parametrize("rule", EVERY, ids=str)
def test_a_rule_survives_json_and_satisfies_the_schema(rule: Any) -> None:
    value = json.loads(json.dumps(rule.to_dict()))
    assert parse_rule(value) == rule
    assert hash(parse_rule(value)) == hash(rule)
    # Airflow copies operators, and their arguments with them.
    assert copy.deepcopy(rule) == pickle.loads(pickle.dumps(rule)) == rule
    assert eval(repr(rule)) == rule
    jsonschema.validate([value], rules_schema(), jsonschema.Draft202012Validator)


@pytest.mark.parametrize("value", WRONG, ids=lambda value: json.dumps(value)[:80])
def test_a_wrong_rule_is_refused(value: Any) -> None:
    with pytest.raises(WandbConfigurationError):
        parse_rules([value])


def test_a_rule_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot be changed"):
        EVERY[0].metric = "other"  # type: ignore[misc, union-attr]


def test_a_gate_of_rules_that_only_warn_is_refused() -> None:
    with pytest.raises(WandbConfigurationError, match="only warns"):
        parse_rules([{**METRIC, "severity": "warn"}])


@pytest.mark.parametrize("kind", [MetricRule, TableRule, AgeRule, PairedRule, AllOf, AnyOf])
def test_the_schema_knows_the_options_of_each_kind_and_their_defaults(kind: Any) -> None:
    known = rules_schema()["$defs"][kind.kind]
    assert set(known["properties"]) == {"kind", *kind.fields}
    required = {name for name, default in kind.fields.items() if default is ...}
    assert set(known["required"]) - {"kind"} == required
    for name, value in kind.fields.items():
        if isinstance(value, str) and "enum" in known["properties"][name]:
            assert value in known["properties"][name]["enum"]


@pytest.mark.parametrize(
    "value",
    [
        {**METRIC, "minimun": 1},
        {"metric": "m"},
        {**METRIC, "severity": "stop"},
        {"kind": "other"},
        {**PAIRED, "key": 3},
    ],
)
def test_the_schema_refuses_what_an_editor_can_mark(value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([value], rules_schema(), jsonschema.Draft202012Validator)


def test_the_shipped_file_of_rules_satisfies_the_schema_and_is_read() -> None:
    import yaml

    file = ROOT / "dags" / "gate_rules.yaml"
    jsonschema.validate(
        yaml.safe_load(file.read_text("utf-8")), rules_schema(), jsonschema.Draft202012Validator
    )
    rules = parse_rules(load_rules(file))
    assert [rule.kind for rule in rules] == ["metric", "metric", "table", "paired", "age", "metric"]
    assert rules[5].maximum == 0.2  # type: ignore[attr-defined]
    assert rules[4].max_age == 86400  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "content",
    [
        "rules: [",
        "just text",
        "[]",
        "rules: {metric: m}",
        "- {metric: m}",
        "other: []",
        "- {metric: a, minimum: 1, metric: b}",
        "rules: [{metric: a, minimum: 1}]\nrules: [{metric: b, minimum: 1}]",
    ],
)
def test_a_wrong_file_is_named(content: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(content)
    with pytest.raises(WandbConfigurationError, match=r"rules\.yaml"):
        load_rules(file)
    with pytest.raises(WandbConfigurationError, match=r"nothing\.yaml"):
        load_rules(tmp_path / "nothing.yaml")


def test_a_rule_that_a_forgotten_dash_would_hide_is_refused() -> None:
    one, other = "- metric: a\n  minimum: 0.5\n", "  metric: b\n  minimum: 0.1\n"
    with pytest.raises(WandbConfigurationError, match="'metric' is given twice"):
        parse_rules(one + other)
    # What a merge key brings may be given again: that is what it is for.
    merged = "- &common {metric: a, minimum: 0.5}\n- {<<: *common, metric: b}\n"
    assert [str(rule) for rule in parse_rules(merged)] == ["a >= 0.5", "b >= 0.5"]


def test_a_file_with_templates_is_checked_once_they_are_rendered(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("- {metric: m, minimum: '{{ params.least }}'}")
    assert load_rules(file) == [{"metric": "m", "minimum": "{{ params.least }}"}]


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [
        ("0.5", None, 0.5),
        (" -1e3 ", "s", -1000.0),
        ("200 ms", "s", 0.2),
        ("200ms", "ms", 200.0),
        ("1.5 h", "min", 90.0),
        ("7 d", "s", 604800.0),
        ("1 GiB", "MiB", 1024.0),
        ("5 %", "share", 0.05),
        ("50 %", "%", 50.0),
        ("3 USD", "USD", 3.0),
    ],
)
def test_a_quantity_is_converted_to_the_unit_of_its_metric(
    text: str, unit: str | None, number: float
) -> None:
    assert parse_quantity(text, unit) == pytest.approx(number, rel=1e-15)
