from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, BaseOperator

from wandb_airflow_provider.exceptions import (
    WandbConfigurationError,
    WandbGateFailedError,
    WandbNotFoundError,
    WandbUnavailableError,
)
from wandb_airflow_provider.hooks.audit_log import AuditLog
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef
from wandb_airflow_provider.operators.gate import WandbMetricGateOperator
from wandb_airflow_provider.promotion import PromotionRecord, TaskMark
from wandb_airflow_provider.registry import RegistryAlias
from wandb_airflow_provider.rules import MetricRule, Verdict, evaluate

GOOD = MetricRule(metric="eval/mrr", minimum=0.5)


def gate(**arguments: Any) -> WandbMetricGateOperator:
    with DAG("weekly", schedule=None):
        return WandbMetricGateOperator(task_id="gate", **arguments)


def own_run(hook: WandbHook, finished: Any) -> Any:
    return hook.get_run(RunRef.from_json(finished.xcom("wandb_run")))


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


def test_a_gate_writes_its_verdict_or_why_there_is_none_to_the_audit_and_the_asset_events(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any], unique: str
) -> None:
    def judge(run: Any, version: Any, **arguments: Any) -> Any:
        operator = gate(
            rules=[GOOD],
            run=run.to_json(),
            candidate=version.to_json(),
            baseline_registry="model",
            baseline_collection=unique,
            outlets=[Asset("decisions")],
            **arguments,
        )
        return run_task(operator)

    run, version = log_run({"eval/mrr": 0.6}, "weights")
    weak, worse = log_run({"eval/mrr": 0.4}, "other weights")
    broken, _ = log_run({"eval/mrr": 0.6}, exit_code=1)
    passed = judge(run, version)
    verdict = passed.xcom()
    stopped = judge(weak, worse, mode="skip")
    failed = judge(weak, worse)
    refused = judge(broken, version)
    lost = judge(RunRef("local", unique, "nothing"), version)
    assert [one.state for one in (passed, stopped, failed, refused, lost)] == [
        "success",
        "success",
        "failed",
        "failed",
        "failed",
    ]
    assert isinstance(lost.error, WandbNotFoundError)
    # Airflow sends no event for a task that fails.
    told = [event["extra"]["wandb_decision"] for one in (passed, stopped) for event in one.outlet_events]
    assert [(one["kind"], one["event"], one["after"]["digest"]) for one in told] == [
        ("verdict", "passed", version.digest),
        ("verdict", "stopped", worse.digest),
    ]
    entries = AuditLog(hook, "model", unique).entries()
    assert [(entry.kind, entry.event) for entry in entries] == [
        ("verdict", "passed"),
        ("verdict", "stopped"),
        ("verdict", "stopped"),
        ("verdict", "refused"),
        ("verdict", "refused"),
    ]
    assert entries[0].verdict == verdict
    assert "eval/mrr = 0.4: must be at least 0.5" in entries[1].why
    assert "is 'failed', not 'finished'" in entries[3].why
    assert entries[3].verdict is None
    assert entries[3].after.digest == version.digest
    assert "nothing" in entries[4].why
    assert (entries[4].verdict, entries[4].after.digest) == (None, version.digest)


@pytest.mark.parametrize(
    ("mode", "skipped"), [("fail", []), ("skip", ["alert", "promote"]), ("branch", ["promote"])]
)
def test_a_verdict_is_in_the_audit_before_anyone_can_read_it_from_xcom(
    hook: WandbHook,
    log_run: Callable[..., Any],
    run_task: Callable[..., Any],
    supervisor: Any,
    monkeypatch: pytest.MonkeyPatch,
    unique: str,
    mode: Any,
    skipped: list[str],
) -> None:
    run, version = log_run({"eval/mrr": 0.4}, "weights")
    sides: dict[str, Any] = {"on_pass": "promote", "on_fail": "alert"} if mode == "branch" else {}

    def judge() -> Any:
        operator = gate(
            rules=[GOOD],
            run=run.path,
            candidate=version.path,
            baseline_registry="model",
            baseline_collection=unique,
            mode=mode,
            retries=1,
            **sides,
        )
        operator >> [BaseOperator(task_id=name, dag=operator.dag) for name in ("promote", "alert")]
        return run_task(operator)

    done: list[str] = []
    append, send = AuditLog.append, supervisor.send

    def is_unavailable(audit: Any, entry: Any) -> Any:
        raise WandbUnavailableError("the line went down")

    def appended(audit: Any, entry: Any) -> Any:
        written = append(audit, entry)
        done.append(f"audit:{written.event}")
        return written

    def sent(msg: Any) -> Any:
        if type(msg).__name__ == "SetXCom":
            done.append(msg.key)
        return send(msg)

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "append", is_unavailable)
        lost = judge()
    assert (lost.state, lost.skipped) == ("up_for_retry", [])
    assert (lost.xcom(), lost.xcom("wandb_verdict")) == (None, None)
    monkeypatch.setattr(AuditLog, "append", appended)
    monkeypatch.setattr(supervisor, "send", sent)
    written = judge()
    assert (written.state, written.skipped) == ("failed" if mode == "fail" else "success", skipped)
    begin = done.index("audit:stopped")
    assert done[begin + 1 : begin + 3] == ["wandb_verdict", "return_value"]
    assert not {"wandb_verdict", "return_value"} & set(done[:begin])
    (entry,) = AuditLog(hook, "model", unique).entries()
    assert entry.verdict == written.xcom()


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


@pytest.fixture
def tick(server: Any) -> Iterator[Callable[[], None]]:
    """``tick()`` moves W&B's clock on, which tells the beginnings of runs to the second."""
    yield lambda: server.clock.advance(2)
    server.clock.reset()


def test_the_last_good_runs_are_evaluated_ones_and_not_those_of_the_gates(
    hook: WandbHook, log_run: Callable[..., Any], run_task: Callable[..., Any], tick: Callable[[], None]
) -> None:
    """Runs without a job type are compared with all of the project, among which are those of the gates."""
    rolling = {"metric": "eval/mrr", "min_change": 0, "last_good": 2, "when_no_baseline": "pass"}
    for mrr, baseline, runs in ((0.6, None, None), (0.7, 0.6, 1), (0.8, 0.65, 2)):
        tick()
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
