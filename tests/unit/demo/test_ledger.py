from __future__ import annotations

from typing import Any

import pytest

from wandb_airflow_provider.demo.airflow_records import DagRun
from wandb_airflow_provider.demo.ledger import AliasHolder, Decision, WatchedAlias, build_tree
from wandb_airflow_provider.demo.result import (
    render_alias,
    render_dag_run,
    render_decisions,
    render_tree,
    render_verdict,
)


def record(name: str, parent: str | None, **fields: Any) -> dict[str, Any]:
    return {
        "path": f"team/project/{name}",
        "url": f"http://wandb/{name}",
        "name": name,
        "state": "finished",
        "config": {"airflow": {"parent_run": f"team/project/{parent}" if parent else None}},
        "summary": {},
        "created_at": "2026-01-05T06:00:00Z",
        "heartbeat_at": "2026-01-05T06:00:12Z",
        **fields,
    }


@pytest.mark.parametrize(
    ("uri", "alias"),
    [
        (
            "wandb://registry/model/retriever?alias=production",
            WatchedAlias("model", "retriever", "production"),
        ),
        (
            "wandb://registry/my%20models/retriever?alias=prod%2Feu&conn=x",
            WatchedAlias("my models", "retriever", "prod/eu"),
        ),
        ("wandb://registry/model/retriever", None),
        ("wandb://registry/retriever?alias=production", None),
        ("wandb://elsewhere/model/retriever?alias=production", None),
        ("s3://bucket/key?alias=production", None),
    ],
)
def test_alias_is_read_from_the_asset_that_a_dag_is_scheduled_on(
    uri: str, alias: WatchedAlias | None
) -> None:
    assert WatchedAlias.from_uri(uri) == alias


def test_tree_follows_the_parents_that_the_runs_name_themselves() -> None:
    records = [
        record("root", None),
        record("train", "root", summary={"loss": 0.25, "_step": 3, "airflow/task_seconds": 9, "ok": True}),
        record("evaluate", "root", state="failed", summary={"airflow/reason": "ValueError: no data"}),
        record("deploy", "train"),
        record("stray", "elsewhere"),
    ]

    roots = build_tree(records)

    assert render_tree(roots) == [
        "  root          finished     12.0 s",
        "  ├─ train      finished     12.0 s  loss=0.25",
        "  │  └─ deploy  finished     12.0 s",
        "  └─ evaluate   failed       12.0 s  (ValueError: no data)",
        "  stray         finished     12.0 s",
    ]


def test_metrics_that_the_gate_judged_come_first() -> None:
    summary = {"a": 1, "b": 2, "c": 3, "train/loss": 4, "production/mrr": 5, "eval/mrr": 6}
    rule = {"metric": "eval/mrr", "min_change": 0.0, "against": "production/mrr"}

    (line,) = render_tree(build_tree([record("run", None, summary=summary)]), {"outcomes": [{"rule": rule}]})

    assert line.endswith("eval/mrr=6  production/mrr=5  train/loss=4  a=1")


def test_a_run_that_names_no_parent_or_itself_is_a_root() -> None:
    roots = build_tree([record("a", "a"), record("b", None, config={}, heartbeat_at=None)])

    assert [(root.name, root.duration) for root in roots] == [("a", 12.0), ("b", None)]


def test_verdict_is_shown_rule_by_rule() -> None:
    outcome = {"metric": "eval/mrr", "threshold": ">= 0.5", "value": 0.61234, "passed": True}
    verdict = {
        "passed": False,
        "summary": "team/project/model:v3 failed 1 of 2 rules.",
        "outcomes": [
            {**outcome, "baseline_value": None},
            {**outcome, "metric": "hit@1", "value": 0.2, "baseline_value": 0.4, "passed": False},
        ],
    }

    assert render_verdict(verdict) == [
        "  FAILED: team/project/model:v3 failed 1 of 2 rules.",
        "    ok   eval/mrr = 0.6123 (>= 0.5)",
        "    FAIL hit@1 = 0.2 (>= 0.5, baseline 0.4)",
    ]


def test_alias_is_shown_before_and_after() -> None:
    alias = WatchedAlias("model", "retriever", "production")
    holder = AliasHolder("v0", "0123456789abcdef", "team/project/retriever:v4", None)

    assert render_alias(alias, None, holder) == [
        "  model/retriever:production",
        "    before: nobody",
        "    after:  v0 (digest 0123456789ab, from team/project/retriever:v4)",
    ]
    assert render_alias(alias, holder, holder)[2].endswith("(unchanged)")


def test_a_missing_dag_run_is_said_to_be_missing() -> None:
    run = DagRun("deploy", "r1", "running", "asset_triggered", None, None, None, {})

    assert render_dag_run(None, None) == ["  no run"]
    assert render_dag_run(run, "http://airflow/deploy") == [
        "  deploy / r1: running",
        "  http://airflow/deploy",
    ]


def test_the_last_decisions_of_the_audit_are_shown_without_what_was_only_intended() -> None:
    decisions = [
        Decision("v0", "verdict passed", "task gate", "passed\nall"),
        Decision("v1", "promotion intended", "alice", ""),
        Decision("v2", "promotion done", "alice", "x" * 200),
    ]

    assert render_decisions([]) == ["  none"]
    assert render_decisions(decisions) == [
        "  v0   verdict passed  task gate  passed all",
        f"  v2   promotion done  alice      {'x' * 89}…",
    ]
    assert len(render_decisions(decisions * 10)) == 6
