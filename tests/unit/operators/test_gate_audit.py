"""The gate's verdict is in the audit, and there before anyone can read it from XCom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import Asset, BaseOperator

from tests.unit.operators.conftest import GOOD, gate
from wandb_airflow_provider.exceptions import WandbNotFoundError, WandbUnavailableError
from wandb_airflow_provider.hooks.audit_log import AuditLog
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.identity import RunRef


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
