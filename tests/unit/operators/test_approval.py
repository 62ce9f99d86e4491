"""What becomes of a person's answer. How Airflow asks is tested on a real one, in tests/system."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, BaseOperator, Param

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.hooks.audit_log import AuditLog
from wandb_airflow_provider.hooks.wandb import WandbHook
from wandb_airflow_provider.operators.approval import WandbApprovalOperator
from wandb_airflow_provider.rules import evaluate

ALICE = {"id": "7", "name": "alice"}
AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def approval(verdict: Any = None, **arguments: Any) -> WandbApprovalOperator:
    with DAG("weekly", schedule=None):
        operator = WandbApprovalOperator(
            task_id="approve",
            verdict=verdict,
            **{
                "subject": "Promote?",
                "registry": "model",
                "collection": "encoder",
                "alias": "production",
                **arguments,
            },
        )
        operator >> BaseOperator(task_id="promote")
    return operator


def answered(option: str, *, by: Any = ALICE, **params: Any) -> dict[str, Any]:
    """What Airflow hands to the task when it goes on."""
    event = {"chosen_options": [option], "params_input": params, "responded_at": AT, "responded_by_user": by}
    return {"event": {**event, "timedout": by is None}}


@pytest.fixture
def verdict(log_run: Callable[..., Any]) -> Any:
    run, version = log_run({"mrr": 0.7}, "weights")
    rules = [{"metric": "mrr", "minimum": 0.5}]
    return evaluate(rules, {"mrr": 0.7}, candidate=version, run=run, evaluated_at=datetime.now(UTC))


def entries(hook: WandbHook, collection: str) -> list[Any]:
    return AuditLog(hook, "model", collection).entries()


def test_an_approval_is_kept_with_the_evaluated_run_and_goes_on(
    hook: WandbHook, verdict: Any, run_task: Callable[..., Any], unique: str
) -> None:
    operator = approval(verdict.to_json(), aliases=["staging", "production"], collection=unique)
    resume = answered("Approve", alias="staging", note="Looks <good>.")
    finished = run_task(operator, resume=resume)
    assert (finished.state, finished.error) == ("success", None), str(finished.error)
    assert finished.skipped == []
    assert finished.xcom("wandb_approval") == {
        "answer": "Approve",
        "by": "alice",
        "at": "2026-03-02T09:30:00+00:00",
        "params": {"alias": "staging", "note": "Looks <good>."},
    }
    assert finished.xcom()["chosen_options"] == ["Approve"]
    summary = hook.get_run(verdict.run).summary
    assert summary["gate/approval"] == "Approve"
    assert summary["gate/approval_by"] == "alice"
    assert summary["gate/approval_note"] == "Looks <good>."
    (entry,) = entries(hook, unique)
    assert (entry.kind, entry.event, entry.why, entry.note) == ("approval", "approved", None, "Looks <good>.")
    assert (entry.target.alias, entry.approval["by"], entry.after.digest) == (
        "staging",
        "alice",
        verdict.digest,
    )


def test_a_rejection_skips_the_promotion_and_is_in_the_audit_with_its_reason(
    hook: WandbHook, verdict: Any, run_task: Callable[..., Any], unique: str
) -> None:
    operator = approval(verdict.to_json(), collection=unique, outlets=[Asset("decisions")])
    finished = run_task(operator, resume=answered("Reject", note="Not on a Friday."))
    assert (finished.state, finished.skipped) == ("success", ["promote"])
    (event,) = finished.outlet_events
    told = event["extra"]["wandb_decision"]
    assert (told["kind"], told["event"], told["approval"]["by"]) == ("approval", "refused", "alice")
    assert finished.xcom("wandb_approval")["answer"] == "Reject"
    assert hook.get_run(verdict.run).summary["gate/approval"] == "Reject"
    (entry,) = entries(hook, unique)
    assert (entry.kind, entry.event, entry.why) == ("approval", "refused", "Rejected by alice.")
    assert (entry.note, entry.approval["by"], entry.after.digest) == (
        "Not on a Friday.",
        "alice",
        verdict.digest,
    )
    assert entry.task.task_id == "approve"


@pytest.mark.parametrize(
    ("resume", "answer", "state"),
    [
        (answered("Reject", by=None), "Reject", "success"),
        ({"event": {"error": "Timed out.", "error_type": "timeout"}}, "timeout", "up_for_retry"),
    ],
)
def test_no_answer_in_time_is_no_approval_whether_it_skips_or_fails(
    hook: WandbHook,
    verdict: Any,
    run_task: Callable[..., Any],
    unique: str,
    resume: dict[str, Any],
    answer: str,
    state: str,
) -> None:
    operator = approval(verdict.to_json(), collection=unique, response_timeout=timedelta(hours=1))
    finished = run_task(operator, resume=resume)
    assert finished.state == state
    assert (finished.xcom("wandb_approval")["answer"], finished.xcom("wandb_approval")["by"]) == (
        answer,
        None,
    )
    (entry,) = entries(hook, unique)
    assert (entry.event, entry.why) == ("refused", "Nobody answered in time.")


def test_consent_by_nobody_is_in_the_audit_as_such(
    hook: WandbHook, verdict: Any, run_task: Callable[..., Any], unique: str
) -> None:
    operator = approval(
        verdict.to_json(), collection=unique, defaults="Approve", response_timeout=timedelta(hours=1)
    )
    assert run_task(operator, resume=answered("Approve", by=None)).state == "success"
    (entry,) = entries(hook, unique)
    assert (entry.event, entry.approval["by"], entry.why) == ("approved", None, "Nobody answered in time.")


def test_an_answer_stands_when_weights_and_biases_is_away(
    hook: WandbHook, verdict: Any, run_task: Callable[..., Any], connect: Callable[..., None], server: Any
) -> None:
    connect(server, password="0" * 40)
    finished = run_task(approval(verdict.to_json()), resume=answered("Approve"))
    assert (finished.state, finished.error) == ("success", None), str(finished.error)
    assert finished.xcom("wandb_approval")["answer"] == "Approve"


def test_an_answer_that_airflow_refuses_is_not_kept(
    hook: WandbHook, verdict: Any, run_task: Callable[..., Any]
) -> None:
    finished = run_task(
        approval(verdict.to_json(), aliases=["production"]),
        resume=answered("Approve", alias="elsewhere", note=""),
    )
    assert finished.state == "up_for_retry"
    assert finished.xcom("wandb_approval") is None
    assert "gate/approval" not in hook.get_run(verdict.run).summary


@pytest.mark.parametrize(
    "arguments",
    [
        {"on_timeout": "ask again"},
        {"on_timeout": "skip"},
        {"on_timeout": "skip", "response_timeout": timedelta(hours=1), "defaults": "Approve"},
        {"aliases": ["staging"]},
        {"aliases": ["production", "v3"]},
    ],
)
def test_a_wrong_approval_is_found_when_the_dag_is_parsed(arguments: dict[str, Any]) -> None:
    with pytest.raises(WandbConfigurationError):
        approval({}, **arguments)


def test_a_timeout_that_skips_is_airflows_own_default_answer() -> None:
    operator = approval({}, on_timeout="skip", response_timeout=timedelta(hours=1))
    assert operator.defaults == ["Reject"]
    assert approval({}, response_timeout=timedelta(hours=1)).defaults is None
    assert list(operator.params) == ["note"]
    assert list(approval({}, aliases=["production"], ask_note=False).params) == ["alias"]


def test_the_form_asks_for_the_tasks_own_params_and_not_for_the_dags() -> None:
    with DAG("weekly", schedule=None, params={"seed": 1}):
        operator = WandbApprovalOperator(
            task_id="approve",
            verdict=None,
            subject="Promote?",
            registry="model",
            collection="encoder",
            alias="production",
            params={"ticket": Param("", type="string")},
        )
    assert sorted(operator.params) == ["note", "ticket"]
    assert operator.serialized_params["ticket"]["schema"] == {"type": "string"}
