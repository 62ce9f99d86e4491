"""The tasks that ``wandb_quality_gate`` adds, their order, and what passes between them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import jinja2
import pytest
from airflow.sdk import DAG, Asset, BaseOperator

from wandb_airflow_provider.exceptions import WandbConfigurationError
from wandb_airflow_provider.quality_gate import QualityGate, wandb_quality_gate

RULES = [{"metric": "mrr", "minimum": 0.5}]
SILENCE = {"defaults": "Approve", "response_timeout": timedelta(days=1)}
NO_BASELINE = {"baseline_registry": None, "baseline_collection": None}


def build(**arguments: Any) -> QualityGate:
    with DAG("weekly", schedule=None):
        return wandb_quality_gate(
            **{
                "rules": RULES,
                "run": "e/p/r",
                "candidate": "m:v0",
                "registry": "model",
                "collection": "encoder",
                **arguments,
            }
        )


def order(quality: QualityGate) -> list[str]:
    return [task.task_id for task in quality.gate.dag.topological_sort()]


def body(approve: Any, pushed: dict[str, Any]) -> str:
    """Render what the approver reads."""

    class Instance:
        def xcom_pull(self, task_ids: str) -> Any:
            return pushed[task_ids]

    return jinja2.Template(approve.body).render(ti=Instance())


def test_gate_report_approval_and_promotion_come_one_after_the_other() -> None:
    quality = build()
    assert order(quality) == [f"quality_gate.{name}" for name in ("gate", "report", "approve", "promote")]
    assert quality.gate.mode == "skip"
    assert (quality.gate.baseline_registry, quality.gate.baseline_collection) == ("model", "encoder")
    assert quality.promote.needs_approval
    assert quality.approve.subject == "Promote the candidate to model/encoder:production?"
    assert body(quality.approve, {"quality_gate.report": "**Passed**"}) == "**Passed**"


def test_without_report_and_approval_the_promotion_follows_the_gate() -> None:
    quality = build(report=False, approval=False)
    assert order(quality) == ["quality_gate.gate", "quality_gate.promote"]
    assert (quality.report, quality.approve, quality.promote.needs_approval) == (None, None, False)


def test_without_a_report_the_approver_reads_the_summary_of_the_verdict() -> None:
    quality = build(report=False)
    assert body(quality.approve, {"quality_gate.gate": {"summary": "m:v0 passed"}}) == "m:v0 passed"


def test_another_report_takes_the_place_of_the_verdict() -> None:
    gates = []

    def report(gate: Any) -> BaseOperator:
        gates.append(gate)
        return BaseOperator(task_id="own_report")

    quality = build(report=report, approval={"subject": "Really?", "fail_on_reject": True})
    assert gates == [quality.gate]
    assert order(quality)[1:3] == ["quality_gate.own_report", "quality_gate.approve"]
    assert (quality.approve.subject, quality.approve.fail_on_reject) == ("Really?", True)
    assert body(quality.approve, {"quality_gate.own_report": {"markdown": "# Report"}}) == "# Report"


def test_further_arguments_reach_gate_and_promotion() -> None:
    quality = build(
        group_id="staging",
        alias="staging",
        mode="fail",
        gate_arguments={"baseline_alias": "production", "retries": 4},
        promote_arguments={"pool": "promotions"},
    )
    assert (quality.gate.task_id, quality.gate.mode, quality.gate.retries) == ("staging.gate", "fail", 4)
    assert (quality.gate.baseline_alias, quality.promote.alias) == ("production", "staging")
    assert quality.promote.pool == "promotions"
    assert quality.verdict.operator is quality.gate
    assert quality.promotion.operator is quality.promote
    meant = build(approval=SILENCE, promote_arguments={"allow_default_approval": True})
    assert meant.approve.defaults == ["Approve"]
    assert build(gate_arguments=NO_BASELINE, promote_arguments={"audited_verdict": False}).promote is not None


def test_the_promotion_insists_on_the_holder_that_the_gate_compared_with_if_it_is_that_alias_s() -> None:
    assert build().promote.expected_holder == "verdict"
    assert build(approval={"aliases": ["production", "staging"]}).promote.expected_holder is None
    assert build(gate_arguments={"baseline_alias": "staging"}).promote.expected_holder is None
    assert build(promote_arguments={"expected_holder": "v3"}).promote.expected_holder == "v3"


def test_every_deciding_task_tells_the_outlets_and_ids_may_do_without_the_group() -> None:
    decisions = Asset("decisions")
    quality = build(outlets=[decisions], prefix_group_id=False)
    assert [task.outlets for task in (quality.gate, quality.approve, quality.promote)] == [[decisions]] * 3
    assert order(quality) == ["gate", "report", "approve", "promote"]
    assert body(quality.approve, {"report": "**Passed**"}) == "**Passed**"


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "branch"},
        {"report": "yes"},
        {"report": lambda gate: "done"},
        {"rules": []},
        {"approval": SILENCE},
        {"gate_arguments": NO_BASELINE},
    ],
)
def test_a_wrong_quality_gate_is_found_when_the_dag_is_parsed(arguments: dict[str, Any]) -> None:
    with pytest.raises(WandbConfigurationError):
        build(**arguments)
