"""What a report says where something is missing, not a number, or too long."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from wandb_airflow_provider.artifacts import ArtifactRef
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.reports.blocks import to_blocks
from wandb_airflow_provider.reports.facts import Dataset, ReportFacts, RunFacts, costs, flat, loss_metrics
from wandb_airflow_provider.reports.html import to_html
from wandb_airflow_provider.reports.markdown import to_markdown
from wandb_airflow_provider.reports.queries import QuerySource, changes, find_source, query_table
from wandb_airflow_provider.reports.sections import build_report
from wandb_airflow_provider.rules import RunEvidence, TableData, Verdict, evaluate

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CANDIDATE = ArtifactRef("e", "p", "m", "v1", "d1", "model")


def run(name: str, **more: Any) -> RunFacts:
    given = {"config": {}, "summary": {}, "state": "finished", "created_at": "2026-03-01T00:00:00Z", **more}
    return RunFacts(
        path=f"e/p/{name}", name=name, url=f"https://w/e/p/runs/{name}", job_type="train", **given
    )


def judged(rules: list[dict[str, Any]], summary: dict[str, Any], **more: Any) -> Verdict:
    return evaluate(
        rules, summary, candidate=CANDIDATE, run=RunRef("e", "p", "now"), evaluated_at=NOW, **more
    )


def facts(**more: Any) -> ReportFacts:
    given: dict[str, Any] = {
        "verdict": judged([{"metric": "mrr", "minimum": 0.5}], {"mrr": 0.6}),
        "evaluated": run("now", summary={"mrr": 0.6}),
        "training": None,
        "baseline": None,
        "baseline_training": None,
        "recent": [],
        "trainings": [],
        "days": 31,
        "histories": {},
        "datasets": None,
        "baseline_datasets": None,
        "queries": None,
        **more,
    }
    return ReportFacts(**given)


def markdown(found: ReportFacts) -> str:
    return to_markdown(build_report(found, "Title"))


def test_a_first_candidate_of_which_little_is_known_has_a_report_that_says_so() -> None:
    text = markdown(
        facts(missing=("The run that logged the candidate, e/p/x, is gone, or may not be read.",))
    )
    for line in (
        "- Baseline: none yet",
        "- The run that logged the candidate, e/p/x, is gone, or may not be read.",
        "| mrr | 0.6 | — | — | \\>= 0.5 | passed |",
        "No other run of this kind began in the last 31 days.",
        "there are no curves of it",
        "No rule judges a table of the run",
        "What the candidate was trained on is not known.",
        "There is no baseline to compare with.",
        "| Evaluation: seconds | — | — | — |",
        "No run has logged a cost.",
    ):
        assert line in text, line


def test_figures_that_are_missing_or_no_numbers_are_dashes_and_never_nan() -> None:
    rules = [
        {"metric": "mrr", "minimum": 0.5},
        {"metric": "absent", "maximum": 1},
        {"metric": "zero", "minimum": 0},
    ]
    summary = {"mrr": "NaN", "zero": 1.0, "broken": math.inf}
    before = run("before", summary={"mrr": math.nan, "zero": 0.0}, seconds=None)
    text = markdown(
        facts(verdict=judged(rules, summary), evaluated=run("now", summary=summary), baseline=before)
    )
    assert (
        "| mrr | — | — | — | \\>= 0.5 | FAILED: the evaluated run's mrr is not a finite number: 'NaN' |"
        in text
    )
    assert "| zero | 1 | 0 | +1 | \\>= 0 | passed |" in text
    table = text.partition("## Runs of")[2].partition("##")[0]
    assert "nan" not in table.lower()
    assert "inf" not in table.lower()


def test_long_configs_and_values_are_cut_and_what_is_left_out_is_counted() -> None:
    new = run(
        "new",
        config={**{f"key{n}": n for n in range(60)}, "text": "x" * 5_000, "airflow": {"git_commit": "a1"}},
    )
    old = run("old", config={"gone": 1, "airflow": {"git_commit": "b2"}})
    section = (
        markdown(facts(training=new, baseline_training=old)).partition("## Config")[2].partition("##")[0]
    )
    assert "| git commit | a1 | b2 |" in section
    assert section.count("\n| key") == 40
    assert "And 22 more." in section
    assert len(section) < 4_000
    short = run("new", config={"text": "x" * 5_000})
    section = (
        markdown(facts(training=short, baseline_training=old)).partition("## Config")[2].partition("##")[0]
    )
    assert "x" * 200 + "…" in section
    assert "x" * 201 not in section


def dataset(name: str, digest: str, **metadata: Any) -> Dataset:
    return Dataset(name, "dataset", "v3", digest, 1_234_567, None, metadata)


def test_data_that_was_kept_changed_added_and_dropped_are_told_apart() -> None:
    now = [dataset("same", "a"), dataset("other", "b", rows=2, kind="x"), dataset("new", "c")]
    before = [dataset("same", "a"), dataset("other", "z", rows=1, kind="x"), dataset("dropped", "d")]
    text = markdown(facts(training=run("t"), datasets=now, baseline_datasets=before))
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert rows["same"].endswith("1,234,567 | 1,234,567 | the same content |")
    assert rows["other"].endswith("| changed |")
    assert rows["new"].endswith("| v3 (c) | — | 1,234,567 | — | new |")
    assert rows["dropped"].endswith("| no longer used |")
    assert "| other: rows | 2 | 1 |" in text
    assert "other: kind" not in text


def test_costs_are_figures_whose_name_tells_of_money_tokens_or_energy() -> None:
    summary = {
        "cost/usd": 2.5,
        "train/total_cost": 3,
        "tokens": 100,
        "prompt_tokens": 60,
        "gpu_hours": 0.5,
        "energy_kwh": math.nan,
        "costume": 1,
        "tokenizer": 2,
        "cost": "much",
        "mrr": 0.5,
    }
    assert set(costs(run("r", summary=summary))) == {
        "cost/usd",
        "train/total_cost",
        "tokens",
        "prompt_tokens",
        "gpu_hours",
    }


def test_settings_are_the_users_own_and_losses_the_first_two() -> None:
    config = {"lr": 1, "airflow": {"dag_id": "d"}, "gate": {"rules": []}, "net": {"depth": 2, "empty": {}}}
    assert dict(flat(config)) == {"lr": 1, "net.depth": 2, "net.empty": {}}
    summary = {"_loss": 1, "eval/mrr": 1, "train/loss": 1, "val/Loss": 1, "other_loss": 1, "loss/other": 1}
    assert loss_metrics(summary) == ["train/loss", "val/Loss"]


ROWS = [["a", 1.0], ["b", 0.2], ["c", None], ["d", math.nan], ["e", 0.5], ["only now", 1.0]]
BEFORE = [["a", 0.5], ["b", 0.5], ["c", 0.5], ["e", 0.5], ["only before", 0.5]]


def tables(**given: Any) -> RunEvidence:
    return RunEvidence(
        {}, tables={name: TableData(("id", "rr", "old"), rows) for name, rows in given.items()}
    )


def test_examples_are_compared_by_their_key_with_losses_first_and_what_cannot_be_compared_last() -> None:
    source = QuerySource("ranks", "rr", "id")
    rows = changes(
        source, tables(ranks=[[*row, None] for row in ROWS]), tables(ranks=[[*row, None] for row in BEFORE])
    )
    assert rows is not None
    assert [(key, value, before) for key, value, before in rows[:3]] == [
        ("b", 0.2, 0.5),
        ("e", 0.5, 0.5),
        ("a", 1.0, 0.5),
    ]
    assert {key for key, _, _ in rows[3:]} == {"c", "d", "only now", "only before"}
    table, cells = query_table(source, rows)
    assert table.summary == "7 examples: 1 rose, 1 fell, 1 are as before, 4 cannot be compared."
    assert table.columns == ("id", "rr", "rr.baseline", "rr.change")
    assert len(cells) == 7


def test_of_many_examples_both_ends_are_shown() -> None:
    source = QuerySource("ranks", "rr", "id")
    now = tables(ranks=[[f"q{n}", n / 100, 0.5] for n in range(100)])
    rows = changes(source, now, tables(ranks=[[f"q{n}", 0.5, 0.5] for n in range(100)]))
    assert rows is not None
    table, cells = query_table(source, rows)
    assert [row[0] for row in cells] == [f"q{n}" for n in (*range(10), *range(90, 100))]
    assert table.summary.endswith("Shown are 20.")
    assert len(query_table(source, rows, whole=True)[1]) == 100
    alone = changes(source, now, None)
    assert alone is not None
    lonely, cells = query_table(source, alone)
    assert lonely.columns == ("id", "rr")
    assert [row[0] for row in cells] == [f"q{n}" for n in range(20)]


def test_the_baseline_may_be_another_column_or_table_of_the_same_run() -> None:
    now = tables(ranks=[["a", 1.0, 0.4]], others=[["a", 0.3, 0.0]])
    assert changes(QuerySource("ranks", "rr", None, against_column="old"), now, None) == [("0", 1.0, 0.4)]
    assert changes(QuerySource("ranks", "rr", "id", against="others"), now, None) == [("a", 1.0, 0.3)]
    assert changes(QuerySource("absent", "rr", "id"), now, None) is None
    assert changes(QuerySource("ranks", "absent", "id"), now, None) is None


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([{"metric": "mrr", "minimum": 0}], None),
        ([{"kind": "table", "table": "t", "column": "c", "minimum": 0}], QuerySource("t", "c")),
        (
            [
                {"kind": "table", "table": "t", "column": "c", "minimum": 0},
                {
                    "kind": "any",
                    "rules": [
                        {"metric": "mrr", "minimum": 0},
                        {
                            "kind": "paired",
                            "table": "q",
                            "column": "rr",
                            "key": "id",
                            "change_above": 0,
                            "baseline_run": "e/p/x",
                        },
                    ],
                },
            ],
            QuerySource("q", "rr", "id", subject="run:e/p/x"),
        ),
    ],
)
def test_the_examples_are_those_that_a_rule_judged_paired_ones_first(
    rules: list[dict[str, Any]], expected: Any
) -> None:
    assert find_source(judged(rules, {"mrr": 1.0})) == expected


def test_runs_of_two_projects_make_two_run_sets_and_candidate_and_baseline_are_marked() -> None:
    old = run("old")._replace(path="e/other/old")
    found = facts(
        training=run("new"),
        baseline_training=old,
        trainings=[run("new"), run("third")],
        histories={"loss": {"e/p/new": ((0.0, 1.0),)}, "val/loss": {}},
    )
    document = build_report(found, "Title")
    (grid,) = [block for block in to_blocks(document) if block["kind"] == "panels"]
    assert grid["metrics"] == ["loss", "val/loss"]
    assert [
        (place["project"], place["runs"], list(place["colors"].values())) for place in grid["places"]
    ] == [
        ("p", ["new", "third"], ["#2563eb"]),
        ("other", ["old"], ["#d97706"]),
    ]
    assert "No run has logged a finite value of val/loss." in to_html(document)
