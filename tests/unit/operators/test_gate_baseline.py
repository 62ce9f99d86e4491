"""What the gate compares with: the holder's run, the last good runs, or a metric of the same run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.operators.conftest import GOOD, gate, own_run
from wandb_airflow_provider.exceptions import WandbGateFailedError
from wandb_airflow_provider.hooks.audit_log import AuditLog
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.promotion import PromotionRecord, TaskMark
from wandb_airflow_provider.registry import RegistryAlias
from wandb_airflow_provider.rules import MetricRule, Verdict, evaluate


def test_a_change_rule_compares_with_the_run_of_the_current_holder(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any], unique: str
) -> None:
    _, held = log_run({"eval/mrr": 0.7}, "production weights")
    hook.link_to_registry(held, "model", unique, ["production"])
    run, version = log_run({"eval/mrr": 0.6}, "new weights")
    arguments = {"run": run.path, "baseline_registry": "model", "baseline_collection": unique}
    rule = MetricRule(metric="eval/mrr", min_change=-0.05)
    worse = run_task(gate(rules=[rule], candidate=version.path, **arguments))
    assert worse.state == "failed"
    verdict = Verdict.from_json(worse.xcom())
    assert (verdict.outcomes[0].baseline_value, verdict.outcomes[0].reason) == (0.7, "change_below_minimum")
    assert verdict.baseline is not None
    assert verdict.baseline.digest == held.digest
    lenient = MetricRule(metric="eval/mrr", min_change=-0.1)
    better = run_task(gate(rules=[lenient], candidate=version.path, **arguments))
    assert (better.state, better.error) == ("success", None), str(better.error)


def test_without_a_holder_a_change_rule_fails_unless_it_allows_a_first_promotion(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any], unique: str
) -> None:
    run, version = log_run({"eval/mrr": 0.6}, "weights")
    arguments = {"run": run.path, "candidate": version.path}
    arguments |= {"baseline_registry": "model", "baseline_collection": unique}
    strict = run_task(gate(rules=[MetricRule(metric="eval/mrr", min_change=0)], **arguments))
    assert strict.xcom()["outcomes"][0]["reason"] == "no_baseline"
    rule = MetricRule(metric="eval/mrr", min_change=0, when_no_baseline="pass")
    finished = run_task(gate(rules=[rule], **arguments))
    assert (finished.state, finished.error) == ("success", None), str(finished.error)


def test_a_baseline_measured_by_the_evaluated_run_needs_no_registry(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    run, version = log_run({"eval/mrr": 0.6, "untrained/mrr": 0.3}, "weights")
    rule = {"metric": "eval/mrr", "min_change": 0.2, "against": "untrained/mrr"}
    finished = run_task(gate(rules=[rule], run=run.path, candidate=version.path))
    assert (finished.state, finished.error) == ("success", None), str(finished.error)


def test_a_holder_whose_run_did_not_finish_is_no_baseline(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any], unique: str
) -> None:
    crashed, held = log_run({"eval/mrr": 0.1}, "production weights", exit_code=1)
    hook.link_to_registry(held, "model", unique, ["production"])
    run, version = log_run({"eval/mrr": 0.6}, "new weights")
    arguments = {"run": run.path, "candidate": version.path}
    arguments |= {"baseline_registry": "model", "baseline_collection": unique}
    change = MetricRule(metric="eval/mrr", min_change=0, when_no_baseline="pass")
    finished = run_task(gate(rules=[GOOD, change], retries=2, **arguments))
    assert (finished.state, finished.xcom()) == ("failed", None)
    assert isinstance(finished.error, WandbGateFailedError)
    assert f"{crashed.path}, is 'failed', not 'finished'" in str(finished.error)
    (entry,) = AuditLog(hook, "model", unique).entries()
    assert (entry.event, entry.why) == ("refused", str(finished.error))
    # A rule that does not compare does not look at it.
    assert run_task(gate(rules=[GOOD], **arguments)).state == "success"


def test_a_run_is_not_compared_with_itself(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any], unique: str
) -> None:
    run, held = log_run({"eval/mrr": 0.1}, "production weights")
    hook.link_to_registry(held, "model", unique, ["production"])
    _, version = log_run({"eval/mrr": 0.6}, "new weights")
    arguments = {"run": run.path, "baseline_registry": "model", "baseline_collection": unique}
    change = MetricRule(metric="eval/mrr", min_change=0)
    both = run_task(gate(rules=[change], candidate=version.path, check_candidate_use=False, **arguments))
    assert isinstance(both.error, WandbGateFailedError)
    assert f"{run.path} is behind both {version}" in str(both.error)
    named = MetricRule(metric="eval/mrr", min_change=0, baseline_run=run.path)
    itself = run_task(gate(rules=[named], run=run.path, candidate=held.path))
    assert isinstance(itself.error, WandbGateFailedError)
    assert "with itself" in str(itself.error)
    # The holder judged again is as good as it was.
    again = run_task(gate(rules=[change], candidate=held.path, **arguments))
    assert (again.state, again.xcom()["outcomes"][0]["baseline_value"]) == ("success", 0.1)


def test_a_promotion_record_copied_from_another_version_names_no_baseline(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any], unique: str
) -> None:
    weak, other = log_run({"eval/mrr": 0.1}, "weak weights")
    _, held = log_run({"eval/mrr": 0.7}, "production weights")
    verdict = evaluate(
        [MetricRule(metric="eval/mrr", minimum=0)],
        {"eval/mrr": 0.1},
        candidate=other,
        run=weak,
        evaluated_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    record = PromotionRecord(
        target=RegistryAlias("model", unique, "production"),
        state="completed",
        verdict=verdict,
        previous=None,
        approval=None,
        note=None,
        task=TaskMark("weekly", "manual__0", "promote"),
        wandb_run=weak.path,
        at="2026-03-01T00:00:00+00:00",
    )
    hook.update_artifact_metadata(held, record.added_to({}))
    hook.link_to_registry(held, "model", unique, ["production"])
    run, version = log_run({"eval/mrr": 0.6}, "new weights")
    finished = run_task(
        gate(
            rules=[MetricRule(metric="eval/mrr", min_change=0)],
            run=run.path,
            candidate=version.path,
            baseline_registry="model",
            baseline_collection=unique,
        )
    )
    outcome = finished.xcom()["outcomes"][0]
    assert (outcome["baseline_value"], outcome["reason"]) == (0.7, "change_below_minimum")


def test_the_last_good_runs_are_evaluated_ones_and_not_those_of_the_gates(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    """Runs without a job type are compared with all of the project, among which are those of the gates."""
    rolling = {"metric": "eval/mrr", "min_change": 0, "last_good": 2, "when_no_baseline": "pass"}
    for mrr, baseline, runs in ((0.6, None, None), (0.7, 0.6, 1), (0.8, 0.65, 2)):
        run, version = log_run({"eval/mrr": mrr}, f"weights {mrr}")
        assert hook.get_run(run).job_type is None
        operator = gate(rules=[rolling], run=run.path, candidate=version.path)
        # Each gate has a run of its own, which has finished when the next one looks.
        finished = run_task(operator, dag_run_id=f"weekly-{mrr}")
        assert finished.state == "success", finished.error
        outcome = finished.xcom()["outcomes"][0]
        assert outcome["baseline_value"] == pytest.approx(baseline)
        assert outcome["details"].get("baseline_runs") == runs
        assert own_run(hook, finished).summary["gate/passed"] is True
