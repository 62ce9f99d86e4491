"""What the gate makes of a candidate and its rules in each mode, and what it refuses to judge."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator

from tests.unit.operators.conftest import GOOD, gate, own_run
from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbGateFailedError,
    WandbNotFoundError,
)
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.operators.gate import WandbMetricGateOperator
from wandb_airflow_provider.rules import MetricRule, Verdict


def test_a_candidate_that_satisfies_its_rules_passes_and_the_verdict_holds_w_and_bs_digest(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    run, version = log_run({"eval/mrr": 0.6}, "weights")
    finished = run_task(gate(rules=[GOOD], run=run.to_json(), candidate=version.to_json()))
    assert (finished.state, finished.error) == ("success", None), str(finished.error)
    verdict = Verdict.from_json(finished.xcom())
    assert verdict.passed
    assert finished.xcom() == finished.xcom("wandb_verdict")
    assert verdict.digest == version.digest
    assert verdict.outcomes[0].value == 0.6
    record = own_run(hook, finished)
    assert record.state == "finished"
    assert record.summary["gate/passed"] is True
    assert record.config["gate"]["digest"] == version.digest
    assert record.summary["gate/outcomes"]["_type"] == "table-file"
    used = hook.get_conn().run(record.ref.path).used_artifacts()
    assert [artifact.digest for artifact in used] == [version.digest]


def test_a_failing_gate_is_not_retried_and_has_published_its_verdict_before(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    run, version = log_run({"eval/mrr": 0.4, "loss": math.nan}, "weights")
    rules = [GOOD, MetricRule(metric="loss", maximum=1.0), MetricRule(metric="absent", minimum=0)]
    finished = run_task(gate(rules=rules, run=run.path, candidate=version.path, retries=3))
    assert finished.state == "failed"
    assert isinstance(finished.error, WandbGateFailedError)
    for text in ("eval/mrr = 0.4: must be at least 0.5", "loss is not a finite number", "absent is missing"):
        assert text in str(finished.error)
    assert Verdict.from_json(finished.xcom("wandb_verdict")) == Verdict.from_json(finished.xcom())
    reasons = [outcome["reason"] for outcome in finished.xcom()["outcomes"]]
    assert reasons == ["below_minimum", "metric_not_finite", "metric_missing"]
    record = own_run(hook, finished)
    assert record.state == "failed"
    assert record.summary["gate/passed"] is False
    assert record.summary["gate/failed_rules"] == 3


def test_in_skip_mode_everything_downstream_but_teardowns_is_skipped_and_the_verdict_is_kept(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    run, version = log_run({"eval/mrr": 0.4}, "weights")
    operator = gate(rules=[GOOD], run=run.path, candidate=version.path, mode="skip")
    promote, deploy, close = (
        BaseOperator(task_id=name, dag=operator.dag) for name in ("promote", "deploy", "close")
    )
    operator >> promote >> deploy >> close.as_teardown()
    finished = run_task(operator)
    assert finished.state == "success"
    assert finished.skipped == ["deploy", "promote"]
    assert finished.xcom()["passed"] is False
    assert own_run(hook, finished).state == "finished"


def test_in_skip_mode_a_good_candidate_skips_nothing(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    run, version = log_run({"eval/mrr": 0.6}, "weights")
    operator = gate(rules=[GOOD], run=run.path, candidate=version.path, mode="skip")
    operator >> BaseOperator(task_id="promote", dag=operator.dag)
    finished = run_task(operator)
    assert (finished.state, finished.skipped) == ("success", [])


@pytest.mark.parametrize(("mrr", "skipped"), [(0.6, "alert"), (0.4, "promote")])
def test_in_branch_mode_the_other_side_is_skipped(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any], mrr: float, skipped: str
) -> None:
    run, version = log_run({"eval/mrr": mrr}, "weights")
    operator = gate(
        rules=[GOOD],
        run=run.path,
        candidate=version.path,
        mode="branch",
        on_pass="promote",
        on_fail=["alert"],
    )
    operator >> [BaseOperator(task_id=name, dag=operator.dag) for name in ("promote", "alert")]
    finished = run_task(operator)
    assert (finished.state, finished.skipped) == ("success", [skipped])
    assert finished.xcom()["passed"] is (mrr > 0.5)


def test_a_templated_threshold_and_candidate_by_name_are_understood(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    run, version = log_run({"eval/mrr": 0.6}, "weights")
    with DAG("weekly", schedule=None, params={"least": 0.65}):
        operator = WandbMetricGateOperator(
            task_id="gate",
            rules=[{"metric": "eval/mrr", "minimum": "{{ params.least }}"}],
            run=json.dumps(run.to_json()),
            candidate="encoder:latest",
        )
    finished = run_task(operator)
    assert finished.state == "failed"
    assert "must be at least 0.65" in str(finished.error)
    assert finished.xcom()["candidate"]["path"] == version.path


def test_a_run_that_failed_is_not_judged(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    run, version = log_run({"eval/mrr": 0.6}, "weights", exit_code=1)
    finished = run_task(gate(rules=[GOOD], run=run.path, candidate=version.path))
    assert isinstance(finished.error, WandbGateFailedError)
    assert "'failed'" in str(finished.error)
    assert finished.xcom() is None


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"run": None}, WandbConfigurationError, "wandb_run"),
        ({"run": "eval1"}, WandbConfigurationError, "eval1"),
        ({"candidate": None}, WandbConfigurationError, "candidate"),
        ({"candidate": {"name": "x"}}, WandbConfigurationError, "lacks"),
        ({"candidate": "{not json"}, WandbConfigurationError, "JSON"),
        ({"candidate": "a b:v0"}, WandbConfigurationError, "a b"),
        ({"rules": "{{ [] | tojson }}"}, WandbConfigurationError, "at least one"),
        ({"baseline_registry": "a b", "baseline_collection": "c"}, WandbConfigurationError, "a b"),
    ],
)
def test_a_wrong_argument_fails_before_anything_is_sent(
    server: Any,
    hook: WandbHook,
    run_task: Callable[..., Any],
    changes: dict[str, Any],
    error: type[Exception],
    says: str,
) -> None:
    before = len(server.requests())
    arguments = {"rules": [GOOD], "run": "local/p/run1", "candidate": "local/p/x:v0", **changes}
    finished = run_task(gate(**arguments, retries=2))
    assert finished.state == "failed"
    assert isinstance(finished.error, error)
    assert says in str(finished.error)
    assert len(server.requests()) == before


def test_a_run_or_version_that_does_not_exist_is_named(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any], unique: str
) -> None:
    run, _ = log_run({"eval/mrr": 0.6}, "weights")
    absent = run_task(gate(rules=[GOOD], run=f"local/{unique}/nothing", candidate="encoder:v0"))
    assert isinstance(absent.error, WandbNotFoundError)
    assert "nothing" in str(absent.error)
    absent = run_task(gate(rules=[GOOD], run=run.path, candidate="encoder:staging"))
    assert isinstance(absent.error, WandbNotFoundError)
    assert "encoder:staging" in str(absent.error)


def test_a_reference_whose_digest_is_not_w_and_bs_is_refused(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any]
) -> None:
    run, version = log_run({"eval/mrr": 0.6}, "weights")
    forged = version.to_json() | {"digest": "f" * 32}
    finished = run_task(gate(rules=[GOOD], run=run.path, candidate=forged))
    assert isinstance(finished.error, WandbGateFailedError)
    assert version.digest in str(finished.error)


@pytest.mark.parametrize(
    "arguments",
    [
        {"rules": []},
        {"rules": [{"metric": "m"}]},
        {"rules": [MetricRule(metric="m", min_change=0)]},
        {"mode": "warn"},
        {"mode": "branch"},
        {"on_pass": "a"},
        {"on_fail": "a"},
        {"baseline_registry": "model"},
    ],
)
def test_a_wrong_gate_is_found_when_the_dag_is_parsed(arguments: dict[str, Any]) -> None:
    with pytest.raises(WandbConfigurationError):
        gate(**{"rules": [GOOD], "run": "e/p/r", "candidate": "m:v0", **arguments})
